// Package storage is the user-api's database: accounts, sessions, profiles,
// account data, filters, receipts, presence and the outbox of user.output. Its
// tables are those of migrations/00001_users.sql; nobody else touches them.
//
// Every method is safe for concurrent use. Those that take a *sqldb.Tx run in
// the caller's transaction.
package storage
