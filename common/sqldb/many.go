package sqldb

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Bounds of what one statement of ExecMany carries.
const (
	manyRows  = 2000
	manyBytes = 8 << 20
)

// Many is a statement for many rows; see Tx.ExecMany.
type Many struct {
	Text string
	Key  []int
	Rows [][]any
}

// ExecAll runs several statements as ExecMany does, and returns how many rows the last
// of them affected. Each is to be for a table of its own: on PostgreSQL they are
// one statement, as far as none has two rows with one key, whose parts do not see
// what the others do. There it costs one round trip in place of several.
func (tx *Tx) ExecAll(ctx context.Context, all ...Many) (affected int64, err error) {
	var together []Many
	bytes := 0
	for i, m := range all {
		last := i == len(all)-1
		if tx.engine == enginePostgres && len(m.Rows) > 0 && len(m.Rows) <= manyRows {
			size, ordered := sizeOf(m.Rows), rounds(m.Key, m.Rows)
			if bytes+size <= manyBytes && len(ordered) == 1 {
				bytes += size
				together = append(together, Many{m.Text, m.Key, ordered[0]})
				if last {
					return tx.execTogether(ctx, together)
				}
				continue
			}
		}
		if last {
			if _, err = tx.execTogether(ctx, together); err != nil {
				return 0, err
			}
		}
		if affected, err = tx.ExecMany(ctx, m.Text, m.Key, m.Rows); err != nil {
			return 0, err
		}
	}
	return affected, nil
}

