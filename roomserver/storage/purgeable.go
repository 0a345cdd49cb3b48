package storage

import (
	"context"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// Old is an event that may be old enough to go.
type Old struct {
	NID      int64
	EventID  string
	TS       int64
	Seq, Sub int64
	// Output is the header of its record of room.output; NULL for an event that was
	// rejected or has no place, of which JSON is read.
	Output, JSON []byte
}

func scanOld(r scanner) (o Old, err error) {
	return o, r.Scan(&o.NID, &o.EventID, &o.TS, &o.Seq, &o.Sub, &o.Output, &o.JSON)
}

// OlderThan returns timeline events of before a time, in the order of time, from a
// moment on.
func (s *Store) OlderThan(ctx context.Context, tx *sqldb.Tx, roomNID, before int64, after Moment, limit int) ([]Old, error) {
	return collect(ctx, tx, scanOld, `SELECT event_nid, event_id, ts, seq, sub, output, NULL FROM events WHERE room_nid = $1
		AND (ts, seq, sub) > ($2, $3, $4) AND ts < $5 AND flags = 0 AND seq > 0 ORDER BY ts, seq, sub LIMIT $6`,
		roomNID, after.TS, after.Seq, after.Sub, before, limit)
}

// OthersOlderThan returns events of before a time that are in no timeline that
// users see, after one of them.
func (s *Store) OthersOlderThan(ctx context.Context, tx *sqldb.Tx, roomNID, before, afterNID int64, limit int) ([]Old, error) {
	return collect(ctx, tx, scanOld, `SELECT event_nid, event_id, ts, seq, sub, output, json FROM events WHERE room_nid = $1
		AND flags <> 0 AND ts < $2 AND event_nid > $3 ORDER BY event_nid LIMIT $4`, roomNID, before, afterNID, limit)
}

// StandingBefore returns events of a room's timeline that stand before a place and
// after another, in order, soft-failed ones included.
func (s *Store) StandingBefore(ctx context.Context, tx *sqldb.Tx, roomNID, seq, sub, afterSeq, afterSub int64, limit int) ([]Old, error) {
	return collect(ctx, tx, scanOld, `SELECT event_nid, event_id, ts, seq, sub, output, NULL FROM events WHERE room_nid = $1
		AND (seq, sub) > ($2, $3) AND (seq, sub) < ($4, $5) AND seq > 0 ORDER BY seq, sub LIMIT $6`,
		roomNID, afterSeq, afterSub, seq, sub, limit)
}
