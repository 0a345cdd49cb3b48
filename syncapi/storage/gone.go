package storage

import (
	"context"
	"fmt"
	"slices"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// Gone are events of a room that were purged.
type Gone struct {
	RoomID string
	// Places has where each stood, by its ID.
	Places map[string]Place
}

// Place is where an event stood.
type Place struct{ Seq, Sub int64 }

// Of writes the place of an event for Receipt.Place. The ID is in it, as a receipt
// may move on without it.
func (p Place) Of(eventID string) string { return fmt.Sprintf("%d %d %s", p.Seq, p.Sub, eventID) }

// ParsePlace reads what Of has written, if it is about the event.
func ParsePlace(text, eventID string) (p Place, ok bool) {
	var id string
	n, err := fmt.Sscanf(text, "%d %d %s", &p.Seq, &p.Sub, &id)
	return p, err == nil && n == 3 && id == eventID && p.Seq > 0
}

// forget drops what the events related to, moves or ends their threads, and notes
// with receipts where their events stood.
func (g *Gone) forget(ctx context.Context, tx *sqldb.Tx, db *sqldb.DB) error {
	ids := make([]string, 0, len(g.Places))
	for id := range g.Places {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	roots, err := texts(ctx, tx, `SELECT DISTINCT parent FROM relations WHERE room_id = $1 AND rel_type = 'm.thread' AND event_id `+db.Any("$2"),
		g.RoomID, sqldb.List(ids))
	if err != nil {
		return err
	}
	for _, text := range []string{
		`DELETE FROM relations WHERE room_id = $1 AND event_id ` + db.Any("$2"),
		`DELETE FROM threads WHERE room_id = $1 AND root ` + db.Any("$2"), // what is in them is shown without
	} {
		if _, err := tx.Exec(ctx, text, g.RoomID, sqldb.List(ids)); err != nil {
			return err
		}
	}
	for _, root := range roots {
		if _, gone := g.Places[root]; gone {
			continue
		}
		if err := moveThread(ctx, tx, g.RoomID, root); err != nil {
			return err
		}
	}
	read, err := texts(ctx, tx, `SELECT DISTINCT event_id FROM receipts WHERE room_id = $1 AND event_id `+db.Any("$2"), g.RoomID, sqldb.List(ids))
	if err != nil {
		return err
	}
	for _, id := range read {
		if _, err := tx.Exec(ctx, `UPDATE receipts SET place = $1 WHERE room_id = $2 AND event_id = $3`, g.Places[id].Of(id), g.RoomID, id); err != nil {
			return err
		}
	}
	return nil
}

func texts(ctx context.Context, tx *sqldb.Tx, text string, args ...any) (out []string, err error) {
	return out, tx.Each(ctx, func(scan func(...any) error) error {
		var s string
		err := scan(&s)
		out = append(out, s)
		return err
	}, text, args...)
}
