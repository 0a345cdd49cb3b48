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
