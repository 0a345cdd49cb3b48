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
	// Active is when its last event was logged, Bumped the last one that lifts it
	// in lists, in milliseconds; 0: as it was.
	Active, Bumped int64
	// Purged is the Seq of the last record by which events were purged; 0: as it was.
	Purged int64
}

func putRooms(ctx context.Context, tx *sqldb.Tx, list []Room) error {
	return putMany(ctx, tx, list, []int{1}, `INSERT INTO rooms (room_id, seq, joined, invited, active, bumped, purged) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (room_id) DO UPDATE SET seq = excluded.seq, joined = excluded.joined, invited = excluded.invited,
			active = CASE WHEN excluded.active > 0 THEN excluded.active ELSE rooms.active END,
			bumped = CASE WHEN excluded.bumped > 0 THEN excluded.bumped ELSE rooms.bumped END,
			purged = CASE WHEN excluded.purged > rooms.purged THEN excluded.purged ELSE rooms.purged END
		WHERE excluded.seq >= rooms.seq`,
		func(r *Room) []any { return []any{r.RoomID, r.Seq, r.Joined, r.Invited, r.Active, r.Bumped, r.Purged} })
}

// Rooms returns those of the rooms that are known.
func (s *Store) Rooms(ctx context.Context, ids []string) ([]Room, error) {
	return query(ctx, s, "rooms", `SELECT room_id, seq, joined, invited, active, bumped, purged FROM rooms WHERE room_id `+s.db.Any("$1"), []any{sqldb.List(ids)},
		func(r scanner) (Room, error) {
			var o Room
			return o, r.Scan(&o.RoomID, &o.Seq, &o.Joined, &o.Invited, &o.Active, &o.Bumped, &o.Purged)
		})
}

// KnownRooms returns IDs of rooms of which the view has anything, in the order
// of the database, after one of them.
func (s *Store) KnownRooms(ctx context.Context, after string, limit int) ([]string, error) {
	return query(ctx, s, "known rooms", `SELECT room_id FROM rooms WHERE room_id > $1
		UNION SELECT room_id FROM memberships WHERE room_id > $1 ORDER BY 1 LIMIT $2`, []any{after, limit},
		func(r scanner) (string, error) {
			var id string
			return id, r.Scan(&id)
		})
}

// clearRooms drops what came of room.output of the rooms.
func (s *Store) clearRooms(ctx context.Context, tx *sqldb.Tx, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	for _, table := range roomTables() {
		if _, err := tx.Exec(ctx, `DELETE FROM `+table+` WHERE room_id `+s.db.Any("$1"), sqldb.List(ids)); err != nil {
			return err
		}
	}
	return nil
}

// roomTables are those that are made of room.output.
func roomTables() []string {
	return []string{"memberships", "relations", "threads", "unread", "rooms"}
}
