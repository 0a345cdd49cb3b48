package storage

import (
	"context"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// Room is the last position of a room and the number of its members then.
type Room struct {
	RoomID          string
	Seq             int64
	Joined, Invited int
}

func (r *Room) put(ctx context.Context, tx *sqldb.Tx) error {
	_, err := tx.Exec(ctx, `INSERT INTO rooms (room_id, seq, joined, invited) VALUES ($1, $2, $3, $4)
		ON CONFLICT (room_id) DO UPDATE SET seq = excluded.seq, joined = excluded.joined, invited = excluded.invited
		WHERE excluded.seq >= rooms.seq`, r.RoomID, r.Seq, r.Joined, r.Invited)
	return err
}

// Rooms returns those of the rooms that are known.
func (s *Store) Rooms(ctx context.Context, ids []string) ([]Room, error) {
	return query(ctx, s, "rooms", `SELECT room_id, seq, joined, invited FROM rooms WHERE room_id `+s.db.Any("$1"), []any{sqldb.List(ids)},
		func(r scanner) (Room, error) {
			var o Room
			return o, r.Scan(&o.RoomID, &o.Seq, &o.Joined, &o.Invited)
		})
}
