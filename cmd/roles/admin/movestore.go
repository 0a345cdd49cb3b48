package admin

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// copiedTable says how far each table of a database has been copied into it:
// cursor is the key of the last row, as a JSON array.
const (
	copiedTable  = "maintenance_copied"
	copiedSchema = "CREATE TABLE IF NOT EXISTS " + copiedTable + " (name TEXT PRIMARY KEY, cursor TEXT NOT NULL, done BIGINT NOT NULL)"
)

// Bounds of what is copied in one transaction. An engine takes no more than so
// many arguments in a statement.
const (
	copyRows = 500
	copyArgs = 30_000
)

// tables are those that are copied: not places, which are others in another
// log, nor what belongs to the database itself, nor what is made anew.
func (c *component) tables(ctx context.Context, db *sqldb.DB) ([]sqldb.Table, error) {
	all, err := db.Tables(ctx)
	if c.remade {
		return nil, err
	}
	return slices.DeleteFunc(all, func(t sqldb.Table) bool {
		return strings.HasPrefix(t.Name, "goose_") || strings.HasPrefix(t.Name, "maintenance_") || slices.Contains(c.placeTables, t.Name)
	}), err
}

// copy copies all rows of a store into another whose tables are made. It
// goes on where an earlier call was broken off, and is done once it returns nil.
func (c *component) copy(ctx context.Context, from, to *sqldb.DB) error {
	list, err := c.tables(ctx, from)
	if err != nil {
		return err
	}
	there, err := c.tables(ctx, to)
	if err != nil {
		return err
	}
	for _, t := range list {
		if !slices.ContainsFunc(there, func(o sqldb.Table) bool { return same(t, o) }) {
			return fmt.Errorf("table %s is another one at the target: is this the release that wrote it?", t.Name)
		}
		if err := copyTable(ctx, from, to, t); err != nil {
			return fmt.Errorf("table %s: %w", t.Name, err)
		}
	}
	return nil
}

// same tells whether two tables hold the same; the order of columns does not matter.
func same(a, b sqldb.Table) bool {
	sorted := func(t sqldb.Table) []sqldb.Column {
		return slices.SortedFunc(slices.Values(t.Columns), func(a, b sqldb.Column) int { return strings.Compare(a.Name, b.Name) })
	}
	return a.Name == b.Name && slices.Equal(a.Key, b.Key) && slices.Equal(sorted(a), sorted(b))
}

func copyTable(ctx context.Context, from, to *sqldb.DB, t sqldb.Table) error {
	if len(t.Key) == 0 {
		return errors.New("it has no primary key")
	}
	cursor, done, err := copied(ctx, to, t.Name)
	if err != nil || done {
		return err
	}
	if cursor == "" { // what the migrations or a component put there
		if err := to.Write(ctx, func(tx *sqldb.Tx) error {
			_, err := tx.Exec(ctx, "DELETE FROM "+t.Name)
			return err
		}); err != nil {
			return err
		}
	}
	limit := min(copyRows, copyArgs/len(t.Columns))
	for !done {
		rows, err := readAfter(ctx, from, t, cursor, limit)
		if err != nil {
			return err
		}
		done = len(rows) < limit
		if len(rows) > 0 {
			if cursor, err = cursorOf(t, rows[len(rows)-1]); err != nil {
				return err
			}
		}
		if err := writeRows(ctx, to, t, rows, cursor, done); err != nil {
			return err
		}
	}
	return nil
}

