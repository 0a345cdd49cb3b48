package storage

import (
	"context"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// Unread is a checkpoint of a user's unread counts in a room.
type Unread struct {
	UserID, RoomID string
	// Seq is the position up to which events were counted.
	Seq int64
	// Counts is the fold's state as JSON.
	Counts string
}

func putUnread(ctx context.Context, tx *sqldb.Tx, list []Unread) error {
	return putMany(ctx, tx, list, []int{1, 2}, `INSERT INTO unread (user_id, room_id, seq, counts) VALUES ($1, $2, $3, $4)
		ON CONFLICT (user_id, room_id) DO UPDATE SET seq = excluded.seq, counts = excluded.counts
		WHERE excluded.seq >= unread.seq`,
		func(u *Unread) []any { return []any{u.UserID, u.RoomID, u.Seq, u.Counts} })
}

// Unread returns the checkpoints of a user in the rooms, where there are any.
func (s *Store) Unread(ctx context.Context, userID string, rooms []string) ([]Unread, error) {
	return query(ctx, s, "unread", `SELECT room_id, seq, counts FROM unread WHERE user_id = $1 AND room_id `+s.db.Any("$2"),
		[]any{userID, sqldb.List(rooms)}, func(r scanner) (Unread, error) {
			u := Unread{UserID: userID}
			return u, r.Scan(&u.RoomID, &u.Seq, &u.Counts)
		})
}
