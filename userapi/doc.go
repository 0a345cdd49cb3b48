// Package userapi is the user-api role: it decides who somebody is and keeps
// what belongs to users. It owns the tables of userapi/storage, in a database
// opened as durable.
//
// It reads user.activity (devices' last use, presence) and writes user.output
// and ephemeral. Each change that others see takes the next Seq of the user's
// partition of user.output and a row of the outbox, in the transaction that
// makes the change; who has the lease of a partition publishes its rows in their
// order, and keeps the presence of its users. A row is kept for some minutes
// after it was published, so that a topic that lost its end gets it again; one
// that lost more is told so (ChangeResync) and gets all current rows.
// Transactions that make or end sessions take turns by the account's row.
//
// It asks nobody. Access tokens that were used lately are known in memory, and
// forgotten when a session ends; typing is in memory only. All methods are safe
// for concurrent use.
package userapi
