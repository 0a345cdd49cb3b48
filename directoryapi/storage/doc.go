// Package storage is the directory-api's database: one SQL text for SQLite and
// PostgreSQL, a file per table, each exported method one transaction but for
// those that take a Tx.
//
// It decides nothing. Tables: aliases, published, upgrades, rooms, memberships,
// annotations, guest_rooms, positions. Every method is safe for concurrent use.
package storage
