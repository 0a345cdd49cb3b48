package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxStatements bounds the statements kept prepared on a connection.
const maxStatements = 300

// conn is a connection with the statements that were prepared on it.
type conn struct {
	*sql.Conn
	stmts map[string]*sql.Stmt
	many  map[manyID]string // see manyText
	// statements counts, for all connections of the database.
	statements *atomic.Int64
	// used says that it has been taken from the pool before, answered that a
	// statement has succeeded since it was taken last.
	used, answered bool
}

// pool hands out connections. It is not database/sql's own, because a
// transaction there prepares its statements anew or needs a second connection
// to do so.
type pool struct {
	db    *sql.DB
	slots chan struct{} // as many as connections may be in use
	mu    sync.Mutex
	// idle are the open connections that nobody uses. The one used last is taken
	// first: where a few do, they are the ones that have their statements prepared.
	idle []*conn
	// statements is the database's count.
	statements *atomic.Int64
	// waiting counts who waits for a connection now, waited how long those waited
	// who had to.
	waiting atomic.Int64
	waited  prometheus.Observer
}

func newPool(db *sql.DB, connections int, statements *atomic.Int64) *pool {
	return &pool{db: db, slots: make(chan struct{}, connections), statements: statements}
}

// use runs f with a connection that is its own until f returns. If one that
// was open already turns out to be lost before it did anything, as after a
// restart of the server, f runs again with another.
func (p *pool) use(ctx context.Context, f func(*conn) error) error {
	select {
	case p.slots <- struct{}{}:
	default:
		if err := p.wait(ctx); err != nil {
			return err
		}
	}
	defer func() { <-p.slots }()
	for {
		c, err := p.take(ctx)
		if err != nil {
			return err
		}
		reused := c.used
		c.used, c.answered = true, false
		answered, err := p.with(c, f)
		if !reused || answered || !lost(err) || ctx.Err() != nil {
			return err
		}
	}
}

// wait waits for a connection that another one gives back.
func (p *pool) wait(ctx context.Context) error {
	began := time.Now()
	p.waiting.Add(1)
	defer func() {
		p.waiting.Add(-1)
		p.waited.Observe(time.Since(began).Seconds())
	}()
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// open counts the connections that are open, those in use among them.
func (p *pool) open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.idle) + len(p.slots)
}

// take returns an idle connection, or opens one.
func (p *pool) take(ctx context.Context) (*conn, error) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return c, nil
	}
	p.mu.Unlock()
	sc, err := p.db.Conn(ctx)
	if err != nil {
		if ctx.Err() == nil {
			err = fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		return nil, fmt.Errorf("sqldb: connect: %w", err)
	}
	return &conn{Conn: sc, stmts: map[string]*sql.Stmt{}, many: map[manyID]string{}, statements: p.statements}, nil
}

// with runs f and gives the connection back, unless it broke or was left within
// a transaction by a panic. It tells whether the server answered.
func (p *pool) with(c *conn, f func(*conn) error) (answered bool, err error) {
	healthy := false
	defer func() {
		if !healthy {
			c.discard()
			return
		}
		p.mu.Lock()
		p.idle = append(p.idle, c)
		p.mu.Unlock()
	}()
	err = f(c)
	healthy = !lost(err) && !errors.Is(err, errBroken)
	return c.answered, err
}

// discard closes the connection for good; Close would give it back to
// database/sql, still in its transaction.
func (c *conn) discard() {
	_ = c.Raw(func(any) error { return driver.ErrBadConn }) // returns what it was told
	_ = c.Close()                                           // says only that it is closed already
}

// errBroken marks the failure of a ROLLBACK.
var errBroken = errors.New("sqldb: connection left in a transaction")

// transaction runs f between begin and COMMIT, or ROLLBACK if it fails.
func (p *pool) transaction(ctx context.Context, begin string, e engine, f func(*Tx) error) error {
	return p.use(ctx, func(c *conn) error {
		// What has begun is finished: a cancelled caller must not interrupt
		// half of a commit, and statements without cancellation cost less.
		ctx := context.WithoutCancel(ctx)
		tx := &Tx{engine: e, conn: c}
		if _, err := tx.Exec(ctx, begin); err != nil {
			return fmt.Errorf("sqldb: begin: %w", err)
		}
		returned := false
		defer func() {
			if !returned { // f panicked: the panic goes on, the locks do not
				_, _ = tx.Exec(ctx, "ROLLBACK") // the connection is discarded anyway
			}
		}()
		err := f(tx)
		returned = true
		if err == nil && tx.failed != nil {
			// PostgreSQL would answer COMMIT by rolling back, without an error.
			err = fmt.Errorf("sqldb: a statement failed, so nothing is committed: %w", tx.failed)
		}
		if err == nil {
			if _, err = tx.Exec(ctx, "COMMIT"); err == nil {
				return nil
			}
			err = fmt.Errorf("sqldb: commit: %w", err)
		}
		if _, e := tx.Exec(ctx, "ROLLBACK"); e != nil && !rolledBack(e) {
			return errors.Join(err, errBroken, e)
		}
		return err
	})
}

// close waits for the connections and closes them; the pool is of no use then.
func (p *pool) close() error {
	for range cap(p.slots) {
		p.slots <- struct{}{}
	}
	var errs []error
	for _, c := range p.idle {
		if err := c.Close(); !lost(err) {
			errs = append(errs, err)
		}
	}
	p.idle = nil
	return errors.Join(errs...)
}
