package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
)

// ErrMarked says that a database is kept from servers: a tool has not finished
// with it, or has moved what is in it to another place.
var ErrMarked = errors.New("sqldb: no server may run on this database")

// Mark says why no server may run on a database.
type Mark struct {
	State  string // of the work of whoever marked it
	Reason string // for an operator
}

const markTable = "maintenance_mark"

// SetMark keeps servers from the database: Migrate fails with ErrMarked, but for
// who opened it for maintenance, until ClearMark.
func (db *DB) SetMark(ctx context.Context, m Mark) error {
	err := db.Write(ctx, func(tx *Tx) error {
		for _, text := range []string{"CREATE TABLE IF NOT EXISTS " + markTable + " (id BIGINT PRIMARY KEY, state TEXT NOT NULL, reason TEXT NOT NULL)",
			"DELETE FROM " + markTable} {
			if _, err := tx.Script(ctx, text); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, "INSERT INTO "+markTable+" (id, state, reason) VALUES (1, $1, $2)", m.State, m.Reason)
		return err
	})
	if err != nil {
		return fmt.Errorf("sqldb: mark: %w", err)
	}
	return db.SafePoint(ctx)
}

// ClearMark lets servers run on the database again.
func (db *DB) ClearMark(ctx context.Context) error {
	err := db.Write(ctx, func(tx *Tx) error {
		_, err := tx.Script(ctx, "DROP TABLE IF EXISTS "+markTable)
		return err
	})
	if err != nil {
		return fmt.Errorf("sqldb: mark: %w", err)
	}
	return db.SafePoint(ctx)
}

// Marked returns the database's mark; nil if there is none.
func (db *DB) Marked(ctx context.Context) (*Mark, error) {
	var out *Mark
	err := db.Read(ctx, func(tx *Tx) error {
		out = nil
		names, err := tx.tableNames(ctx)
		if err != nil || !slices.Contains(names, markTable) {
			return err
		}
		m := &Mark{}
		err = tx.QueryRow(ctx, "SELECT state, reason FROM "+markTable+" WHERE id = 1").Scan(&m.State, &m.Reason)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		out = m
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("sqldb: mark: %w", err)
	}
	return out, nil
}

// refuseMarked fails if the database is marked, unless it is open for whoever
// may mark it.
func (db *DB) refuseMarked(ctx context.Context) error {
	if db.maintenance {
		return nil
	}
	m, err := db.Marked(ctx)
	if err == nil && m != nil {
		err = fmt.Errorf("%w: %s", ErrMarked, m.Reason)
	}
	return err
}
