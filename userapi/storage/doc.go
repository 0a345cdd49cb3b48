// Package storage is the user-api's database: accounts, sessions, profiles,
// keys, messages to devices, key backups, account data, filters, receipts, presence and the outbox of user.output. Its
// tables are those of migrations; nobody else touches them.
//
// Every method is safe for concurrent use. Those that take a *sqldb.Tx run in
// the caller's transaction.
package storage
