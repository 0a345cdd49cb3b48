package storage

import (
	"context"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// Membership is a change of the membership of a user of ours in a room.
type Membership struct {
	UserID, RoomID string
	Seq            int64
	Membership     string
	EventID        string
	Sender         string
	// Stripped is the stripped state that came with an invite or knock of a
	// room that we are not in: a JSON array, or "".
	Stripped string
	// TS is when it was logged, in milliseconds; 0: not known.
	TS int64
}

func putMemberships(ctx context.Context, tx *sqldb.Tx, list []Membership) error {
	return putMany(ctx, tx, list, []int{1, 2, 3}, `INSERT INTO memberships (user_id, room_id, seq, membership, event_id, sender, stripped, ts)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (user_id, room_id, seq) DO NOTHING`,
		func(m *Membership) []any {
			return []any{m.UserID, m.RoomID, m.Seq, m.Membership, m.EventID, m.Sender, m.Stripped, m.TS}
		})
}

// Memberships returns all changes of a user, by room and then ascending Seq.
func (s *Store) Memberships(ctx context.Context, userID string) ([]Membership, error) {
	return query(ctx, s, "memberships", `SELECT room_id, seq, membership, event_id, sender, stripped, ts FROM memberships
		WHERE user_id = $1 ORDER BY room_id, seq`, []any{userID},
		func(r scanner) (Membership, error) {
			m := Membership{UserID: userID}
			return m, r.Scan(&m.RoomID, &m.Seq, &m.Membership, &m.EventID, &m.Sender, &m.Stripped, &m.TS)
		})
}

// MembershipSeq returns the Seq of the change that an event made; 0 if there is none.
func (s *Store) MembershipSeq(ctx context.Context, userID, roomID, eventID string) (int64, error) {
	rows, err := query(ctx, s, "membership", `SELECT COALESCE(MAX(seq), 0) FROM memberships WHERE user_id = $1 AND room_id = $2 AND event_id = $3`,
		[]any{userID, roomID, eventID}, func(r scanner) (seq int64, err error) { return seq, r.Scan(&seq) })
	if err != nil || eventID == "" {
		return 0, err
	}
	return rows[0], nil
}

// Neighbours returns users of ours, at most limit, who are joined to one of the rooms.
func (s *Store) Neighbours(ctx context.Context, rooms []string, limit int) ([]string, error) {
	return query(ctx, s, "neighbours", `SELECT DISTINCT m.user_id FROM memberships m WHERE m.room_id `+s.db.Any("$1")+`
		AND m.membership = 'join' AND NOT EXISTS (SELECT 1 FROM memberships n
			WHERE n.user_id = m.user_id AND n.room_id = m.room_id AND n.seq > m.seq AND n.membership <> 'join')
		ORDER BY m.user_id LIMIT $2`, []any{sqldb.List(rooms), limit},
		func(r scanner) (string, error) {
			var id string
			return id, r.Scan(&id)
		})
}
