package lease

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/common/testwait"
)

const partitions = 7

// world is a database that several instances have open, each by its own handle.
type world struct {
	t    *testing.T
	path string // of the database
}

// engines runs a test on both engines.
func engines(t *testing.T, test func(*testing.T, *world)) {
	sqldbtest.Each(t, func(t *testing.T) { test(t, &world{t, filepath.Join(t.TempDir(), "lease.db")}) })
}

func (w *world) db() *sqldb.DB {
	w.t.Helper()
	return sqldbtest.Open(w.t, w.path)
}

func (w *world) manager(owner string, sole bool) *Manager {
	w.t.Helper()
	return w.managerWith(Options{Owner: owner, Sole: sole})
}

func (w *world) managerWith(o Options) *Manager {
	w.t.Helper()
	logger := logrus.New()
	logger.SetOutput(w.t.Output())
	o.DB, o.Group, o.Partitions, o.Address = w.db(), w.t.Name(), partitions, o.Owner+".example"
	o.TTL, o.Logger = 400*time.Millisecond, logrus.NewEntry(logger)
	m, err := New(w.t.Context(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

// run runs a manager, which releases its surplus as a consumer does, until the
// function that is returned is called.
func (w *world) run(m *Manager) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{}, 2)
	go func() {
		m.Run(ctx)
		done <- struct{}{}
	}()
	go func() {
		defer func() { done <- struct{}{} }()
		for {
			changed := m.Changed()
			held := m.Held()
			for i := range min(m.Surplus(), len(held)) {
				if err := m.Release(ctx, held[i]); err != nil && ctx.Err() == nil {
					w.t.Error(err)
				}
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
	}()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			<-done
			<-done
		}
	}
	w.t.Cleanup(stop)
	return stop
}

func commit(t *testing.T, m *Manager, l Lease, next int64) error {
	t.Helper()
	return m.o.DB.Write(t.Context(), func(tx *sqldb.Tx) error { return m.Commit(t.Context(), tx, l, "topic", next) })
}

// TestSharing: partitions are shared evenly as instances come, go and die.
func TestSharing(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		a, b, c := w.manager("a", false), w.manager("b", false), w.manager("c", false)
		stopA := w.run(a)
		testwait.Until(w.t, "one has all", func() bool { return len(a.Held()) == partitions })
		stopB := w.run(b)
		w.run(c)
		testwait.Until(w.t, "three have 3, 2 and 2", func() bool {
			return len(a.Held()) == 3 && len(b.Held()) == 2 && len(c.Held()) == 2
		})
		seen := map[int]bool{}
		for _, m := range []*Manager{a, b, c} {
			for _, l := range m.Held() {
				if seen[l.Partition] {
					t.Errorf("partition %d has two owners", l.Partition)
				}
				seen[l.Partition] = true
			}
		}
		owners, err := Owners(t.Context(), c.o.DB, t.Name())
		if err != nil || len(owners) != partitions || owners[c.Held()[0].Partition] != (Owner{"c", "c.example"}) {
			t.Errorf("owners: %v, %v", owners, err)
		}
		stopA()
		if err := a.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		testwait.Until(w.t, "two have all after one left", func() bool { return len(b.Held())+len(c.Held()) == partitions })
		stopB() // it says nothing: dead
		testwait.Until(w.t, "one has all after another died", func() bool { return len(c.Held()) == partitions })
		if len(b.Held()) != 0 || b.Valid(0) {
			t.Error("a dead owner thinks its leases valid")
		}
	})
}

// TestFencing: a commit under a lost lease fails, and offsets pass to the next
// owner.
func TestFencing(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		a, b := w.manager("a", false), w.manager("b", false)
		stop := w.run(a)
		testwait.Until(w.t, "one has all", func() bool { return len(a.Held()) == partitions })
		old := a.Held()[0]
		if old.NextOffset != -1 || old.TopicID != "" {
			t.Fatalf("a first lease is %+v", old)
		}
		if err := commit(t, a, old, 5); err != nil {
			t.Fatal(err)
		}
		if err := commit(t, a, old, 5); !errors.Is(err, ErrMoved) {
			t.Fatalf("a commit from where it began before says %v", err)
		}
		stop()
		w.run(b)
		testwait.Until(w.t, "the next has all", func() bool { return len(b.Held()) == partitions })
		now := b.Held()[0]
		if now.NextOffset != 5 || now.TopicID != "topic" || now.Epoch != old.Epoch+1 {
			t.Fatalf("the next lease is %+v", now)
		}
		old.NextOffset = 5
		if err := commit(t, a, old, 9); !errors.Is(err, ErrFenced) {
			t.Fatalf("a lost lease commits: %v", err)
		}
		if _, err := a.Reload(t.Context(), old); !errors.Is(err, ErrFenced) {
			t.Fatalf("a lost lease reads as %v", err)
		}
		if err := commit(t, b, now, 6); err != nil {
			t.Fatal(err)
		}
	})
}

