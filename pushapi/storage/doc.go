// Package storage is the push-server's database: what is new for pushers, and how
// far room.output has been judged. All of it may be lost but for notifications that
// nobody then gets: who has pushers is the user-api's to know.
//
// Exported methods are transactions; those that take a Tx belong to one of the
// caller's.
package storage
