package sqldb_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
)

var manySchema = fstest.MapFS{"migrations/00001_t.sql": {Data: []byte(`-- +goose Up
CREATE TABLE t (k TEXT PRIMARY KEY, n BIGINT NOT NULL, b BYTEA, ok BOOLEAN NOT NULL, fixed TEXT NOT NULL);
`)}}

const upsert = `INSERT INTO t (k, n, b, ok, fixed) VALUES ($1, $2, $3, $4, coalesce('x)', ''))
	ON CONFLICT (k) DO UPDATE SET n = t.n * 10 + excluded.n, b = excluded.b WHERE excluded.ok`

// TestMany: many rows at once are the same as one after the other.
func TestMany(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T) {
		db := sqldbtest.Open(t, filepath.Join(t.TempDir(), "t.db"))
		if err := db.Migrate(t.Context(), "many", manySchema); err != nil {
			t.Fatal(err)
		}
		write := func(text string, key []int, rows [][]any, want, statements int64) {
			t.Helper()
			var n, ran int64
			if err := db.Write(t.Context(), func(tx *sqldb.Tx) (err error) {
				before := db.Statements()
				n, err = tx.ExecMany(t.Context(), text, key, rows)
				ran = db.Statements() - before
				return err
			}); err != nil {
				t.Fatal(err)
			}
			if n != want {
				t.Errorf("%d rows were affected, not %d", n, want)
			}
			if sqldbtest.EngineOf(t) == sqldbtest.PostgreSQL && ran != statements {
				t.Errorf("%d statements, not %d", ran, statements)
			}
		}
		big := bytes.Repeat([]byte{0, 255, '\\', '"'}, 300)
		write(upsert, []int{1}, [][]any{
			{"b", int64(1), []byte(nil), true}, {`q"\{},` + "\x00é\xff", int64(-2), big, true}, {"", int64(3), []byte{}, false}, {"NULL", int64(4), []byte("x"), true},
			{"b", int64(2), []byte("two"), true}, {"b", int64(9), []byte("no"), false}, {"b", int64(3), []byte("three"), true},
		}, 6, 4)
		write(`UPDATE t SET n = $1, b = $2 WHERE k = $3`, []int{3}, [][]any{{5, []byte("u"), "NULL"}, {6, []byte("v"), "none"}}, 1, 1)
		write(`DELETE FROM t WHERE k = $1 AND n > $2`, []int{1}, [][]any{{"", 2}, {"b", 999}}, 1, 1)
		write(upsert, []int{1}, nil, 0, 0)
		var got []string
		if err := db.Read(t.Context(), func(tx *sqldb.Tx) error {
			got = nil
			rows, err := tx.Query(t.Context(), "SELECT k, n, b, ok, fixed FROM t ORDER BY k")
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				var k, fixed string
				var n int64
				var b []byte
				var ok bool
				if err := rows.Scan(&k, &n, &b, &ok, &fixed); err != nil {
					return err
				}
				if bytes.Equal(b, big) {
					b = []byte("big")
				}
				got = append(got, fmt.Sprintf("%q %d %s %v %s", k, n, b, ok, fixed))
			}
			return rows.Err()
		}); err != nil {
			t.Fatal(err)
		}
		want := `"NULL" 5 u true x)|"b" 123 three true x)|"q\"\\{},\x00é\xff" -2 big true x)`
		if s := strings.Join(got, "|"); s != want {
			t.Errorf("stored\n%s, not\n%s", s, want)
		}
	})
}

