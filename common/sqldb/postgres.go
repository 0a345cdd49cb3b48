package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/lib/pq"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

func openPostgres(ctx context.Context, o Options) (*DB, error) {
	db, err := sql.Open("postgres", o.URL)
	if err != nil {
		return nil, fmt.Errorf("sqldb: %w", err)
	}
	n := o.Connections
	if n == 0 {
		n = 16
	}
	db.SetMaxOpenConns(n + 1) // migrations
	db.SetMaxIdleConns(n + 1)
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("sqldb: connect: %w", err), db.Close())
	}
	p := newPool(db, n)
	return &DB{engine: enginePostgres, sql: db, writers: p, readers: p}, nil
}

// maxAttempts bounds how often a transaction runs that conflicts with others.
const maxAttempts = 20

func (db *DB) writePostgres(ctx context.Context, f func(*Tx) error) error {
	for attempt := 1; ; attempt++ {
		err := db.writers.transaction(ctx, "BEGIN", db.engine, f)
		if !IsConflict(err) || attempt == maxAttempts || ctx.Err() != nil {
			return err
		}
	}
}

// IsConflict tells whether a transaction failed because of another one, and
// may succeed when it runs again (SQLSTATE 40001 and 40P01).
func IsConflict(err error) bool {
	var e *pq.Error
	return errors.As(err, &e) && (e.Code == "40001" || e.Code == "40P01")
}

// IsUniqueViolation tells whether a row was refused because its key is taken.
func IsUniqueViolation(err error) bool {
	var p *pq.Error
	if errors.As(err, &p) {
		return p.Code == "23505"
	}
	var s *sqlite.Error
	return errors.As(err, &s) &&
		(s.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || s.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
}
