package storage

import (
	"context"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// OutOfRoom is an invite or a knock of a user of ours, of a room that we are
// not in.
type OutOfRoom struct {
	RoomID, UserID string
	Version        string
	EventID        string
	JSON, Stripped []byte
}

// PutOutOfRoom stores one in place of the last.
func (s *Store) PutOutOfRoom(ctx context.Context, tx *sqldb.Tx, o *OutOfRoom) error {
	_, err := tx.Exec(ctx, `INSERT INTO out_of_room (room_id, user_id, version, event_id, json, stripped) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (room_id, user_id) DO UPDATE SET version = excluded.version, event_id = excluded.event_id, json = excluded.json, stripped = excluded.stripped`,
		o.RoomID, o.UserID, o.Version, o.EventID, o.JSON, o.Stripped)
	return err
}

// OutOfRoom returns that of a user in a room; nil if there is none.
func (s *Store) OutOfRoom(ctx context.Context, tx *sqldb.Tx, roomID, userID string) (*OutOfRoom, error) {
	found, err := collect(ctx, tx, func(r scanner) (*OutOfRoom, error) {
		o := new(OutOfRoom)
		return o, r.Scan(&o.RoomID, &o.UserID, &o.Version, &o.EventID, &o.JSON, &o.Stripped)
	}, `SELECT room_id, user_id, version, event_id, json, stripped FROM out_of_room WHERE room_id = $1 AND user_id = $2`, roomID, userID)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return found[0], nil
}

// DropOutOfRoom forgets it.
func (s *Store) DropOutOfRoom(ctx context.Context, tx *sqldb.Tx, roomID, userID string) error {
	_, err := tx.Exec(ctx, `DELETE FROM out_of_room WHERE room_id = $1 AND user_id = $2`, roomID, userID)
	return err
}
