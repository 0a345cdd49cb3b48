// Package sqldb opens a component's database, SQLite or PostgreSQL, so that one
// SQL text serves both: placeholders $1, $2, … in ascending order, ON CONFLICT,
// RETURNING, JSON functions; lists by DB.Any and List. Column types are those of
// PostgreSQL (BIGINT, TEXT, BYTEA, BOOLEAN), whose names SQLite takes too;
// numbers of rows are given by the components, never by the engine.
//
// It decides nothing about what is stored and owns no table but the ones in which goose counts versions:
// goose_<component>, and maintenance_mark while a tool keeps servers away (Mark). A DB is safe for concurrent use, a Tx is not. Write
// transactions on SQLite queue for the one writing connection; a transaction
// never needs a second connection, on either engine.
package sqldb