// copied returns how far a table has been copied.
func copied(ctx context.Context, to *sqldb.DB, name string) (cursor string, done bool, err error) {
	var flag int64
	err = to.ReadOne(ctx, func(tx *sqldb.Tx) error {
		return tx.QueryRow(ctx, "SELECT cursor, done FROM "+copiedTable+" WHERE name = $1", name).Scan(&cursor, &flag)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return "", false, nil
	}
	return cursor, flag == 1, err
}

// wholeStore stands in copiedTable for the store: copied, compared and changed
// as planned.
const wholeStore = "(all)"

// transfer copies a store, compares it and changes it as planned; what an
// earlier call has done is not done again. It returns the number of rows.
func (c *component) transfer(ctx context.Context, from, to *sqldb.DB, p plan) (rows string, err error) {
	if err := to.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Script(ctx, copiedSchema)
		return err
	}); err != nil {
		return "", err
	}
	rows, done, err := copied(ctx, to, wholeStore)
	if err != nil || done {
		return rows, err
	}
	if err := c.copy(ctx, from, to); err != nil {
		return "", err
	}
	n, err := c.compare(ctx, from, to)
	if err != nil {
		return "", err
	}
	rows = strconv.FormatUint(n, 10)
	return rows, to.Write(ctx, func(tx *sqldb.Tx) error {
		if p.partitions > 0 && c.repartition != nil {
			if err := c.repartition(ctx, tx, p); err != nil {
				return err
			}
		}
		return putCopied(ctx, tx, wholeStore, rows, true)
	})
}

func putCopied(ctx context.Context, tx *sqldb.Tx, name, cursor string, done bool) error {
	flag := 0
	if done {
		flag = 1
	}
	_, err := tx.Exec(ctx, "INSERT INTO "+copiedTable+" (name, cursor, done) VALUES ($1, $2, $3) "+
		"ON CONFLICT (name) DO UPDATE SET cursor = excluded.cursor, done = excluded.done", name, cursor, flag)
	return err
}

// field is a value of a row; it can be scanned into and is an argument.
type field interface{ hash(h []byte) []byte }

type (
	integer struct{ sql.Null[int64] }
	text    struct{ sql.Null[string] }
	data    struct{ sql.Null[[]byte] }
	boolean struct{ sql.Null[bool] }
)

func newRow(t sqldb.Table) []any {
	row := make([]any, len(t.Columns))
	for i, c := range t.Columns {
		switch c.Kind {
		case sqldb.Integer:
			row[i] = &integer{}
		case sqldb.Text:
			row[i] = &text{}
		case sqldb.Bytes:
			row[i] = &data{}
		case sqldb.Boolean:
			row[i] = &boolean{}
		}
	}
	return row
}

// Scan keeps an empty value from being taken for none.
func (d *data) Scan(value any) error {
	err := d.Null.Scan(value)
	if d.Valid && d.V == nil {
		d.V = []byte{}
	}
	return err
}

func columnNames(t sqldb.Table) string {
	names := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		names[i] = c.Name
	}
	return strings.Join(names, ", ")
}

// placeholders is "$from, …" for n arguments.
func placeholders(from, n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString("$" + strconv.Itoa(from+i))
	}
	return b.String()
}

// readAfter reads rows in the order of their key, after the one of the cursor.
func readAfter(ctx context.Context, db *sqldb.DB, t sqldb.Table, cursor string, limit int) ([][]any, error) {
	key := strings.Join(t.Key, ", ")
	query, args := "SELECT "+columnNames(t)+" FROM "+t.Name, []any(nil)
	if cursor != "" {
		var err error
		if args, err = cursorArgs(t, cursor); err != nil {
			return nil, err
		}
		query += " WHERE (" + key + ") > (" + placeholders(1, len(t.Key)) + ")"
	}
	query += " ORDER BY " + key + " LIMIT " + strconv.Itoa(limit)
	var out [][]any
	err := db.Read(ctx, func(tx *sqldb.Tx) error {
		out = nil
		return scanRows(ctx, tx, t, func(row []any) error { out = append(out, row); return nil }, query, args...)
	})
	return out, err
}

func scanRows(ctx context.Context, tx *sqldb.Tx, t sqldb.Table, f func([]any) error, query string, args ...any) error {
	rows, err := tx.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		row := newRow(t)
		if err := rows.Scan(row...); err != nil {
			return err
		}
		if err := f(row); err != nil {
			return err
		}
	}
	return rows.Err()
}

