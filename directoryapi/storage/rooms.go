package storage

import (
	"context"
	"strings"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/directoryapi/api"
)

const (
	selectKnownRooms = `SELECT room_id FROM rooms WHERE room_id > $1 UNION SELECT room_id FROM memberships WHERE room_id > $1 ORDER BY 1 LIMIT $2`
	roomColumns      = `room_id, version, room_type, name, topic, canonical_alias, avatar_url, join_rule, encryption, replaced,
    world_readable, guest_can_join, federate, joined`
	upsertRoom = `INSERT INTO rooms (` + roomColumns + `, search)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
ON CONFLICT (room_id) DO UPDATE SET version = excluded.version, room_type = excluded.room_type, name = excluded.name,
    topic = excluded.topic, canonical_alias = excluded.canonical_alias, avatar_url = excluded.avatar_url,
    join_rule = excluded.join_rule, encryption = excluded.encryption, replaced = excluded.replaced,
    world_readable = excluded.world_readable, guest_can_join = excluded.guest_can_join, federate = excluded.federate,
    joined = excluded.joined, search = excluded.search`
	updateJoined    = `UPDATE rooms SET joined = $1 WHERE room_id = $2`
	deleteRoom      = `DELETE FROM rooms WHERE room_id = $1`
	selectRoomsHead = `SELECT r.room_id, r.version, r.room_type, r.name, r.topic, r.canonical_alias, r.avatar_url, r.join_rule, r.encryption,
    r.replaced, r.world_readable, r.guest_can_join, r.federate, r.joined, CASE WHEN p.room_id IS NULL THEN 0 ELSE 1 END
FROM rooms r LEFT JOIN published p ON p.room_id = r.room_id WHERE r.room_id `
)

// searchBytes bounds what of a name or topic can be found by searching.
const searchBytes = 1000

// PutRooms writes rows within a transaction, of each room one.
func (d *Database) PutRooms(ctx context.Context, tx *sqldb.Tx, list []api.Room) error {
	rows := make([][]any, len(list))
	for i := range list {
		r := &list[i]
		rows[i] = []any{
			r.RoomID, clean(r.Version), clean(r.Type), clean(r.Name), clean(r.Topic), clean(r.CanonicalAlias), clean(r.AvatarURL),
			clean(r.JoinRule), clean(r.Encryption), clean(r.Replaced), number(r.WorldReadable), number(r.GuestCanJoin),
			number(r.Federate), int64(r.JoinedCount), searchText(r)}
	}
	_, err := tx.ExecMany(ctx, upsertRoom, []int{1}, rows)
	return err
}

// SetJoined writes only the numbers of members, by room, within a transaction.
func (d *Database) SetJoined(ctx context.Context, tx *sqldb.Tx, joined map[string]int) error {
	rows := make([][]any, 0, len(joined))
	for roomID, n := range joined {
		rows = append(rows, []any{int64(n), roomID})
	}
	_, err := tx.ExecMany(ctx, updateJoined, []int{2}, rows)
	return err
}

// PurgeRoom removes all that is about a room within a transaction.
func (d *Database) PurgeRoom(ctx context.Context, tx *sqldb.Tx, roomID string) error {
	for _, text := range []string{deleteRoom, deleteRoomMemberships, deleteRoomAnnotations, deletePublished, deleteRoomAliases, purgeGuestRoom} {
		if _, err := tx.Exec(ctx, text, roomID); err != nil {
			return err
		}
	}
	return nil
}

// ClearRoom removes what is known of a room from room.output alone, within a
// transaction.
func (d *Database) ClearRoom(ctx context.Context, tx *sqldb.Tx, roomID string) error {
	for _, text := range []string{deleteRoom, deleteRoomMemberships, deleteRoomAnnotations} {
		if _, err := tx.Exec(ctx, text, roomID); err != nil {
			return err
		}
	}
	return nil
}

// KnownRooms returns IDs of rooms of which the view has anything, in the order
// of the database, after one of them.
func (d *Database) KnownRooms(ctx context.Context, after string, limit int) ([]string, error) {
	return d.texts(ctx, selectKnownRooms, after, limit)
}

// Rooms reads rows, with their published flags; unknown rooms are left out.
func (d *Database) Rooms(ctx context.Context, roomIDs []string) (out []api.Room, err error) {
	err = d.db.ReadOne(ctx, func(tx *sqldb.Tx) error {
		out, err = d.RoomsTx(ctx, tx, roomIDs)
		return err
	})
	return out, err
}

// RoomsTx is Rooms within a transaction.
func (d *Database) RoomsTx(ctx context.Context, tx *sqldb.Tx, roomIDs []string) ([]api.Room, error) {
	rows, err := tx.Query(ctx, selectRoomsHead+d.db.Any("$1")+` ORDER BY r.room_id`, sqldb.List(roomIDs))
	if err != nil {
		return nil, err
	}
	return scanRooms(rows)
}

func scanRooms(rows *sqldb.Rows) ([]api.Room, error) {
	defer rows.Close()
	var out []api.Room
	for rows.Next() {
		var room api.Room
		var world, guest, federate, joined, published int64
		err := rows.Scan(
			&room.RoomID, &room.Version, &room.Type, &room.Name, &room.Topic, &room.CanonicalAlias, &room.AvatarURL,
			&room.JoinRule, &room.Encryption, &room.Replaced, &world, &guest, &federate, &joined, &published)
		if err != nil {
			return nil, err
		}
		room.WorldReadable, room.GuestCanJoin, room.Federate = world != 0, guest != 0, federate != 0
		room.JoinedCount, room.Published = int(joined), published != 0
		out = append(out, room)
	}
	return out, rows.Err()
}

// searchText is what a room is found by.
func searchText(r *api.Room) string {
	parts := []string{r.Name, r.Topic, r.CanonicalAlias}
	for i, p := range parts {
		if len(p) > searchBytes {
			p = strings.ToValidUTF8(p[:searchBytes], "")
		}
		parts[i] = p
	}
	return clean(strings.ToLower(strings.Join(parts, "\n")))
}
