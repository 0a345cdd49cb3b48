package storage

import (
	"context"

	"github.com/matrix-org/dendrite/common/sqldb"
)

const (
	selectPublished     = `SELECT COUNT(*) FROM published WHERE room_id = $1`
	insertPublished     = `INSERT INTO published (room_id) VALUES ($1) ON CONFLICT (room_id) DO NOTHING`
	insertPublishedLike = `INSERT INTO published (room_id) SELECT CAST($1 AS TEXT) FROM published WHERE room_id = $2 ON CONFLICT (room_id) DO NOTHING`
	deletePublished     = `DELETE FROM published WHERE room_id = $1`
)

// Published tells whether a room is in the published directory.
func (d *Database) Published(ctx context.Context, roomID string) (bool, error) {
	var n int64
	err := d.db.ReadOne(ctx, func(tx *sqldb.Tx) error {
		return tx.QueryRow(ctx, selectPublished, roomID).Scan(&n)
	})
	return n > 0, err
}

// SetPublished puts a room into the published directory or takes it out.
func (d *Database) SetPublished(ctx context.Context, roomID string, published bool) error {
	return d.db.Write(ctx, func(tx *sqldb.Tx) error {
		text := deletePublished
		if published {
			text = insertPublished
		}
		_, err := tx.Exec(ctx, text, roomID)
		return err
	})
}
