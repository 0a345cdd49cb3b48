package sqldb_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/common/telemetry/telemetrytest"
)

// onPostgres runs a test of what SQLite has not.
func onPostgres(t *testing.T, test func(*testing.T)) {
	t.Run(string(sqldbtest.PostgreSQL), test)
}

func exec(t *testing.T, db *sqldb.DB, text string, args ...any) error {
	t.Helper()
	return db.Write(t.Context(), func(tx *sqldb.Tx) error {
		_, err := tx.Exec(t.Context(), text, args...)
		return err
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func number(t *testing.T, db *sqldb.DB, text string, args ...any) (n int64) {
	t.Helper()
	must(t, db.ReadOne(t.Context(), func(tx *sqldb.Tx) error { return tx.QueryRow(t.Context(), text, args...).Scan(&n) }))
	return n
}

// TestServerGoes: while the server is away errors say so, and when it is back
// everything works, with connections whose statements were prepared before.
func TestServerGoes(t *testing.T) {
	server := sqldbtest.Private(t)
	db := sqldbtest.OpenWith(t, sqldb.Options{URL: server.URL, Schema: "s", Durable: true, Connections: 3})
	must(t, exec(t, db, "CREATE TABLE t (n BIGINT NOT NULL)"))
	count := func() int64 { return number(t, db, "SELECT count(*) FROM t") }
	everywhere := func() { // has the statement prepared on all connections
		var wait, meet sync.WaitGroup
		meet.Add(3)
		for range 3 {
			wait.Go(func() {
				if err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
					meet.Done()
					meet.Wait()
					_, err := tx.Exec(t.Context(), "INSERT INTO t (n) VALUES ($1)", 1)
					return err
				}); err != nil {
					t.Error(err)
				}
			})
		}
		wait.Wait()
	}
	everywhere()
	for n, end := range []func(){server.Stop, server.Kill} {
		end()
		if err := exec(t, db, "INSERT INTO t (n) VALUES ($1)", 1); !errors.Is(err, sqldb.ErrUnavailable) {
			t.Errorf("without the server a write says %v", err)
		}
		if err := db.Read(t.Context(), func(tx *sqldb.Tx) error {
			return tx.QueryRow(t.Context(), "SELECT 1").Scan(new(int))
		}); !errors.Is(err, sqldb.ErrUnavailable) {
			t.Errorf("without the server a read says %v", err)
		}
		server.Start()
		if got := count(); got != int64(3*n+3) {
			t.Errorf("%d rows after restart %d", got, n)
		}
		everywhere()
	}
	// The server goes and comes unseen: idle connections are lost, nobody is told.
	server.Stop()
	server.Start()
	everywhere()
	if got := count(); got != 12 {
		t.Errorf("%d rows", got)
	}
	// In the middle of a transaction it cannot be hidden.
	err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
		if _, err := tx.Exec(t.Context(), "INSERT INTO t (n) VALUES (2)"); err != nil {
			return err
		}
		server.Kill()
		_, err := tx.Exec(t.Context(), "INSERT INTO t (n) VALUES (3)")
		return err
	})
	if !errors.Is(err, sqldb.ErrUnavailable) {
		t.Errorf("a transaction whose server died says %v", err)
	}
	server.Start()
	if got := count(); got != 12 {
		t.Errorf("%d rows", got)
	}
}

// TestSafePoint: commits that did not wait for the disk are on it after a safe
// point.
func TestSafePoint(t *testing.T) {
	onPostgres(t, func(t *testing.T) {
		for _, durable := range []bool{false, true} {
			o := sqldbtest.Options(t, filepath.Join(t.TempDir(), "t.db"))
			o.Durable = durable
			db := sqldbtest.OpenWith(t, o)
			must(t, exec(t, db, "CREATE TABLE t (n BIGINT NOT NULL)"))
			setting := map[bool]string{false: "off", true: "on"}[durable]
			if number(t, db, "SELECT count(*) FROM pg_settings WHERE name = 'synchronous_commit' AND setting = $1", setting) != 1 {
				t.Errorf("synchronous_commit is not %s", setting)
			}
			var at string
			must(t, db.Write(t.Context(), func(tx *sqldb.Tx) error {
				if _, err := tx.Exec(t.Context(), "INSERT INTO t (n) VALUES (1)"); err != nil {
					return err
				}
				return tx.QueryRow(t.Context(), "SELECT CAST(pg_current_wal_insert_lsn() AS TEXT)").Scan(&at)
			}))
			must(t, db.SafePoint(t.Context()))
			if number(t, db, "SELECT CASE WHEN pg_current_wal_flush_lsn() >= CAST($1 AS pg_lsn) THEN 1 ELSE 0 END", at) != 1 {
				t.Errorf("durable %v: not on disk after a safe point", durable)
			}
		}
	})
}

