package storage

import (
	"context"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// DeviceList says when a user's keys changed last, for everybody or, if Viewer is
// not "", for that user.
type DeviceList struct {
	UserID, Viewer string
	Seq            int64 // of user.output
}

func putDeviceLists(ctx context.Context, tx *sqldb.Tx, list []DeviceList) error {
	return putMany(ctx, tx, list, []int{1, 2}, `INSERT INTO device_lists (user_id, viewer, seq) VALUES ($1, $2, $3)
		ON CONFLICT (user_id, viewer) DO UPDATE SET seq = excluded.seq WHERE excluded.seq > device_lists.seq`,
		func(l *DeviceList) []any { return []any{l.UserID, l.Viewer, l.Seq} })
}

// joined is the text for: the row of memberships named so is of somebody who is
// joined now.
func joined(m string) string {
	return m + `.membership = 'join' AND NOT EXISTS (SELECT 1 FROM memberships n
		WHERE n.user_id = ` + m + `.user_id AND n.room_id = ` + m + `.room_id AND n.seq > ` + m + `.seq AND n.membership <> 'join')`
}

// DeviceLists returns the lists that changed after a Seq and that a user may be
// told of: of users joined to one of the rooms, and his own.
func (s *Store) DeviceLists(ctx context.Context, after int64, viewer string, rooms []string) ([]DeviceList, error) {
	return query(ctx, s, "device lists", `SELECT l.user_id, l.viewer, l.seq FROM device_lists l WHERE l.seq > $1
		AND (l.viewer = $2 OR l.viewer = '' AND (l.user_id = $3 OR EXISTS (SELECT 1 FROM memberships m
			WHERE m.user_id = l.user_id AND m.room_id `+s.db.Any("$4")+` AND `+joined("m")+`)))`,
		[]any{after, viewer, viewer, sqldb.List(rooms)}, func(r scanner) (l DeviceList, err error) {
			return l, r.Scan(&l.UserID, &l.Viewer, &l.Seq)
		})
}

// JoinedRooms returns the rooms that a user is joined to.
func (s *Store) JoinedRooms(ctx context.Context, userID string) ([]string, error) {
	return query(ctx, s, "joined rooms", `SELECT DISTINCT m.room_id FROM memberships m WHERE m.user_id = $1 AND `+joined("m"),
		[]any{userID}, func(r scanner) (id string, err error) { return id, r.Scan(&id) })
}

// MemberChange is a change of somebody's membership, as little as tells who
// shares rooms.
type MemberChange struct {
	UserID, RoomID string
	Seq            int64
	Joined         bool
}

// MemberChanges returns the changes in rooms after a Seq, at most limit.
func (s *Store) MemberChanges(ctx context.Context, rooms []string, after int64, limit int) ([]MemberChange, error) {
	return query(ctx, s, "member changes", `SELECT user_id, room_id, seq, membership = 'join' FROM memberships
		WHERE room_id `+s.db.Any("$1")+` AND seq > $2 AND membership <> 'invite' ORDER BY seq DESC LIMIT $3`, []any{sqldb.List(rooms), after, limit},
		func(r scanner) (c MemberChange, err error) {
			return c, r.Scan(&c.UserID, &c.RoomID, &c.Seq, &c.Joined)
		})
}

// Among returns those of the users who are joined to one of the rooms.
func (s *Store) Among(ctx context.Context, users, rooms []string) ([]string, error) {
	return query(ctx, s, "members", `SELECT DISTINCT m.user_id FROM memberships m WHERE m.user_id `+s.db.Any("$1")+`
		AND m.room_id `+s.db.Any("$2")+` AND `+joined("m"), []any{sqldb.List(users), sqldb.List(rooms)},
		func(r scanner) (id string, err error) { return id, r.Scan(&id) })
}
