package storage

import (
	"context"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// OutOfRoom is an invite or a knock of a user of ours, or the end of one, of a
// room that we are not in.
type OutOfRoom struct {
	RoomID, UserID string
	OutputNID      int64 // of the output that told of it
	Version        string
	EventID        string
	JSON, Stripped []byte
}

// PutOutOfRoom stores one in place of the last.
func (s *Store) PutOutOfRoom(ctx context.Context, tx *sqldb.Tx, o *OutOfRoom) error {
	_, err := tx.Exec(ctx, `INSERT INTO out_of_room (room_id, user_id, output_nid, version, event_id, json, stripped) VALUES ($1, $2, $3, $4, $5, $6, $7)
		ON CONFLICT (room_id, user_id) DO UPDATE SET output_nid = excluded.output_nid, version = excluded.version, event_id = excluded.event_id,
			json = excluded.json, stripped = excluded.stripped`,
		o.RoomID, o.UserID, o.OutputNID, o.Version, o.EventID, o.JSON, o.Stripped)
	return err
}

// OutOfRooms returns a partition's after a Seq, in the order of their outputs:
// those that no later change of the room's own state has overtaken.
func (s *Store) OutOfRooms(ctx context.Context, tx *sqldb.Tx, partition int, after int64, limit int) ([]*OutOfRoom, error) {
	return collect(ctx, tx, func(r scanner) (*OutOfRoom, error) {
		o := new(OutOfRoom)
		return o, r.Scan(&o.RoomID, &o.UserID, &o.OutputNID, &o.Version, &o.EventID, &o.JSON, &o.Stripped)
	}, `SELECT o.room_id, o.user_id, o.output_nid, o.version, o.event_id, o.json, o.stripped FROM out_of_room o
		WHERE o.output_nid > $1 AND o.output_nid < $2 AND NOT EXISTS (SELECT 1 FROM rooms r JOIN state_changes c ON c.room_nid = r.room_nid
			WHERE r.room_id = o.room_id AND c.type = 'm.room.member' AND c.state_key = o.user_id AND c.from_seq > o.output_nid - $3)
		ORDER BY o.output_nid LIMIT $4`, EventNID(partition, after), EventNID(partition+1, 0), EventNID(partition, 0), limit)
}
