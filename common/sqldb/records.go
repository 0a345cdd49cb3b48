package sqldb

import (
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// records is an argument that holds rows, for From.
type records struct {
	columns []string
	rows    [][]any
}

// Records makes rows of int64s and texts an argument for From with the same
// columns.
func Records(columns []string, rows [][]any) any { return records{columns, rows} }

// From is the text for rows given as an argument, to stand behind FROM or JOIN
// as a table named alias: db.From("$1", "k", cols) with Records(cols, rows). A
// column's name ends in _nid or _seq if it holds numbers; others hold texts.
func (db *DB) From(placeholder, alias string, columns []string) string {
	var b strings.Builder
	if db.engine == enginePostgres {
		fmt.Fprintf(&b, "json_to_recordset(CAST(%s AS JSON)) AS %s(", placeholder, alias)
		for i, c := range columns {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(c + " " + columnType(c))
		}
		return b.String() + ")"
	}
	b.WriteString("(SELECT ")
	for i, c := range columns {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "value->>'$.%s' AS %s", c, c)
	}
	fmt.Fprintf(&b, " FROM json_each(%s)) AS %s", placeholder, alias)
	return b.String()
}

func columnType(name string) string {
	if strings.HasSuffix(name, "_nid") || strings.HasSuffix(name, "_seq") {
		return "BIGINT"
	}
	return "TEXT"
}

// text is the JSON array that From reads.
func (r records) text() (string, error) {
	b := []byte{'['}
	for n, row := range r.rows {
		if n > 0 {
			b = append(b, ',')
		}
		for i, c := range r.columns {
			separator := byte(',')
			if i == 0 {
				separator = '{'
			}
			b = append(b, separator, '"')
			b = append(append(b, c...), '"', ':')
			switch v := row[i].(type) {
			case int64:
				b = fmt.Append(b, v)
			case string:
				var err error
				if b, err = jsontext.AppendQuote(b, storable(v)); err != nil {
					return "", fmt.Errorf("sqldb: records: %w", err)
				}
			default:
				return "", fmt.Errorf("sqldb: records of %T", v)
			}
		}
		b = append(b, '}')
	}
	return string(append(b, ']')), nil
}
