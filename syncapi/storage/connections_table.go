package storage

import (
	"context"
	"errors"
	"fmt"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// Connection names a connection of sliding sync.
type Connection struct{ UserID, DeviceID, ConnID string }

// ConnectionLimits bounds what is kept of connections.
type ConnectionLimits struct {
	// States is how many of a connection, PerDevice how many connections of a device.
	States, PerDevice int
	// Expired is when a state was written that is not kept any more, in milliseconds.
	Expired int64
}

// PutConnection stores a state of a connection, the one that came after parent,
// which stays too. A connection's first state has no parent: with it, what there
// is too much of goes.
func (s *Store) PutConnection(ctx context.Context, c Connection, hash, parent string, state []byte, now int64, most ConnectionLimits) error {
	err := s.db.Write(ctx, func(tx *sqldb.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO connections (user_id, device_id, conn_id, hash, state, written) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (user_id, device_id, conn_id, hash) DO UPDATE SET written = excluded.written`,
			c.UserID, c.DeviceID, c.ConnID, hash, state, now); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM connections WHERE user_id = $1 AND device_id = $2 AND conn_id = $3 AND hash <> $4 AND hash <> $5
			AND hash NOT IN (SELECT hash FROM connections WHERE user_id = $1 AND device_id = $2 AND conn_id = $3
				ORDER BY written DESC, hash LIMIT $6)`,
			c.UserID, c.DeviceID, c.ConnID, hash, parent, most.States); err != nil {
			return err
		}
		if parent != "" {
			return nil
		}
		if _, err := tx.Exec(ctx, `DELETE FROM connections WHERE user_id = $1 AND device_id = $2 AND conn_id <> $3
			AND conn_id NOT IN (SELECT conn_id FROM connections WHERE user_id = $1 AND device_id = $2
				GROUP BY conn_id ORDER BY MAX(written) DESC, conn_id LIMIT $4)`,
			c.UserID, c.DeviceID, c.ConnID, most.PerDevice); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `DELETE FROM connections WHERE written < $1`, most.Expired)
		return err
	})
	if err != nil {
		return fmt.Errorf("syncapi/storage: connection: %w", err)
	}
	return nil
}

// ErrNoConnection says that a state of a connection is not there (any more).
var ErrNoConnection = errors.New("syncapi/storage: no such connection")

// Connection returns a state of a connection and when it was written.
func (s *Store) Connection(ctx context.Context, c Connection, hash string) (state []byte, written int64, err error) {
	type row struct {
		state   []byte
		written int64
	}
	rows, err := query(ctx, s, "connection", `SELECT state, written FROM connections
		WHERE user_id = $1 AND device_id = $2 AND conn_id = $3 AND hash = $4`, []any{c.UserID, c.DeviceID, c.ConnID, hash},
		func(r scanner) (row, error) {
			var o row
			return o, r.Scan(&o.state, &o.written)
		})
	if err != nil {
		return nil, 0, err
	}
	if len(rows) == 0 {
		return nil, 0, ErrNoConnection
	}
	return rows[0].state, rows[0].written, nil
}
