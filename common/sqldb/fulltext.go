package sqldb

import "strings"

// Full text. A table whose rows are found by terms is made by a migration that
// says, in these words,
//
//	CREATE TABLE t (rowid BIGINT PRIMARY KEY, c TSVECTOR NOT NULL);
//	CREATE INDEX t_c ON t USING gin (c);
//
// which on SQLite is an FTS5 table that keeps no text. Rows are put there by
// "INSERT INTO t (rowid, c) VALUES ($1, " + db.Terms("$2") + ")" with the terms,
// joined by spaces, as the second argument; they are deleted by rowid, and never
// changed. Terms hold ASCII letters, digits and whatever is not ASCII, but no
// spaces; what a term is of which text is the caller's business, so that both
// engines find the same.

// Term is what rows are found by.
type Term struct {
	Text string
	// Begins says that a row's term need only begin so.
	Begins bool
}

// Terms is the text for terms, joined by spaces, in a placeholder.
func (db *DB) Terms(placeholder string) string {
	if db.engine == enginePostgres {
		return "array_to_tsvector(string_to_array(" + placeholder + ", ' '))"
	}
	return placeholder
}

// FindTerms is the query for the rowids of a table of terms that fulfil a TermQuery
// and are below a number, the highest first, at most so many; all three are given as
// placeholders. PostgreSQL must not think of reading the rows in that order until it
// has as many: where few fulfil the query, that is all rows.
func (db *DB) FindTerms(table, column, query, below, limit string) string {
	if db.engine == enginePostgres {
		return "SELECT rowid FROM " + table + " WHERE " + column + " @@ CAST(" + query + " AS TSQUERY) AND rowid + 0 < CAST(" + below +
			" AS BIGINT) ORDER BY rowid + 0 DESC LIMIT " + limit
	}
	return "SELECT rowid FROM " + table + " WHERE " + table + " MATCH " + query + " AND rowid < " + below + " ORDER BY rowid DESC LIMIT " + limit
}

// TermQuery is the argument for FindTerms: of each list a row has at least one term.
// There must be a list, and none may be empty.
func (db *DB) TermQuery(all [][]Term) string {
	quote, and, or, begins := `"`, " AND ", " OR ", " *"
	if db.engine == enginePostgres {
		quote, and, or, begins = "'", " & ", " | ", ":*"
	}
	var b strings.Builder
	for i, list := range all {
		if i > 0 {
			b.WriteString(and)
		}
		b.WriteByte('(')
		for n, t := range list {
			if n > 0 {
				b.WriteString(or)
			}
			b.WriteString(quote + t.Text + quote)
			if t.Begins {
				b.WriteString(begins)
			}
		}
		b.WriteByte(')')
	}
	return b.String()
}