// TestMigrateTogether: processes that start together on an empty database all
// find the schema done.
func TestMigrateTogether(t *testing.T) {
	onPostgres(t, func(t *testing.T) {
		o := sqldbtest.Options(t, filepath.Join(t.TempDir(), "t.db"))
		files := fstest.MapFS{
			"migrations/00001_a.sql": {Data: []byte("-- +goose Up\nCREATE TABLE a (n BIGINT PRIMARY KEY);\nINSERT INTO a VALUES (1);\nSELECT pg_sleep(0.05);\n")},
			"migrations/00002_b.sql": {Data: []byte("-- +goose NO TRANSACTION\n-- +goose Up\nCREATE INDEX CONCURRENTLY a_n ON a (n);\n")},
		}
		var wait sync.WaitGroup
		for range 4 {
			wait.Go(func() {
				db, err := sqldb.Open(t.Context(), o)
				if err == nil {
					err = errors.Join(db.Migrate(t.Context(), "one", files), db.Migrate(t.Context(), "two", fstest.MapFS{
						"migrations/00001_c.sql": {Data: []byte("-- +goose Up\nCREATE TABLE c (n BIGINT PRIMARY KEY);\n")}}), db.Close())
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		wait.Wait()
		db := sqldbtest.OpenWith(t, o)
		if n := number(t, db, "SELECT count(*) FROM a") + number(t, db, "SELECT count(*) FROM goose_one WHERE version_id > 0") + number(t, db, "SELECT count(*) FROM c"); n != 3 {
			t.Errorf("rows and versions: %d", n)
		}
	})
}

// TestSchemas: components keep apart in one database, and processes that make a
// schema at the same time do not stumble.
func TestSchemas(t *testing.T) {
	server := sqldbtest.Private(t)
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			db, err := sqldb.Open(t.Context(), sqldb.Options{URL: server.URL, Schema: "together"})
			if err == nil {
				err = db.Close()
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	a := sqldbtest.OpenWith(t, sqldb.Options{URL: server.URL, Schema: "a_1"})
	b := sqldbtest.OpenWith(t, sqldb.Options{URL: server.URL, Schema: "b_1"})
	for n, db := range []*sqldb.DB{a, b} {
		must(t, exec(t, db, "CREATE TABLE t (n BIGINT NOT NULL)"))
		must(t, exec(t, db, "INSERT INTO t (n) VALUES ($1)", n+5))
	}
	if n := number(t, a, "SELECT sum(n) FROM t"); n != 5 {
		t.Errorf("a holds %d", n)
	}
	if n := number(t, b, "SELECT sum(n) FROM t"); n != 6 {
		t.Errorf("b holds %d", n)
	}
	if _, err := sqldb.Open(t.Context(), sqldb.Options{URL: server.URL, Schema: `x"; DROP`}); err == nil {
		t.Error("a schema has any name")
	}
	// A database that sorts otherwise, or holds something else, is refused.
	must(t, outside(t, a, `CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'`))
	must(t, outside(t, a, `CREATE DATABASE by_language TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'en' LOCALE 'C'`))
	for _, name := range []string{"latin", "by_language"} {
		url := strings.Replace(server.URL, "/postgres?", "/"+name+"?", 1)
		if db, err := sqldb.Open(t.Context(), sqldb.Options{URL: url}); err == nil || !strings.Contains(err.Error(), "LOCALE 'C'") {
			t.Errorf("%s is opened: %v %v", name, db != nil, err)
		}
	}
}

// outside runs a statement that cannot run within a transaction.
func outside(t *testing.T, db *sqldb.DB, text string) error {
	return db.ReadOne(t.Context(), func(tx *sqldb.Tx) error {
		_, err := tx.Script(t.Context(), text)
		return err
	})
}

// TestConflict: of two transactions that wait for each other, one runs again.
func TestConflict(t *testing.T) {
	onPostgres(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		o := sqldbtest.Options(t, filepath.Join(t.TempDir(), "t.db"))
		o.Metrics, o.Store = registry, "s"
		db := sqldbtest.OpenWith(t, o)
		must(t, exec(t, db, "CREATE TABLE t (k BIGINT PRIMARY KEY, n BIGINT NOT NULL)"))
		must(t, exec(t, db, "INSERT INTO t VALUES (1, 0), (2, 0)"))
		var meet, wait sync.WaitGroup
		meet.Add(2)
		runs := make(chan bool, 100)
		for _, order := range [][]int{{1, 2}, {2, 1}} {
			wait.Go(func() {
				first := true
				if err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
					runs <- true
					for i, k := range order {
						if _, err := tx.Exec(t.Context(), "UPDATE t SET n = n + 1 WHERE k = $1", k); err != nil {
							return err
						}
						if i == 0 && first {
							first = false
							meet.Done()
							meet.Wait()
						}
					}
					return nil
				}); err != nil {
					t.Error(err)
				}
			})
		}
		wait.Wait()
		if n := number(t, db, "SELECT sum(n) FROM t"); n != 4 || len(runs) < 3 {
			t.Errorf("the sum is %d after %d runs", n, len(runs))
		}
		if n := telemetrytest.Values(t, registry)["dendrite_sqldb_retried_transactions_total{store=s}"]; n != float64(len(runs)-2) {
			t.Errorf("%v transactions are said to have run again, after %d runs", n, len(runs))
		}
	})
}

// TestFailedStatement: a statement that failed ends its transaction on both
// engines, whoever overlooks it.
func TestFailedStatement(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T) {
		db := sqldbtest.Open(t, filepath.Join(t.TempDir(), "t.db"))
		must(t, exec(t, db, "CREATE TABLE t (k BIGINT PRIMARY KEY)"))
		err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
			for range 2 {
				_, _ = tx.Exec(t.Context(), "INSERT INTO t (k) VALUES (1)") // overlooked: that is the test
			}
			return nil
		})
		if !sqldb.IsUniqueViolation(err) {
			t.Errorf("the transaction says %v", err)
		}
		if n := number(t, db, "SELECT count(*) FROM t"); n != 0 {
			t.Errorf("it left %d rows", n)
		}
	})
}