// TestRenewedInOrder: leases are renewed while several of them commit; neither waits
// for the other for good, wherever their rows are in the table.
func TestRenewedInOrder(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		a := w.manager("a", false)
		if err := a.beat(t.Context()); err != nil {
			t.Fatal(err)
		}
		held := a.Held()
		for p := range 5 { // PostgreSQL has their rows behind the others' then
			if err := commit(t, a, held[p], 5); err != nil {
				t.Fatal(err)
			}
			held[p].NextOffset = 5
		}
		db, other := w.db(), w.db()
		err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
			_, err := tx.Script(t.Context(), "ANALYZE lease_partitions") // now it reads small tables from their beginning
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		renews, commits := 0, 0
		renewed := make(chan error, 1)
		err = db.Write(t.Context(), func(tx *sqldb.Tx) error {
			if commits++; commits > 1 {
				return nil
			}
			if err := a.Commit(t.Context(), tx, held[3], "topic", 9); err != nil {
				return err
			}
			go func() {
				renewed <- other.Write(t.Context(), func(tx *sqldb.Tx) error {
					renews++
					_, err := a.renew(t.Context(), tx)
					return err
				})
			}()
			if db.Lock() != "" {
				w.waits(db, "UPDATE lease_partitions SET expiry%")
			}
			return a.Commit(t.Context(), tx, held[5], "topic", 9)
		})
		if err := errors.Join(err, <-renewed); err != nil || renews != 1 || commits != 1 {
			t.Errorf("%d renewals, %d commits: %v", renews, commits, err)
		}
	})
}

// waits waits until a statement of this test's waits for a lock on PostgreSQL.
func (w *world) waits(db *sqldb.DB, like string) {
	w.t.Helper()
	schema := sqldbtest.Options(w.t, w.path).Schema
	testwait.Until(w.t, "a statement waits", func() bool {
		var n int
		err := db.ReadOne(w.t.Context(), func(tx *sqldb.Tx) error {
			return tx.QueryRow(w.t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE '%' || $1 AND query LIKE $2", schema, like).Scan(&n)
		})
		return err == nil && n > 0
	})
}

// TestKept: a lease that was not renewed in time is kept in mind until another
// instance is seen to have it.
func TestKept(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		a, b := w.manager("a", false), w.manager("b", false)
		stop := w.run(a)
		testwait.Until(w.t, "one has all", func() bool { return len(a.Held()) == partitions })
		stop()
		testwait.Until(w.t, "its leases run out", func() bool { return !a.Valid(0) })
		if kept, valid := a.Kept(0); !kept || valid {
			t.Errorf("a lease that ran out is kept: %v, is valid: %v", kept, valid)
		}
		w.run(b)
		testwait.Until(w.t, "another has all", func() bool { return len(b.Held()) == partitions })
		w.run(a)
		testwait.Until(w.t, "one knows that it has lost them", func() bool { kept, _ := a.Kept(0); return !kept || a.Valid(0) })
	})
}

// TestSole: a sole instance waits for nobody, and fences who was there before.
func TestSole(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		a, b := w.manager("a", true), w.manager("b", true)
		stop := w.run(a)
		testwait.Until(w.t, "the first has all", func() bool { return len(a.Held()) == partitions })
		old := a.Held()[0]
		stop()
		w.run(b)
		testwait.Until(w.t, "the second has all", func() bool { return len(b.Held()) == partitions })
		if err := commit(t, a, old, 1); !errors.Is(err, ErrFenced) {
			t.Fatalf("the first commits: %v", err)
		}
	})
}
