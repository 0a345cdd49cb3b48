package storage

import (
	"context"
	"database/sql"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// Flags of events.
const (
	Rejected   = 1
	SoftFailed = 2
	Outlier    = 4
)

// Event is a row of events.
type Event struct {
	NID, RoomNID int64
	EventID      string
	Seq, Sub     int64
	TS           int64
	Flags        int64
	RedactedBy   string
	Output, JSON []byte
	// Version of the event's room: read with it, not stored in the row.
	Version string
}

const firstOutlierNID = 1 << 60

// EventNID is the event_nid of what has a Seq of its own.
func EventNID(partition int, seq int64) int64 { return int64(partition)<<40 | seq }

// Position undoes EventNID. Events that have no Seq of their own give false.
func (e *Event) Partition() (int, bool) {
	if e.NID >= firstOutlierNID {
		return 0, false
	}
	return int(e.NID >> 40), true
}

// LastOutlierNID returns the greatest event_nid given to events without a Seq.
func (s *Store) LastOutlierNID(ctx context.Context, tx *sqldb.Tx) (int64, error) {
	var nid sql.NullInt64
	err := tx.QueryRow(ctx, `SELECT max(event_nid) FROM events WHERE event_nid >= $1`, int64(firstOutlierNID)).Scan(&nid)
	return max(nid.Int64, firstOutlierNID), err
}

// PutEvent stores an event.
func (s *Store) PutEvent(ctx context.Context, tx *sqldb.Tx, e *Event) error {
	_, err := tx.Exec(ctx, `INSERT INTO events (event_nid, room_nid, event_id, seq, sub, ts, flags, redacted_by, output, json)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		e.NID, e.RoomNID, e.EventID, e.Seq, e.Sub, e.TS, e.Flags, e.RedactedBy, e.Output, e.JSON)
	return err
}

// RedactEvent replaces an event's JSON by what its redaction leaves.
func (s *Store) RedactEvent(ctx context.Context, tx *sqldb.Tx, eventID, redactedBy string, json []byte) error {
	_, err := tx.Exec(ctx, `UPDATE events SET json = $1, redacted_by = $2 WHERE event_id = $3`, json, redactedBy, eventID)
	return err
}

const eventColumns = `e.event_nid, e.room_nid, e.event_id, e.seq, e.sub, e.ts, e.flags, e.redacted_by, e.output, e.json, r.version
	FROM events e JOIN rooms r ON r.room_nid = e.room_nid `

func scanEvent(r scanner) (*Event, error) {
	e := new(Event)
	return e, r.Scan(&e.NID, &e.RoomNID, &e.EventID, &e.Seq, &e.Sub, &e.TS, &e.Flags, &e.RedactedBy, &e.Output, &e.JSON, &e.Version)
}

// EventsByID returns the events that are known, in no order.
func (s *Store) EventsByID(ctx context.Context, tx *sqldb.Tx, ids []string) ([]*Event, error) {
	return collect(ctx, tx, scanEvent, `SELECT `+eventColumns+`WHERE e.event_id `+s.Any("$1"), sqldb.List(ids))
}

// EventsByNID returns events by number, in no order.
func (s *Store) EventsByNID(ctx context.Context, tx *sqldb.Tx, nids []int64) ([]*Event, error) {
	return collect(ctx, tx, scanEvent, `SELECT `+eventColumns+`WHERE e.event_nid `+s.Any("$1"), sqldb.List(nids))
}

// Outputs returns what a partition's outputs after a Seq were made of, in order.
func (s *Store) Outputs(ctx context.Context, tx *sqldb.Tx, partition int, after int64, limit int) ([]*Event, error) {
	return collect(ctx, tx, scanEvent, `SELECT `+eventColumns+`WHERE e.event_nid > $1 AND e.event_nid < $2 ORDER BY e.event_nid LIMIT $3`,
		EventNID(partition, after), EventNID(partition+1, 0), limit)
}

// Range is a stretch of a room's timeline: (seq, sub) above After, up to and
// including To.
type Range struct {
	RoomNID            int64
	AfterSeq, AfterSub int64
	ToSeq, ToSub       int64
	Backwards          bool
	Limit              int
}

// Timeline returns events of a stretch, without outliers, rejected and soft-failed ones.
func (s *Store) Timeline(ctx context.Context, tx *sqldb.Tx, r Range) ([]*Event, error) {
	order := "ASC"
	if r.Backwards {
		order = "DESC"
	}
	return collect(ctx, tx, scanEvent, `SELECT `+eventColumns+`WHERE e.room_nid = $1 AND (e.seq, e.sub) > ($2, $3) AND (e.seq, e.sub) <= ($4, $5)
		AND e.flags = 0 AND e.seq > 0 ORDER BY e.seq `+order+`, e.sub `+order+` LIMIT $6`,
		r.RoomNID, r.AfterSeq, r.AfterSub, r.ToSeq, r.ToSub, r.Limit)
}

// ClosestEvent returns the timeline event closest to a time in one direction;
// nil if there is none.
func (s *Store) ClosestEvent(ctx context.Context, tx *sqldb.Tx, roomNID, ts int64, backwards bool, skip int) (*Event, error) {
	where, order := "e.ts >= $2", "ASC"
	if backwards {
		where, order = "e.ts <= $2", "DESC"
	}
	found, err := collect(ctx, tx, scanEvent, `SELECT `+eventColumns+`WHERE e.room_nid = $1 AND `+where+` AND e.flags = 0 AND e.seq > 0
		ORDER BY e.ts `+order+`, e.seq `+order+`, e.sub `+order+` LIMIT 1 OFFSET $3`, roomNID, ts, skip)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return found[0], nil
}

// PutEarlyRedaction remembers a redaction whose target is not known.
func (s *Store) PutEarlyRedaction(ctx context.Context, tx *sqldb.Tx, target, redaction string) error {
	_, err := tx.Exec(ctx, `INSERT INTO early_redactions (target_id, redaction_id) VALUES ($1, $2) ON CONFLICT DO NOTHING`, target, redaction)
	return err
}