// TestLimits: what waits or computes for too long is ended by the server, and
// says that it may succeed at another time.
func TestLimits(t *testing.T) {
	onPostgres(t, func(t *testing.T) {
		o := sqldbtest.Options(t, filepath.Join(t.TempDir(), "t.db"))
		db := sqldbtest.OpenWith(t, o)
		if n := number(t, db, `SELECT count(*) FROM pg_settings WHERE name IN ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout')
			AND setting <> '0'`); n != 3 {
			t.Errorf("%d limits are set", n)
		}
		if n := number(t, db, "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%' || $1", o.Schema); n == 0 {
			t.Error("connections do not say whose they are")
		}
		short := o
		short.URL += "&statement_timeout=50&lock_timeout=20&idle_in_transaction_session_timeout=50"
		hasty := sqldbtest.OpenWith(t, short)
		if err := hasty.ReadOne(t.Context(), func(tx *sqldb.Tx) error {
			_, err := tx.Exec(t.Context(), "SELECT pg_sleep(20)")
			return err
		}); !errors.Is(err, sqldb.ErrUnavailable) {
			t.Errorf("a long statement says %v", err)
		}
		must(t, exec(t, db, "CREATE TABLE t (k BIGINT PRIMARY KEY)"))
		must(t, db.Write(t.Context(), func(tx *sqldb.Tx) error {
			if _, err := tx.Exec(t.Context(), "INSERT INTO t (k) VALUES (1)"); err != nil {
				return err
			}
			if err := exec(t, hasty, "INSERT INTO t (k) VALUES (1)"); !errors.Is(err, sqldb.ErrUnavailable) {
				t.Errorf("a long wait for a lock says %v", err)
			}
			return nil
		}))
		if err := hasty.Write(t.Context(), func(tx *sqldb.Tx) error {
			// The server ends the session; only then is there an answer for db.
			for gone := int64(1); gone > 0; {
				gone = number(t, db, "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%' || $1 AND state = 'idle in transaction'", o.Schema)
			}
			_, err := tx.Exec(t.Context(), "INSERT INTO t (k) VALUES (2)")
			return err
		}); !errors.Is(err, sqldb.ErrUnavailable) {
			t.Errorf("an idle transaction says %v", err)
		}
		must(t, exec(t, hasty, "INSERT INTO t (k) VALUES (3)"))
	})
}

// TestCanceled: a caller that goes away does not cost the connection.
func TestCanceled(t *testing.T) {
	onPostgres(t, func(t *testing.T) {
		o := sqldbtest.Options(t, filepath.Join(t.TempDir(), "t.db"))
		o.Connections = 1
		db := sqldbtest.OpenWith(t, o)
		backend := func() int64 { return number(t, db, "SELECT pg_backend_pid()") }
		before := backend()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if err := db.Read(ctx, func(tx *sqldb.Tx) error {
			_, err := tx.Exec(ctx, "SELECT pg_sleep(0.1)")
			return err
		}); err != nil {
			t.Error(err)
		}
		if err := db.Read(ctx, func(tx *sqldb.Tx) error {
			_, err := tx.Exec(ctx, "SELECT pg_sleep(0.1)")
			return err
		}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who has gone begins: %v", err)
		}
		if after := backend(); after != before {
			t.Error("another connection was opened")
		}
	})
}

// TestPlans: what finds a row in a small table by its index does so in a large one,
// where the plan is still the same.
func TestPlans(t *testing.T) {
	onPostgres(t, func(t *testing.T) {
		db := sqldbtest.Open(t, "plans")
		must(t, exec(t, db, "CREATE TABLE t (n BIGINT PRIMARY KEY)"))
		must(t, exec(t, db, "INSERT INTO t (n) VALUES (1), (2), (3)"))
		must(t, db.Write(t.Context(), func(tx *sqldb.Tx) error {
			if _, err := tx.Script(t.Context(), "ANALYZE t"); err != nil {
				return err
			}
			plan, err := tx.Texts(t.Context(), "EXPLAIN SELECT n FROM t WHERE n "+db.Any("$1"), sqldb.List([]int64{1, 2}))
			if all := strings.Join(plan, "\n"); strings.Contains(all, "Seq Scan") {
				t.Errorf("the plan is %s", all)
			}
			return err
		}))
	})
}
