package storage

import (
	"context"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// Marker says when a piece of a user's data was changed last.
type Marker struct {
	UserID, Kind, RoomID, Type string
	Seq                        int64 // of user.output
}

func putMarkers(ctx context.Context, tx *sqldb.Tx, list []Marker) error {
	return putMany(ctx, tx, list, []int{1, 2, 3, 4}, `INSERT INTO markers (user_id, kind, room_id, type, seq) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (user_id, kind, room_id, type) DO UPDATE SET seq = excluded.seq WHERE excluded.seq > markers.seq`,
		func(m *Marker) []any { return []any{m.UserID, m.Kind, m.RoomID, m.Type, m.Seq} })
}

// Markers returns all markers of a user.
func (s *Store) Markers(ctx context.Context, userID string) ([]Marker, error) {
	return query(ctx, s, "markers", `SELECT kind, room_id, type, seq FROM markers WHERE user_id = $1`, []any{userID},
		func(r scanner) (Marker, error) {
			m := Marker{UserID: userID}
			return m, r.Scan(&m.Kind, &m.RoomID, &m.Type, &m.Seq)
		})
}
