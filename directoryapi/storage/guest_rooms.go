package storage

import (
	"context"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/directoryapi/api"
)

const (
	upsertGuestRoom = `INSERT INTO guest_rooms (room_id, seq) VALUES ($1, $2) ON CONFLICT (room_id) DO UPDATE SET seq = excluded.seq`
	selectGuestRoom = `SELECT room_id, seq FROM guest_rooms ORDER BY room_id LIMIT $1`
	deleteGuestRoom = `DELETE FROM guest_rooms WHERE room_id = $1 AND seq = $2`
	purgeGuestRoom  = `DELETE FROM guest_rooms WHERE room_id = $1`
	selectJoined    = `SELECT user_id FROM memberships WHERE room_id = $1 AND membership = 'join' ORDER BY user_id`
)

// PutGuestRoom notes within a transaction that a room is to be looked at for guests.
func (d *Database) PutGuestRoom(ctx context.Context, tx *sqldb.Tx, roomID string, seq int64) error {
	_, err := tx.Exec(ctx, upsertGuestRoom, roomID, seq)
	return err
}

// GuestRooms returns rooms to be looked at, with the local users who are joined.
func (d *Database) GuestRooms(ctx context.Context, limit int) (out []api.GuestRoom, err error) {
	err = d.db.Read(ctx, func(tx *sqldb.Tx) error {
		out = nil
		rows, err := tx.Query(ctx, selectGuestRoom, limit)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var room api.GuestRoom
			if err := rows.Scan(&room.RoomID, &room.Seq); err != nil {
				return err
			}
			out = append(out, room)
		}
		return rows.Err()
	})
	for i := range out {
		if err == nil {
			out[i].Joined, err = d.texts(ctx, selectJoined, out[i].RoomID)
		}
	}
	return out, err
}

// DropGuestRoom says that a room was looked at, if nothing has been noted since.
func (d *Database) DropGuestRoom(ctx context.Context, roomID string, seq int64) error {
	return d.db.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, deleteGuestRoom, roomID, seq)
		return err
	})
}
