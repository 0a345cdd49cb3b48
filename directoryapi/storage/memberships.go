package storage

import (
	"context"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/directoryapi/api"
)

const (
	upsertMembership = `INSERT INTO memberships (user_id, room_id, membership, event_id) VALUES ($1, $2, $3, $4)
ON CONFLICT (user_id, room_id) DO UPDATE SET membership = excluded.membership, event_id = excluded.event_id`
	deleteMembership      = `DELETE FROM memberships WHERE user_id = $1 AND room_id = $2`
	deleteRoomMemberships = `DELETE FROM memberships WHERE room_id = $1`
	selectUserRooms       = `SELECT room_id, membership, event_id FROM memberships WHERE user_id = $1 ORDER BY room_id`
)

// Membership is a row.
type Membership struct {
	UserID string
	api.UserRoom
}

// PutMemberships writes rows within a transaction, of each user and room one at
// most; Membership "" removes it.
func (d *Database) PutMemberships(ctx context.Context, tx *sqldb.Tx, list []Membership) error {
	var now, gone [][]any
	for _, m := range list {
		if m.Membership == "" {
			gone = append(gone, []any{m.UserID, m.RoomID})
		} else {
			now = append(now, []any{m.UserID, m.RoomID, m.Membership, m.EventID})
		}
	}
	key := []int{1, 2}
	if _, err := tx.ExecMany(ctx, deleteMembership, key, gone); err != nil {
		return err
	}
	_, err := tx.ExecMany(ctx, upsertMembership, key, now)
	return err
}

// UserRooms returns a user's memberships, sorted by room ID.
func (d *Database) UserRooms(ctx context.Context, userID string) (out []api.UserRoom, err error) {
	err = d.db.ReadOne(ctx, func(tx *sqldb.Tx) error {
		out = nil
		rows, err := tx.Query(ctx, selectUserRooms, userID)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var room api.UserRoom
			if err := rows.Scan(&room.RoomID, &room.Membership, &room.EventID); err != nil {
				return err
			}
			out = append(out, room)
		}
		return rows.Err()
	})
	return out, err
}

// JoinedRooms returns the rows of rooms that users are joined to.
func (d *Database) JoinedRooms(ctx context.Context, users []string) (out []Membership, err error) {
	err = d.db.ReadOne(ctx, func(tx *sqldb.Tx) error {
		out = nil
		rows, err := tx.Query(ctx, `SELECT user_id, room_id FROM memberships WHERE user_id `+d.db.Any("$1")+` AND membership = 'join' ORDER BY user_id, room_id`,
			sqldb.List(users))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var m Membership
			if err := rows.Scan(&m.UserID, &m.RoomID); err != nil {
				return err
			}
			out = append(out, m)
		}
		return rows.Err()
	})
	return out, err
}