// TestAll: statements for tables of their own are one, but those with rows of the same
// key, and it is told how many rows the last affected.
func TestAll(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T) {
		db := sqldbtest.Open(t, filepath.Join(t.TempDir(), "t.db"))
		if err := db.Migrate(t.Context(), "all", fstest.MapFS{"migrations/00001_t.sql": {Data: []byte(`-- +goose Up
CREATE TABLE a (k BIGINT PRIMARY KEY, v TEXT NOT NULL);
CREATE TABLE b (k BIGINT PRIMARY KEY, v TEXT NOT NULL);
CREATE TABLE c (k BIGINT PRIMARY KEY, v TEXT NOT NULL);
`)}}); err != nil {
			t.Fatal(err)
		}
		put := func(table string, rows ...[]any) sqldb.Many {
			return sqldb.Many{Text: `INSERT INTO ` + table + ` (k, v) VALUES ($1, $2) ON CONFLICT (k) DO UPDATE SET v = ` + table + `.v || excluded.v`, Key: []int{1}, Rows: rows}
		}
		change := sqldb.Many{Text: `UPDATE c SET v = $1 WHERE k = $2`, Key: []int{2}, Rows: [][]any{{"x", 1}, {"y", 2}, {"z", 9}}}
		for _, test := range []struct {
			name             string
			all              []sqldb.Many
			rows, statements int64
			stored           string
		}{
			{"nothing", nil, 0, 0, ""},
			{"one", []sqldb.Many{put("a", []any{1, "1"})}, 1, 1, "a1=1"},
			{"three", []sqldb.Many{put("a", []any{2, "2"}, []any{1, "3"}), put("b", []any{1, "b"}), put("c", []any{2, "c"}, []any{1, "d"})}, 2, 1, "a1=13 a2=2 b1=b c1=d c2=c"},
			{"empty ones", []sqldb.Many{put("a"), put("b", []any{1, "c"}), put("c"), change}, 2, 1, "a1=13 a2=2 b1=bc c1=x c2=y"},
			{"a key twice", []sqldb.Many{put("a", []any{1, "4"}, []any{1, "5"}), put("b", []any{2, "d"}), change}, 2, 3, "a1=1345 a2=2 b1=bc b2=d c1=x c2=y"},
			{"a key twice, last", []sqldb.Many{put("a", []any{3, "6"}), put("b", []any{3, "e"}), put("c", []any{1, "!"}, []any{1, "?"}, []any{2, "."})}, 3, 3, "a1=1345 a2=2 a3=6 b1=bc b2=d b3=e c1=x!? c2=y."},
			{"none last", []sqldb.Many{put("a", []any{3, "7"}), put("b", []any{3, "f"}), put("c")}, 0, 1, "a1=1345 a2=2 a3=67 b1=bc b2=d b3=ef c1=x!? c2=y."},
		} {
			var n, ran int64
			var stored []string
			if err := db.Write(t.Context(), func(tx *sqldb.Tx) (err error) {
				before := db.Statements()
				n, err = tx.ExecAll(t.Context(), test.all...)
				ran = db.Statements() - before
				if err == nil {
					stored, err = tx.Texts(t.Context(), `SELECT t || k || '=' || v FROM (SELECT 'a' AS t, k, v FROM a UNION ALL SELECT 'b', k, v FROM b UNION ALL SELECT 'c', k, v FROM c) u ORDER BY t, k`)
				}
				return err
			}); err != nil {
				t.Fatalf("%s: %v", test.name, err)
			}
			if got := strings.Join(stored, " "); n != test.rows || got != test.stored {
				t.Errorf("%s: %d rows, not %d; stored %s, not %s", test.name, n, test.rows, got, test.stored)
			}
			if sqldbtest.EngineOf(t) == sqldbtest.PostgreSQL && ran != test.statements {
				t.Errorf("%s: %d statements, not %d", test.name, ran, test.statements)
			}
		}
	})
}

// TestManyInOrder: transactions that write the same rows never wait for each other, in
// whatever order they name them and whatever way the planner finds them: one that had
// would run again.
func TestManyInOrder(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T) {
		db := sqldbtest.Open(t, filepath.Join(t.TempDir(), "t.db"))
		if err := db.Migrate(t.Context(), "many", manySchema); err != nil {
			t.Fatal(err)
		}
		const count, writers, turns = 300, 6, 20
		var rows [][]any
		for _, n := range rand.Perm(count) {
			rows = append(rows, []any{fmt.Sprint("k", n), n, []byte(nil), true})
		}
		if err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
			_, err := tx.ExecMany(t.Context(), upsert, nil, rows)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{`UPDATE t SET n = n + 1 WHERE k = $1`, `DELETE FROM t WHERE k = $1 AND n < 0`} {
			var ran atomic.Int64
			var all sync.WaitGroup
			for range writers {
				all.Go(func() {
					for range turns {
						var some [][]any
						for _, n := range rand.Perm(count)[:count/2] {
							some = append(some, []any{fmt.Sprint("k", n)})
						}
						if err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
							ran.Add(1)
							_, err := tx.ExecMany(t.Context(), text, []int{1}, some)
							return err
						}); err != nil {
							t.Error(err)
						}
					}
				})
			}
			all.Wait()
			if n := ran.Load(); n != writers*turns {
				t.Errorf("%d transactions ran %d times: %s", writers*turns, n, text)
			}
		}
	})
}

// TestManyBounded: no statement carries more than some thousand rows.
func TestManyBounded(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T) {
		db := sqldbtest.Open(t, filepath.Join(t.TempDir(), "t.db"))
		if err := db.Migrate(t.Context(), "many", manySchema); err != nil {
			t.Fatal(err)
		}
		var rows [][]any
		for i := range 5000 {
			rows = append(rows, []any{fmt.Sprint(i), i, []byte("x"), true})
		}
		var n, count int64
		if err := db.Write(t.Context(), func(tx *sqldb.Tx) (err error) {
			if n, err = tx.ExecMany(t.Context(), upsert, []int{1}, rows); err != nil {
				return err
			}
			return tx.QueryRow(t.Context(), "SELECT count(*) FROM t").Scan(&count)
		}); err != nil || n != 5000 || count != 5000 {
			t.Errorf("%d affected, %d stored, %v", n, count, err)
		}
	})
}
