package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Options say which database to open.
type Options struct {
	// URL is "file:PATH" for SQLite, "postgres://…" for PostgreSQL.
	URL string
	// Schema is the schema of a PostgreSQL database to keep everything in, made
	// if it is missing: components may share a database. SQLite has none: there
	// each component has a file of its own. Default: what the URL says.
	Schema string
	// Durable commits survive a loss of power (SQLite: synchronous=FULL;
	// PostgreSQL: synchronous_commit=on). Without it they survive a crash of the
	// process, but a crash of the machine, or of the PostgreSQL server, only as of
	// the last SafePoint: for stores whose consumers commit their offsets with
	// what they did, so that the log brings them up to date again.
	Durable bool
	// Connections bounds the connections (SQLite: those that read); default 4
	// for SQLite, 16 for PostgreSQL.
	Connections int
	// CacheBytes bounds SQLite's page cache per connection; default 8 MiB.
	CacheBytes int64
	// Maintenance opens also a database that is marked: for tools, see Mark.
	Maintenance bool
	// Metrics may be nil. Store is what they call the database.
	Metrics prometheus.Registerer
	Store   string
}

type engine int

const (
	engineSQLite engine = iota
	enginePostgres
)

// DB is an open database.
type DB struct {
	engine engine
	sql    *sql.DB // the connections of both pools, and goose's
	path   string  // SQLite's file
	// durable says that each commit waits for the disk; PostgreSQL's.
	durable    bool
	statements *atomic.Int64
	// retried counts transactions that ran again since they met others.
	retried prometheus.Counter
	// maintenance says that a mark is no hindrance.
	maintenance bool
	// writers is one connection on SQLite; on PostgreSQL it is readers.
	writers, readers *pool
}

// Open opens a database, which is created if it is a file that does not exist.
func Open(ctx context.Context, o Options) (*DB, error) {
	open := openSQLite
	switch {
	case strings.HasPrefix(o.URL, "file:"):
	case strings.HasPrefix(o.URL, "postgres://"), strings.HasPrefix(o.URL, "postgresql://"):
		open = openPostgres
	default:
		return nil, fmt.Errorf("sqldb: %q is neither file:… nor postgres://…", o.URL)
	}
	db, err := open(ctx, o)
	if err != nil {
		return nil, err
	}
	db.maintenance = o.Maintenance
	if err := db.measure(o); err != nil {
		return nil, errors.Join(fmt.Errorf("sqldb: metrics: %w", err), db.Close())
	}
	return db, nil
}

// Write runs f in a transaction and commits it if f returns nil. On SQLite
// writers take turns; waiting for the turn ends with ctx. On PostgreSQL f runs
// again after a serialisation failure or deadlock, so it must have no effects
// but those on tx and on what it sets anew each time. A statement that failed
// ends the transaction: nothing is committed even if f returns nil.
func (db *DB) Write(ctx context.Context, f func(*Tx) error) error {
	if db.engine == enginePostgres {
		return db.writePostgres(ctx, f)
	}
	return explain(db.writers.transaction(ctx, "BEGIN IMMEDIATE", db.engine, f))
}

// Read runs f in a read-only transaction: all its reads see one snapshot.
func (db *DB) Read(ctx context.Context, f func(*Tx) error) error {
	begin := "BEGIN"
	if db.engine == enginePostgres {
		begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
	}
	return explain(db.readers.transaction(ctx, begin, db.engine, f))
}

// ReadOne runs f, which makes one statement: it costs no transaction around it.
// f may run again if the connection turns out to be lost before the statement
// has an answer.
func (db *DB) ReadOne(ctx context.Context, f func(*Tx) error) error {
	return explain(db.readers.use(ctx, func(c *conn) error {
		return f(&Tx{engine: db.engine, conn: c})
	}))
}

// WriteOne is Write for an f that makes one statement, which is its own transaction: on
// PostgreSQL that is one round trip in place of three. f may run again though the
// statement has taken effect, if the connection is lost meanwhile.
func (db *DB) WriteOne(ctx context.Context, f func(*Tx) error) error {
	if db.engine == engineSQLite {
		return db.Write(ctx, f)
	}
	return db.settled(ctx, func() error {
		return db.writers.use(ctx, func(c *conn) error { return f(&Tx{engine: db.engine, conn: c}) })
	})
}

// SafePoint returns after everything that was committed before is on disk.
func (db *DB) SafePoint(ctx context.Context) error {
	if db.engine == enginePostgres {
		return db.safePointPostgres(ctx)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := syncSQLite(db.path); err != nil {
		return fmt.Errorf("sqldb: safe point: %w", err)
	}
	return nil
}

// Close closes the database once running transactions have ended.
func (db *DB) Close() error {
	err := db.writers.close()
	if db.readers != db.writers {
		err = errors.Join(err, db.readers.close())
	}
	return errors.Join(err, db.sql.Close())
}

// Statements returns how many statements have run, BEGIN and COMMIT included:
// what each costs on PostgreSQL is a round trip.
func (db *DB) Statements() int64 { return db.statements.Load() }

// Any is the text for "is one of the list in this placeholder", to stand after
// a column: "WHERE room_id " + db.Any("$1") with List(rooms) as argument.
func (db *DB) Any(placeholder string) string {
	if db.engine == enginePostgres {
		return "= ANY(" + placeholder + ")"
	}
	return "IN (SELECT value FROM json_each(" + placeholder + "))"
}

// list is an argument that holds many values.
type list struct{ values any }

// List makes a slice of strings or int64s an argument for Any.
func List[T string | int64](values []T) any { return list{values} }
