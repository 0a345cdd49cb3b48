package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/lib/pq"
)

// Limits that the server keeps for each connection, unless the URL says
// otherwise. Statements here are short; what goes beyond is stuck, or waits for
// somebody who is.
const (
	statementTimeout = 2 * time.Minute
	lockTimeout      = 30 * time.Second
	idleTimeout      = time.Minute // of a transaction between two statements
	connectTimeout   = 5 * time.Second
)

// keepAlive finds out within about 20 seconds that a server is gone without a
// word: nothing else ends the wait for its answer.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 3}

// dialer connects to the server.
type dialer struct{ net.Dialer }

// DialTimeout implements pq.Dialer.
func (d *dialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, network, address)
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

func openPostgres(ctx context.Context, o Options) (*DB, error) {
	connector, err := connectorOf(o)
	if err != nil {
		return nil, fmt.Errorf("sqldb: %w", err)
	}
	db := sql.OpenDB(connector)
	n := o.Connections
	if n == 0 {
		n = 16
	}
	db.SetMaxOpenConns(n + 1) // migrations
	db.SetMaxIdleConns(n + 1)
	// A server that takes connections and says nothing is not waited for longer
	// than the caller does; lib/pq would.
	prepared := make(chan error, 1)
	go func() { prepared <- prepareDatabase(ctx, db, o.Schema) }()
	select {
	case err = <-prepared:
	case <-ctx.Done():
		go func() {
			<-prepared
			_ = db.Close() // nobody is there to hear of it
		}()
		return nil, fmt.Errorf("sqldb: connect: %w: %w", ErrUnavailable, ctx.Err())
	}
	if err != nil {
		if unavailable(err) {
			err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		return nil, errors.Join(fmt.Errorf("sqldb: connect: %w", err), db.Close())
	}
	statements := new(atomic.Int64)
	p := newPool(db, n, statements)
	return &DB{engine: enginePostgres, sql: db, durable: o.Durable, statements: statements, writers: p, readers: p}, nil
}

// connectorOf makes connections with the settings that every one gets.
func connectorOf(o Options) (*pq.Connector, error) {
	if strings.Trim(o.Schema, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
		return nil, fmt.Errorf("%q does not name a schema: a-z, 0-9 and _ do", o.Schema)
	}
	c, err := pq.NewConfig(o.URL)
	if err != nil {
		return nil, err
	}
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = connectTimeout
	}
	if c.ApplicationName == "" {
		c.ApplicationName = strings.TrimSuffix(path.Base(os.Args[0])+" "+o.Schema, " ")
	}
	if c.Runtime == nil {
		c.Runtime = map[string]string{}
	}
	// What a log restores need not wait for the disk at each commit; see Options.Durable.
	c.Runtime["synchronous_commit"] = "off"
	if o.Durable {
		c.Runtime["synchronous_commit"] = "on"
	}
	if o.Schema != "" {
		c.Runtime["search_path"] = o.Schema
	}
	// Each statement has an index to go by. A plan that was made while a table was
	// small would read all of it, and is kept until PostgreSQL has counted the table
	// anew, a minute and many thousands of rows later: enable_seqscan says not to.
	// Plans that must all the same look dear then, and jit would compile them.
	for name, value := range map[string]string{
		"statement_timeout": milliseconds(statementTimeout), "lock_timeout": milliseconds(lockTimeout), "idle_in_transaction_session_timeout": milliseconds(idleTimeout),
		"enable_seqscan": "off", "jit": "off",
	} {
		if c.Runtime[name] == "" {
			c.Runtime[name] = value
		}
	}
	connector, err := pq.NewConnectorConfig(c)
	if err != nil {
		return nil, err
	}
	connector.Dialer(&dialer{net.Dialer{KeepAliveConfig: keepAlive}})
	return connector, nil
}

// prepareDatabase makes the schema, and refuses a database that would sort or
// keep text in another way than SQLite and Go do.
func prepareDatabase(ctx context.Context, db *sql.DB, schema string) error {
	sorted := []string{"$", ":", "@", "B", "Z", "_", "a", "~", "Ä", "ß"} // by their bytes
	mixed := slices.Clone(sorted)
	slices.Reverse(mixed)
	var encoding, order string
	if err := db.QueryRowContext(ctx, "SELECT current_setting('server_encoding'), (SELECT string_agg(v, '' ORDER BY v) FROM unnest(CAST($1 AS TEXT[])) v)",
		pq.Array(mixed)).Scan(&encoding, &order); err != nil {
		return err
	}
	if encoding != "UTF8" || order != strings.Join(sorted, "") {
		return errors.New("the database does not hold text as UTF-8 sorted by its bytes: create it with TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'")
	}
	if schema == "" {
		return nil
	}
	var there bool
	if err := db.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)", schema).Scan(&there); err != nil || there {
		return err // who may use a schema need not be allowed to make one
	}
	_, err := db.ExecContext(ctx, "CREATE SCHEMA IF NOT EXISTS "+schema)
	if state(err) == "23505" || state(err) == "42P06" { // another process was faster
		return nil
	}
	return err
}

// maxAttempts bounds how often a transaction runs that conflicts with others.
const maxAttempts = 20

func (db *DB) writePostgres(ctx context.Context, f func(*Tx) error) error {
	return db.settled(ctx, func() error { return db.writers.transaction(ctx, "BEGIN", db.engine, f) })
}

// settled runs f again for as long as it meets other transactions.
func (db *DB) settled(ctx context.Context, f func() error) error {
	for attempt := 1; ; attempt++ {
		err := f()
		if !IsConflict(err) || attempt == maxAttempts {
			return explain(err)
		}
		db.retried.Inc()
		select { // so that those who met do not meet again
		case <-time.After(rand.N(time.Duration(attempt) * time.Millisecond)):
		case <-ctx.Done():
			return err
		}
	}
}

// safePointPostgres commits something with the disk: all commits before it are
// in the write-ahead log before this one.
func (db *DB) safePointPostgres(ctx context.Context) error {
	if db.durable {
		return nil // each commit has waited for the disk
	}
	err := db.Write(ctx, func(tx *Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL synchronous_commit = on"); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "SELECT pg_logical_emit_message(true, 'dendrite', 'safe point')")
		return err
	})
	if err != nil {
		return fmt.Errorf("sqldb: safe point: %w", err)
	}
	return nil
}

// sessionLock makes processes that migrate one schema at the same time take
// turns. It asks again and again: a session that waited for the lock would hold
// up CREATE INDEX CONCURRENTLY of the one that has it.
type sessionLock struct{ key string }

// lockEvery is the time between two attempts to get the lock.
const lockEvery = 20 * time.Millisecond

// SessionLock implements goose's lock.SessionLocker. The limits are for short
// statements, which migrations need not be.
func (l sessionLock) SessionLock(ctx context.Context, conn *sql.Conn) error {
	if _, err := conn.ExecContext(ctx, "SET statement_timeout = 0; SET lock_timeout = 0"); err != nil {
		return err
	}
	for {
		var got bool
		if err := conn.QueryRowContext(ctx, "SELECT pg_try_advisory_lock(hashtextextended(current_schema() || $1, 0))", l.key).Scan(&got); err != nil || got {
			return err
		}
		select {
		case <-time.After(lockEvery):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// SessionUnlock implements goose's lock.SessionLocker.
func (l sessionLock) SessionUnlock(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, "SELECT pg_advisory_unlock(hashtextextended(current_schema() || $1, 0))", l.key)
	_, e := conn.ExecContext(ctx, "RESET statement_timeout; RESET lock_timeout")
	return errors.Join(err, e)
}