// execTogether runs statements as one, each of rows with keys of their own in their
// order, and returns how many rows the last affected.
func (tx *Tx) execTogether(ctx context.Context, all []Many) (int64, error) {
	if len(all) == 0 {
		return 0, nil
	}
	if len(all) == 1 {
		return tx.ExecMany(ctx, all[0].Text, all[0].Key, all[0].Rows)
	}
	var args []any
	var id strings.Builder
	texts := make([]string, len(all))
	first := make([]int, len(all))
	for i, m := range all {
		arrays, types, err := columns(m.Rows)
		if err != nil {
			return 0, fmt.Errorf("sqldb: %q: %w", m.Text, err)
		}
		if texts[i], err = tx.manyText(m.Text, types, m.Key); err != nil {
			return 0, err
		}
		first[i], args = len(args), append(args, arrays...)
		id.WriteString(texts[i])
		id.WriteByte(0)
	}
	known := manyID{text: id.String(), key: "together"}
	together := tx.conn.many[known]
	if together == "" {
		for i, text := range texts {
			texts[i] = placeholder.ReplaceAllStringFunc(text, func(p string) string {
				n, _ := strconv.Atoi(p[1:]) // digits, by the expression
				return "$" + strconv.Itoa(first[i]+n)
			})
		}
		last := len(texts) - 1
		for i, text := range texts[:last] {
			texts[i] = fmt.Sprintf("part%d AS (%s)", i, text)
		}
		together = "WITH " + strings.Join(texts[:last], ", ") + " " + texts[last]
		tx.conn.many[known] = together
	}
	res, err := tx.Exec(ctx, together, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// ExecMany runs a statement for each row of arguments, and returns how many rows
// of the table were affected. The text is that of a single row, in one of the
// forms
//
//	INSERT INTO t (…) VALUES ($1, …) [ON CONFLICT …]
//	UPDATE t SET … WHERE …
//	DELETE FROM t WHERE …
//
// without another VALUES or, outside of ON CONFLICT, WHERE. SQLite runs it for
// one row after the other, which costs little there. On PostgreSQL, where each
// statement is a round trip, the rows go as one array for each placeholder, and
// the text becomes INSERT … SELECT … FROM unnest(…), or UPDATE … FROM (SELECT … FROM
// unnest(…), t … FOR NO KEY UPDATE); a placeholder takes int, int64, string, bool or
// []byte, the same in all rows.
//
// key has the numbers of the placeholders that say which row of the table is
// written; nil if no two can be the same. Rows with the same key take effect in
// their order, and rows are locked in that of their keys, so that transactions
// that do the same do not block each other for good.
func (tx *Tx) ExecMany(ctx context.Context, text string, key []int, rows [][]any) (int64, error) {
	if tx.engine == engineSQLite || len(rows) == 1 {
		return tx.execEach(ctx, text, rows)
	}
	affected := int64(0)
	for _, round := range rounds(key, rows) {
		for len(round) > 0 {
			n := fitting(round)
			arrays, types, err := columns(round[:n])
			if err != nil {
				return affected, fmt.Errorf("sqldb: %q: %w", text, err)
			}
			many, err := tx.manyText(text, types, key)
			if err != nil {
				return affected, err
			}
			res, err := tx.Exec(ctx, many, arrays...)
			if err != nil {
				return affected, err
			}
			done, err := res.RowsAffected()
			if err != nil {
				return affected, err
			}
			affected, round = affected+done, round[n:]
		}
	}
	return affected, nil
}

func (tx *Tx) execEach(ctx context.Context, text string, rows [][]any) (affected int64, err error) {
	for _, row := range rows {
		res, err := tx.Exec(ctx, text, row...)
		if err != nil {
			return affected, err
		}
		n, err := res.RowsAffected()
		if err != nil {
			return affected, err
		}
		affected += n
	}
	return affected, nil
}

// rounds parts rows so that none of a round has the key of another, and those
// of one key are in successive rounds.
func rounds(key []int, rows [][]any) [][][]any {
	if key == nil {
		return [][][]any{rows}
	}
	var out [][][]any
	seen := make(map[string]int, len(rows))
	var name []byte
	for _, row := range rows {
		name = name[:0]
		for _, k := range key {
			name = fmt.Appendf(name, "%v\x00", row[k-1])
		}
		n := seen[string(name)]
		seen[string(name)] = n + 1
		if n == len(out) {
			out = append(out, nil)
		}
		out[n] = append(out[n], row)
	}
	for _, round := range out {
		slices.SortStableFunc(round, func(a, b []any) int {
			for _, k := range key {
				if c := compare(a[k-1], b[k-1]); c != 0 {
					return c
				}
			}
			return 0
		})
	}
	return out
}

func compare(a, b any) int {
	switch a := a.(type) {
	case string:
		if b, ok := b.(string); ok {
			return strings.Compare(a, b)
		}
	case int64:
		if b, ok := b.(int64); ok {
			return cmp.Compare(a, b)
		}
	case int:
		if b, ok := b.(int); ok {
			return cmp.Compare(a, b)
		}
	}
	return 0
}

// fitting is how many of the rows one statement carries.
func fitting(rows [][]any) int {
	bytes := 0
	for n := range rows {
		bytes += sizeOf(rows[n : n+1])
		if n == manyRows || n > 0 && bytes > manyBytes {
			return n
		}
	}
	return len(rows)
}

// sizeOf is about how many bytes rows take.
func sizeOf(rows [][]any) (bytes int) {
	for _, row := range rows {
		for _, v := range row {
			switch v := v.(type) {
			case string:
				bytes += len(v)
			case []byte:
				bytes += 2 * len(v)
			}
		}
	}
	return bytes
}

// columns makes PostgreSQL's text of an array for each placeholder, and says
// what is in it.
func columns(rows [][]any) (arrays []any, types []string, err error) {
	for i := range rows[0] {
		b := []byte{'{'}
		typ := ""
		for n, row := range rows {
			if n > 0 {
				b = append(b, ',')
			}
			var t string
			if b, t, err = element(b, row[i]); err != nil {
				return nil, nil, fmt.Errorf("$%d: %w", i+1, err)
			}
			if typ != "" && t != typ {
				return nil, nil, fmt.Errorf("$%d is %s and %s", i+1, typ, t)
			}
			typ = t
		}
		arrays, types = append(arrays, array(append(b, '}'))), append(types, typ)
	}
	return arrays, types, nil
}

// array is the text of an array, in which texts are storable already.
type array string

var quoted = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

func element(b []byte, v any) ([]byte, string, error) {
	switch v := v.(type) {
	case int64:
		return strconv.AppendInt(b, v, 10), "BIGINT", nil
	case int:
		return strconv.AppendInt(b, int64(v), 10), "BIGINT", nil
	case bool:
		return strconv.AppendBool(b, v), "BOOLEAN", nil
	case string:
		b = append(b, '"')
		b = append(b, quoted.Replace(storable(v))...)
		return append(b, '"'), "TEXT", nil
	case []byte:
		if v == nil {
			return append(b, "NULL"...), "BYTEA", nil
		}
		b = append(b, `"\\x`...)
		b = hex.AppendEncode(b, v)
		return append(b, '"'), "BYTEA", nil
	}
	return nil, "", fmt.Errorf("an argument of type %T", v)
}

var placeholder = regexp.MustCompile(`\$(\d+)`)

// manyText is the text for many rows of a text for one.
func (tx *Tx) manyText(text string, types []string, key []int) (string, error) {
	id := manyID{text, strings.Join(types, " "), fmt.Sprint(key)}
	if many := tx.conn.many[id]; many != "" {
		return many, nil
	}
	var params, names []string
	for i, t := range types {
		params = append(params, fmt.Sprintf("CAST($%d AS %s[])", i+1, t))
		names = append(names, fmt.Sprintf("p%d", i+1))
	}
	from := "unnest(" + strings.Join(params, ", ") + ") AS many(" + strings.Join(names, ", ") + ")"
	one := placeholder.ReplaceAllString(text, "many.p$1")
	var many string
	switch verb, _, _ := strings.Cut(text, " "); verb {
	case "INSERT":
		before, rest, ok := strings.Cut(one, "VALUES (")
		end := closing(rest)
		if !ok || end < 0 {
			return "", fmt.Errorf("sqldb: no VALUES (…) in %q", text)
		}
		many = before + "SELECT " + rest[:end] + " FROM " + from + rest[end+1:]
	case "UPDATE", "DELETE":
		before, after, ok := strings.Cut(one, "WHERE ")
		if !ok {
			return "", fmt.Errorf("sqldb: no WHERE in %q", text)
		}
		word := map[string]string{"UPDATE": " FROM ", "DELETE": " USING "}[verb]
		many = before + word + inOrder(before, from, after, key) + " WHERE " + after
	default:
		return "", fmt.Errorf("sqldb: %q is none of INSERT, UPDATE, DELETE", text)
	}
	tx.conn.many[id] = many
	return many, nil
}

// inOrder are the rows of from once the table's are locked in the order of their keys. A
// join alone finds them in whatever order the planner thinks is quick, another one for
// each transaction: some would wait for each other until PostgreSQL notices, a second
// later.
func inOrder(before, from, where string, key []int) string {
	if key == nil {
		return from
	}
	words := strings.Fields(before) // UPDATE table …, or DELETE FROM table
	table, lock := words[1], "FOR NO KEY UPDATE"
	if words[0] == "DELETE" {
		table, lock = words[2], "FOR UPDATE"
	}
	var order []string
	for _, k := range key {
		order = append(order, fmt.Sprintf("many.p%d", k))
	}
	return "(SELECT many.* FROM " + from + ", " + table + " WHERE " + where + " ORDER BY " + strings.Join(order, ", ") + " " + lock + " OF " + table + ") AS many"
}

// manyID names a text for many rows.
type manyID struct{ text, types, key string }

// closing is where the parenthesis ends that text begins within; below 0 if it
// does not.
func closing(text string) int {
	depth, literal := 0, false
	for i, c := range []byte(text) {
		if c == '\'' {
			literal = !literal
		}
		if literal {
			continue
		}
		switch c {
		case '(':
			depth++
		case ')':
			if depth == 0 {
				return i
			}
			depth--
		}
	}
	return -1
}
