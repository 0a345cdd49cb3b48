package sqldb

import (
	"context"
	"fmt"
	"strings"
)

// Kind is what a column holds, on either engine.
type Kind int

// The kinds of columns that migrations use.
const (
	Integer Kind = iota // int64
	Text                // string
	Bytes               // []byte
	Boolean             // bool
)

var kinds = map[string]Kind{
	"BIGINT": Integer, "INTEGER": Integer, "INT": Integer, "TEXT": Text, "BYTEA": Bytes, "BLOB": Bytes, "BOOLEAN": Boolean,
}

// Column is a column of a table.
type Column struct {
	Name string
	Kind Kind
}

// Table is a table as the database describes it: what tools need that copy or
// compare whatever there is.
type Table struct {
	Name    string
	Columns []Column
	// Key holds the names of the primary key's columns, in its order.
	Key []string
}

// What the engines' catalogues say of the tables of the current schema, and of
// a table's columns: name, type, place in the primary key (0: not in it).
const (
	sqliteTables   = `SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite~_%' ESCAPE '~' ORDER BY name`
	sqliteColumns  = `SELECT name, type, pk FROM pragma_table_info($1) ORDER BY cid`
	postgresTables = `SELECT tablename FROM pg_catalog.pg_tables t WHERE schemaname = current_schema() AND NOT EXISTS (
		SELECT 1 FROM pg_catalog.pg_attribute a WHERE a.attrelid = (quote_ident(t.schemaname) || '.' || quote_ident(t.tablename))::regclass
		AND a.atttypid = 'tsvector'::regtype AND a.attnum > 0 AND NOT a.attisdropped) ORDER BY tablename`
	postgresColumn = `SELECT a.attname, pg_catalog.format_type(a.atttypid, NULL), COALESCE(array_position(i.indkey::int2[], a.attnum), -1) + 1
		FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
		LEFT JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisprimary
		WHERE c.relname = $1 AND c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
		ORDER BY a.attnum`
)

// Tables describes the tables there are, by name; not those of the engine, nor
// tables of terms (fulltext.go), which are made of others.
func (db *DB) Tables(ctx context.Context) ([]Table, error) {
	var out []Table
	err := db.Read(ctx, func(tx *Tx) error {
		names, err := tx.tableNames(ctx)
		if err != nil {
			return err
		}
		out = make([]Table, len(names))
		for i, name := range names {
			if out[i], err = tx.table(ctx, name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("sqldb: tables: %w", err)
	}
	return out, nil
}

func (tx *Tx) tableNames(ctx context.Context) ([]string, error) {
	text := sqliteTables
	if tx.engine == enginePostgres {
		text = postgresTables
	}
	rows, err := tx.Query(ctx, text)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		out = append(out, name)
	}
	return out, rows.Err()
}

func (tx *Tx) table(ctx context.Context, name string) (Table, error) {
	text, t := sqliteColumns, Table{Name: name}
	if tx.engine == enginePostgres {
		text = postgresColumn
	}
	rows, err := tx.Query(ctx, text, name)
	if err != nil {
		return t, err
	}
	defer rows.Close()
	key := map[int]string{}
	for rows.Next() {
		var column, typ string
		var place int
		if err := rows.Scan(&column, &typ, &place); err != nil {
			return t, err
		}
		kind, known := kinds[strings.ToUpper(typ)]
		if !known && !strings.HasPrefix(name, "goose_") { // whose columns are nobody's business
			return t, fmt.Errorf("column %s.%s is of type %s", name, column, typ)
		}
		t.Columns = append(t.Columns, Column{column, kind})
		if place > 0 {
			key[place] = column
		}
	}
	for place := 1; place <= len(key); place++ {
		t.Key = append(t.Key, key[place])
	}
	return t, rows.Err()
}
