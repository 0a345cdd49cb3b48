package sqldb

// Now is the text of an expression: the time of the statement by the
// database's clock, in milliseconds since 1970. What instances compare with
// each other is measured by it, never by their own clocks.
func (db *DB) Now() string {
	if db.engine == enginePostgres {
		return "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"
	}
	return "CAST(unixepoch('subsec') * 1000 AS BIGINT)"
}

// Keep is the text behind a SELECT that keeps the rows it found from being
// deleted until the transaction ends; SQLite, where one writes at a time, needs
// none.
func (db *DB) Keep() string { return db.behind(" FOR KEY SHARE") }

// Lock is the text behind a SELECT that locks the rows it found, in its order, for
// an UPDATE. What updates many rows of a table that other transactions update too
// chooses them by such a SELECT: transactions that lock rows in one order wait for
// each other, those that do not until PostgreSQL ends one of them, a second later.
// SQLite, where one writes at a time, needs none.
func (db *DB) Lock() string { return db.behind(" FOR NO KEY UPDATE") }

// LockFree is Lock that passes over the rows which other transactions have locked:
// for work that waits for whoever takes it.
func (db *DB) LockFree() string { return db.behind(" FOR NO KEY UPDATE SKIP LOCKED") }

// behind is what only PostgreSQL has behind a SELECT.
func (db *DB) behind(clause string) string {
	if db.engine == enginePostgres {
		return clause
	}
	return ""
}
