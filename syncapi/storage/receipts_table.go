package storage

import (
	"context"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// Receipt is a receipt in force.
type Receipt struct {
	RoomID, UserID string
	Type           string // m.read or m.read.private
	ThreadID       string // "" unthreaded, main, or a thread's root
	EventID        string
	TS             int64
	Seq            int64 // of user.output
	// Place is where an event stood that was purged, as Gone writes it; "" for others.
	Place string
}

func putReceipts(ctx context.Context, tx *sqldb.Tx, list []Receipt) error {
	return putMany(ctx, tx, list, []int{1, 2, 3, 4}, `INSERT INTO receipts (room_id, user_id, type, thread_id, event_id, ts, seq) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (room_id, user_id, type, thread_id) DO UPDATE SET event_id = excluded.event_id, ts = excluded.ts, seq = excluded.seq
		WHERE excluded.seq > receipts.seq`,
		func(r *Receipt) []any { return []any{r.RoomID, r.UserID, r.Type, r.ThreadID, r.EventID, r.TS, r.Seq} })
}

// Receipts returns all receipts of the rooms.
func (s *Store) Receipts(ctx context.Context, rooms []string) ([]Receipt, error) {
	return query(ctx, s, "receipts", `SELECT room_id, user_id, type, thread_id, event_id, ts, seq, place FROM receipts WHERE room_id `+s.db.Any("$1"),
		[]any{sqldb.List(rooms)}, func(r scanner) (Receipt, error) {
			var o Receipt
			return o, r.Scan(&o.RoomID, &o.UserID, &o.Type, &o.ThreadID, &o.EventID, &o.TS, &o.Seq, &o.Place)
		})
}
