package storage

import (
	"context"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// Gone says that events of a room were purged: EventIDs, or (nil) all up to a Seq.
type Gone struct {
	RoomID   string
	Seq      int64
	EventIDs []string
}

// DropGone drops what was to be told of purged events within a transaction.
func (d *Database) DropGone(ctx context.Context, tx *sqldb.Tx, list []Gone) error {
	for _, g := range list {
		text, args := `DELETE FROM news WHERE room_id = $1 AND seq <= $2`, []any{g.RoomID, g.Seq}
		if g.EventIDs != nil {
			text, args = text+` AND event_id `+d.db.Any("$3"), append(args, sqldb.List(g.EventIDs))
		}
		if _, err := tx.Exec(ctx, text, args...); err != nil {
			return err
		}
	}
	return nil
}
