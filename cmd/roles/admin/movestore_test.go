package admin

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// database opens an empty database.
func database(t *testing.T, name string) *sqldb.DB {
	t.Helper()
	db, err := sqldb.Open(t.Context(), sqldb.Options{URL: "file:" + filepath.Join(t.TempDir(), name)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

const things = "CREATE TABLE things (n BIGINT NOT NULL, name TEXT NOT NULL, data BYTEA, good BOOLEAN NOT NULL, maybe BIGINT, PRIMARY KEY (name, n))"

func write(t *testing.T, db *sqldb.DB, text string, args ...any) {
	t.Helper()
	if err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
		_, err := tx.Exec(t.Context(), text, args...)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// fill makes rows of all kinds of values, more than are copied at once.
func fill(t *testing.T, db *sqldb.DB) (rows int) {
	t.Helper()
	write(t, db, things)
	names := []string{"", "a", "Ä\x01\x00", "b\n\"", "\U0001f600"}
	rows = 2*copyRows + 7
	err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
		for n := range rows {
			var data []byte
			if n%3 > 0 {
				data = make([]byte, n%5) // also of no length
			}
			var maybe any
			if n%2 == 0 {
				maybe = -n
			}
			if _, err := tx.Exec(t.Context(), "INSERT INTO things (n, name, data, good, maybe) VALUES ($1, $2, $3, $4, $5)",
				int64(n)-5, names[n%len(names)], data, n%7 == 0, maybe); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// TestCopy: rows arrive as they are, once each, also when it goes on after the
// first of them; what differs is found.
func TestCopy(t *testing.T) {
	ctx, c := t.Context(), &component{}
	from, to := database(t, "from"), database(t, "to")
	rows := fill(t, from)
	write(t, to, things)
	write(t, to, "INSERT INTO things (n, name, good) VALUES (77, 'from a migration', TRUE)")
	tried := 0
	for err := errors.New("not begun"); err != nil; tried++ { // broken off after more batches each time
		inner, cancel := context.WithCancel(ctx)
		batches := &canceling{Context: inner, cancel: cancel}
		batches.after.Store(4 * int64(tried+1))
		_, err = c.transfer(batches, from, to, plan{})
		cancel()
		if tried > 100 {
			t.Fatal(err)
		}
	}
	if tried < 3 {
		t.Fatalf("broken off %d times only", tried-1)
	}
	if n, err := c.compare(ctx, from, to); err != nil || n != uint64(rows) {
		t.Fatalf("%d rows are the same of %d: %v", n, rows, err)
	}
	for _, change := range []string{
		"UPDATE things SET maybe = 0 WHERE n = -4", "UPDATE things SET data = NULL WHERE n = 0", "DELETE FROM things WHERE n = 3",
		"UPDATE things SET name = 'c' WHERE n = 5", "UPDATE things SET good = NOT good WHERE n = 9",
	} {
		write(t, to, change)
		if _, err := c.compare(ctx, from, to); !errors.Is(err, errDiffers) {
			t.Fatalf("after %s both are the same: %v", change, err)
		}
		write(t, to, "DELETE FROM things")
		write(t, to, "DELETE FROM "+copiedTable)
		if rows, err := c.transfer(ctx, from, to, plan{}); err != nil || rows != fmt.Sprint(2*copyRows+7) {
			t.Fatalf("copied anew: %s, %v", rows, err)
		}
	}
}

// canceling is done after it was asked some times.
type canceling struct {
	context.Context
	after  atomic.Int64
	cancel func()
}

// Err implements context.Context.
func (c *canceling) Err() error {
	if c.after.Add(-1) == 0 {
		c.cancel()
	}
	return c.Context.Err()
}

// TestCopyOtherTable: what is not the same table is refused, before rows are lost.
func TestCopyOtherTable(t *testing.T) {
	c := &component{}
	from, to := database(t, "from"), database(t, "to")
	fill(t, from)
	write(t, to, "CREATE TABLE things (n BIGINT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (name, n))")
	write(t, to, "INSERT INTO things (n, name) VALUES (1, 'mine')")
	if _, err := c.transfer(t.Context(), from, to, plan{}); err == nil {
		t.Fatal("copied into another table")
	}
	var n int
	if err := to.ReadOne(t.Context(), func(tx *sqldb.Tx) error {
		return tx.QueryRow(t.Context(), "SELECT count(*) FROM things").Scan(&n)
	}); err != nil || n != 1 {
		t.Fatalf("%d rows are left: %v", n, err)
	}
}