// writeRows writes rows, and how far the table is copied with them.
func writeRows(ctx context.Context, to *sqldb.DB, t sqldb.Table, rows [][]any, cursor string, done bool) error {
	var args []any
	values := make([]string, len(rows))
	for n, row := range rows {
		values[n] = "(" + placeholders(n*len(row)+1, len(row)) + ")"
		args = append(args, row...)
	}
	return to.Write(ctx, func(tx *sqldb.Tx) error {
		if len(rows) > 0 {
			if _, err := tx.Exec(ctx, "INSERT INTO "+t.Name+" ("+columnNames(t)+") VALUES "+strings.Join(values, ", "), args...); err != nil {
				return err
			}
		}
		return putCopied(ctx, tx, t.Name, cursor, done)
	})
}

// cursorOf is the key of a row.
func cursorOf(t sqldb.Table, row []any) (string, error) {
	var key []any
	for _, name := range t.Key {
		switch v := row[slices.IndexFunc(t.Columns, func(c sqldb.Column) bool { return c.Name == name })].(type) {
		case *integer:
			key = append(key, v.V)
		case *text:
			key = append(key, v.V)
		default:
			return "", fmt.Errorf("column %s cannot be part of a key here", name)
		}
	}
	out, err := json.Marshal(key)
	return string(out), err
}

func cursorArgs(t sqldb.Table, cursor string) ([]any, error) {
	var values []jsontext.Value
	if err := json.Unmarshal([]byte(cursor), &values); err != nil {
		return nil, err
	}
	args := make([]any, len(values))
	for n, v := range values {
		if v.Kind() == '"' {
			var s string
			if err := json.Unmarshal(v, &s); err != nil {
				return nil, err
			}
			args[n] = &text{sql.Null[string]{V: s, Valid: true}} // as it is stored: see sqldb's texts
			continue
		}
		i, err := strconv.ParseInt(string(v), 10, 64)
		if err != nil {
			return nil, err
		}
		args[n] = i
	}
	return args, nil
}

// sum is a count of rows and a checksum that does not depend on their order.
type sum struct{ rows, hash uint64 }

func (s *sum) add(row []any) {
	var buf []byte
	for _, v := range row {
		buf = v.(field).hash(buf)
	}
	h := sha256.Sum256(buf)
	s.rows++
	s.hash += binary.LittleEndian.Uint64(h[:])
}

func hashed(buf []byte, valid bool, value string) []byte {
	if !valid {
		return append(buf, 0)
	}
	buf = binary.AppendUvarint(append(buf, 1), uint64(len(value)))
	return append(buf, value...)
}

func (v *integer) hash(b []byte) []byte { return hashed(b, v.Valid, strconv.FormatInt(v.V, 10)) }
func (v *text) hash(b []byte) []byte    { return hashed(b, v.Valid, v.V) }
func (v *data) hash(b []byte) []byte    { return hashed(b, v.Valid, string(v.V)) }
func (v *boolean) hash(b []byte) []byte { return hashed(b, v.Valid, strconv.FormatBool(v.V)) }

// sumTable reads a whole table; the columns in the order of t.
func sumTable(ctx context.Context, db *sqldb.DB, t sqldb.Table) (sum, error) {
	var s sum
	err := db.Read(ctx, func(tx *sqldb.Tx) error {
		s = sum{}
		return scanRows(ctx, tx, t, func(row []any) error { s.add(row); return nil }, "SELECT "+columnNames(t)+" FROM "+t.Name)
	})
	return s, err
}

// compare fails unless both stores hold the same rows; it returns their number.
func (c *component) compare(ctx context.Context, from, to *sqldb.DB) (rows uint64, err error) {
	list, err := c.tables(ctx, from)
	if err != nil {
		return 0, err
	}
	for _, t := range list {
		a, err := sumTable(ctx, from, t)
		if err != nil {
			return 0, err
		}
		b, err := sumTable(ctx, to, t)
		if err != nil {
			return 0, err
		}
		if a != b {
			return 0, fmt.Errorf("table %s: %w: %d rows with checksum %016x, at the target %d with %016x", t.Name, errDiffers, a.rows, a.hash, b.rows, b.hash)
		}
		rows += a.rows
	}
	return rows, nil
}
