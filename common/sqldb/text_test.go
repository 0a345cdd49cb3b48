package sqldb_test

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
)

// TestText: any text is kept and found, and texts are sorted as Go sorts them.
func TestText(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T) {
		db := sqldbtest.Open(t, filepath.Join(t.TempDir(), "t.db"))
		must(t, exec(t, db, "CREATE TABLE t (k TEXT PRIMARY KEY)"))
		texts := []string{"", "\x00", "\x00\x00", "\x00a", "\x01", "\x01\x00", "\x01\x01", "\x01\x02", "\x01\x03\u00ff", "\x02", "$x", "A", "Z", "_", "a", "a\x00", "a\x01b", "a\"\\b",
			"z", "~", "\u00e9", "\u00ff", "\ufffd", "\U0001f600"}
		broken := []string{"\xff", "a\x80\x00b", "\xe2\x82"}
		slices.Sort(texts)
		must(t, db.Write(t.Context(), func(tx *sqldb.Tx) error {
			var rows [][]any
			for _, s := range append(slices.Clone(texts), broken...) {
				rows = append(rows, []any{s})
			}
			_, err := tx.ExecMany(t.Context(), "INSERT INTO t (k) VALUES ($1)", nil, rows)
			return err
		}))
		read := func(text string, args ...any) (out []string) {
			t.Helper()
			must(t, db.Read(t.Context(), func(tx *sqldb.Tx) error {
				out = nil
				rows, err := tx.Query(t.Context(), text, args...)
				if err != nil {
					return err
				}
				defer rows.Close()
				for rows.Next() {
					var s string
					if err := rows.Scan(&s); err != nil {
						return err
					}
					out = append(out, s)
				}
				return rows.Err()
			}))
			return out
		}
		sorted := slices.DeleteFunc(read("SELECT k FROM t ORDER BY k"), func(s string) bool { return slices.Contains(broken, s) })
		if !slices.Equal(sorted, texts) {
			t.Errorf("sorted\n%q, not\n%q", sorted, texts)
		}
		columns := []string{"k"}
		for _, s := range append(slices.Clone(texts), broken...) {
			for _, got := range [][]string{
				read("SELECT k FROM t WHERE k = $1", s), read("SELECT k FROM t WHERE k "+db.Any("$1"), sqldb.List([]string{s})),
				read("SELECT t.k FROM t JOIN "+db.From("$1", "o", columns)+" ON o.k = t.k", sqldb.Records(columns, [][]any{{s}})),
			} {
				if !slices.Equal(got, []string{s}) {
					t.Errorf("%q is found as %q", s, got)
				}
			}
		}
	})
}
