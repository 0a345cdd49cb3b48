package sqldb_test

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
)

var schema = fstest.MapFS{"migrations/00001_t.sql": {Data: []byte(`-- +goose Up
CREATE TABLE t (k TEXT PRIMARY KEY, n BIGINT NOT NULL, b BYTEA);
`)}}

// engines runs a test on both engines.
func engines(t *testing.T, test func(t *testing.T, db *sqldb.DB)) {
	sqldbtest.Each(t, func(t *testing.T) {
		db := sqldbtest.Open(t, filepath.Join(t.TempDir(), "a b?.db"))
		for range 2 { // a second time changes nothing
			if err := db.Migrate(t.Context(), "test", schema); err != nil {
				t.Fatal(err)
			}
		}
		test(t, db)
	})
}

// TestMigrateNewer: a release takes a schema that the next one has brought
// further, so it can be started beside that one, and instead of it.
func TestMigrateNewer(t *testing.T) {
	engines(t, func(t *testing.T, db *sqldb.DB) {
		next := maps.Clone(schema)
		next["migrations/00002_more.sql"] = &fstest.MapFile{Data: []byte(`-- +goose Up
ALTER TABLE t ADD COLUMN more BIGINT NOT NULL DEFAULT 7;
`)}
		next["migrations/00003_index.sql"] = &fstest.MapFile{Data: []byte(`-- +goose NO TRANSACTION
-- +goose Up
DROP INDEX CONCURRENTLY IF EXISTS t_more;
CREATE INDEX CONCURRENTLY t_more ON t (more) WHERE more > 0;
`)}
		for _, files := range []fstest.MapFS{next, schema, next, schema} {
			if err := db.Migrate(t.Context(), "test", files); err != nil {
				t.Fatal(err)
			}
		}
		put(t, db, "INSERT INTO t (k, n) VALUES ($1, $2)", "a", 1)
		if n := sum(t, db, "more = 7"); n != 1 {
			t.Errorf("a row of the older release adds up to %d", n)
		}
	})
}

func put(t *testing.T, db *sqldb.DB, text string, args ...any) {
	t.Helper()
	if err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
		_, err := tx.Exec(t.Context(), text, args...)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

func sum(t *testing.T, db *sqldb.DB, where string, args ...any) (n int64) {
	t.Helper()
	if err := db.Read(t.Context(), func(tx *sqldb.Tx) error {
		return tx.QueryRow(t.Context(), "SELECT CAST(coalesce(sum(n), 0) AS BIGINT) FROM t WHERE "+where, args...).Scan(&n)
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestTransactions(t *testing.T) {
	engines(t, func(t *testing.T, db *sqldb.DB) {
		ctx := t.Context()
		put(t, db, "INSERT INTO t (k, n, b) VALUES ($1, $2, $3)", "a", 1, []byte{0, 1})
		wrong := errors.New("wrong")
		err := db.Write(ctx, func(tx *sqldb.Tx) error {
			if _, err := tx.Exec(ctx, "INSERT INTO t (k, n) VALUES ($1, $2)", "b", 2); err != nil {
				return err
			}
			return wrong
		})
		if !errors.Is(err, wrong) {
			t.Fatalf("a failed transaction says %v", err)
		}
		if n := sum(t, db, "1 = 1"); n != 1 {
			t.Fatalf("a failed transaction left %d", n)
		}
		err = db.Write(ctx, func(tx *sqldb.Tx) error {
			_, err := tx.Exec(ctx, "INSERT INTO t (k, n) VALUES ($1, $2)", "a", 2)
			return err
		})
		if !sqldb.IsUniqueViolation(err) {
			t.Fatalf("a key twice says %v", err)
		}
		err = db.Read(ctx, func(tx *sqldb.Tx) error {
			return tx.QueryRow(ctx, "SELECT n FROM t WHERE k = $1", "none").Scan(new(int64))
		})
		if !errors.Is(err, sql.ErrNoRows) {
			t.Fatalf("no row says %v", err)
		}
		if err := db.SafePoint(ctx); err != nil {
			t.Fatal(err)
		}
	})
}

func TestPanicRollsBack(t *testing.T) {
	engines(t, func(t *testing.T, db *sqldb.DB) {
		func() {
			defer func() { _ = recover() }() // the panic is the point of the test
			_ = db.Write(t.Context(), func(tx *sqldb.Tx) error {
				if _, err := tx.Exec(t.Context(), "INSERT INTO t (k, n) VALUES ('x', 5)"); err != nil {
					t.Error(err)
				}
				panic("oh")
			})
		}()
		put(t, db, "INSERT INTO t (k, n) VALUES ('y', 1)")
		if n := sum(t, db, "1 = 1"); n != 1 {
			t.Fatalf("after a panic the sum is %d", n)
		}
	})
}

func TestLists(t *testing.T) {
	engines(t, func(t *testing.T, db *sqldb.DB) {
		for k, n := range map[string]int{"a": 1, "b": 2, `c"\`: 4} {
			put(t, db, "INSERT INTO t (k, n) VALUES ($1, $2)", k, n)
		}
		if n := sum(t, db, "k "+db.Any("$1"), sqldb.List([]string{"a", `c"\`, "none"})); n != 5 {
			t.Errorf("strings: %d", n)
		}
		if n := sum(t, db, "n "+db.Any("$1"), sqldb.List([]int64{2, 4})); n != 6 {
			t.Errorf("numbers: %d", n)
		}
		if n := sum(t, db, "k "+db.Any("$1"), sqldb.List([]string(nil))); n != 0 {
			t.Errorf("nothing: %d", n)
		}
	})
}

// TestSnapshot: what a reader sees does not change while it reads, and readers
// do not wait for writers.
func TestSnapshot(t *testing.T) {
	engines(t, func(t *testing.T, db *sqldb.DB) {
		ctx := t.Context()
		count := func(tx *sqldb.Tx) (n int) {
			if err := tx.QueryRow(ctx, "SELECT count(*) FROM t").Scan(&n); err != nil {
				t.Error(err)
			}
			return n
		}
		if err := db.Read(ctx, func(tx *sqldb.Tx) error {
			before := count(tx)
			put(t, db, "INSERT INTO t (k, n) VALUES ('a', 1)")
			if after := count(tx); after != before {
				t.Errorf("%d rows became %d within a snapshot", before, after)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	})
}

// TestWaitingEnds: who waits for the turn to write stops waiting with its context.
func TestWaitingEnds(t *testing.T) {
	db, err := sqldb.Open(t.Context(), sqldb.Options{URL: "file:" + filepath.Join(t.TempDir(), "t.db")})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Write(t.Context(), func(*sqldb.Tx) error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := db.Write(ctx, func(*sqldb.Tx) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the second writer got %v", err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkInsert(b *testing.B) {
	db, err := sqldb.Open(b.Context(), sqldb.Options{URL: "file:" + filepath.Join(b.TempDir(), "t.db")})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	if err := db.Migrate(b.Context(), "bench", schema); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	value := make([]byte, 700)
	for i := 0; i < b.N; {
		if err := db.Write(b.Context(), func(tx *sqldb.Tx) error {
			for range 32 {
				if _, err := tx.Exec(b.Context(), "INSERT INTO t (k, n, b) VALUES (hex(randomblob(16)), $1, $2)", i, value); err != nil {
					return err
				}
				i++
			}
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
}
