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
func (db *DB) Keep() string {
	if db.engine == enginePostgres {
		return " FOR KEY SHARE"
	}
	return ""
}
