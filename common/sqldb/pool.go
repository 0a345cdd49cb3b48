package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
)

// maxStatements bounds the statements kept prepared on a connection.
const maxStatements = 300

// conn is a connection with the statements that were prepared on it.
type conn struct {
	*sql.Conn
	stmts map[string]*sql.Stmt
}

// pool hands out connections. It is not database/sql's own, because a
// transaction there prepares its statements anew or needs a second connection
// to do so.
type pool struct {
	db *sql.DB
	// free holds the connections that nobody uses; a nil stands for one that
	// has still to be opened.
	free chan *conn
}

func newPool(db *sql.DB, connections int) *pool {
	p := &pool{db: db, free: make(chan *conn, connections)}
	for range connections {
		p.free <- nil
	}
	return p
}

// use runs f with a connection that is its own until f returns.
func (p *pool) use(ctx context.Context, f func(*conn) error) (err error) {
	var c *conn
	select {
	case c = <-p.free:
	default:
		select {
		case c = <-p.free:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	healthy := false
	defer func() {
		if !healthy && c != nil {
			c.discard()
			c = nil
		}
		p.free <- c
	}()
	if c == nil {
		sc, err := p.db.Conn(ctx)
		if err != nil {
			return fmt.Errorf("sqldb: connect: %w", err)
		}
		c = &conn{Conn: sc, stmts: map[string]*sql.Stmt{}}
	}
	err = f(c)
	// A connection that broke, or was left within a transaction by a panic
	// (then healthy stays false), is not used again.
	healthy = !errors.Is(err, driver.ErrBadConn) && !errors.Is(err, sql.ErrConnDone) && !errors.Is(err, errBroken)
	return err
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
	var errs []error
	for range cap(p.free) {
		if c := <-p.free; c != nil {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}
