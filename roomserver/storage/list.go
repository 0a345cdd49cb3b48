package storage

import (
	"context"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// RoomsAfter returns rooms of a partition in the order of their IDs, after one
// of them. Those of which nothing has been published are left out.
func (s *Store) RoomsAfter(ctx context.Context, tx *sqldb.Tx, partition int, after string, limit int) ([]*Room, error) {
	return collect(ctx, tx, func(r scanner) (*Room, error) {
		room := &Room{Partition: partition}
		return room, r.Scan(&room.NID, &room.ID, &room.Version, &room.LatestSeq, &room.Joined, &room.Invited)
	}, `SELECT room_nid, room_id, version, latest_seq, joined, invited FROM rooms
		WHERE partition_id = $1 AND room_id > $2 AND latest_seq > 0 ORDER BY room_id LIMIT $3`, partition, after, limit)
}

// RoomsOf returns those of the rooms of which something has been published, in
// no order.
func (s *Store) RoomsOf(ctx context.Context, tx *sqldb.Tx, ids []string) ([]*Room, error) {
	return collect(ctx, tx, func(r scanner) (*Room, error) {
		room := new(Room)
		return room, r.Scan(&room.ID, &room.Version, &room.LatestSeq, &room.Joined, &room.Invited)
	}, `SELECT room_id, version, latest_seq, joined, invited FROM rooms WHERE room_id `+s.Any("$1")+` AND latest_seq > 0`, sqldb.List(ids))
}

// MemberChanges returns what the entries of a room's members were up to a Seq,
// by state key and Seq, after one of them.
func (s *Store) MemberChanges(ctx context.Context, tx *sqldb.Tx, roomNID int64, afterKey string, afterSeq, to int64, limit int) ([]StateChange, error) {
	return collect(ctx, tx, scanChange, `SELECT type, state_key, from_seq, event_nid FROM state_changes
		WHERE room_nid = $1 AND type = 'm.room.member' AND (state_key, from_seq) > ($2, $3) AND from_seq <= $4
		ORDER BY state_key, from_seq LIMIT $5`, roomNID, afterKey, afterSeq, to, limit)
}
