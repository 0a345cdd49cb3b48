package storage

import (
	"context"
	"math"

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
	// StateSeq and Fork say what the state after the event is; both 0: that of
	// the room at Seq. It is unknown of outliers.
	StateSeq, Fork int64
	RedactedBy     string
	Output, JSON   []byte
	// Version of the event's room: read with it, not stored in the row.
	Version string
}

// EventNID is the event_nid of what has a Seq of its own.
func EventNID(partition int, seq int64) int64 { return int64(partition)<<40 | seq }

// OtherNID is the event_nid of the n-th event of a partition without a Seq.
func OtherNID(partition int, n int64) int64 { return 1<<60 | EventNID(partition, n) }

// Partition is the partition of an event_nid.
func Partition(nid int64) int { return int(nid &^ (1 << 60) >> 40) }

const eventColumns = `e.event_nid, e.room_nid, e.event_id, e.seq, e.sub, e.ts, e.flags, e.state_seq, e.fork_nid, e.redacted_by, e.output, e.json, r.version
	FROM events e JOIN rooms r ON r.room_nid = e.room_nid `

func scanEvent(r scanner) (*Event, error) {
	e := new(Event)
	return e, r.Scan(&e.NID, &e.RoomNID, &e.EventID, &e.Seq, &e.Sub, &e.TS, &e.Flags, &e.StateSeq, &e.Fork, &e.RedactedBy, &e.Output, &e.JSON, &e.Version)
}

// EventsByID returns the events that are known, in no order.
func (s *Store) EventsByID(ctx context.Context, tx *sqldb.Tx, ids []string) ([]*Event, error) {
	return collect(ctx, tx, scanEvent, `SELECT `+eventColumns+`WHERE e.event_id `+s.Any("$1"), sqldb.List(ids))
}

// EventsByNID returns events by number, in no order.
func (s *Store) EventsByNID(ctx context.Context, tx *sqldb.Tx, nids []int64) ([]*Event, error) {
	return collect(ctx, tx, scanEvent, `SELECT `+eventColumns+`WHERE e.event_nid `+s.Any("$1"), sqldb.List(nids))
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

// Timeline returns the event_nids of a stretch, without outliers, rejected and
// soft-failed events.
func (s *Store) Timeline(ctx context.Context, tx *sqldb.Tx, r Range) ([]int64, error) {
	order := "ASC"
	if r.Backwards {
		order = "DESC"
	}
	return collect(ctx, tx, scanNID, `SELECT event_nid FROM events WHERE room_nid = $1 AND (seq, sub) > ($2, $3) AND (seq, sub) <= ($4, $5)
		AND flags = 0 AND seq > 0 ORDER BY seq `+order+`, sub `+order+` LIMIT $6`,
		r.RoomNID, r.AfterSeq, r.AfterSub, r.ToSeq, r.ToSub, r.Limit)
}

func scanNID(r scanner) (v int64, err error) { return v, r.Scan(&v) }

// Moment is a place in the order of a room's events by time.
type Moment struct{ TS, Seq, Sub int64 }

// At is right before all events of a time, or backwards right after them.
func At(ts int64, backwards bool) Moment {
	if backwards {
		return Moment{ts, math.MaxInt64, 0}
	}
	return Moment{TS: ts}
}

// ClosestEvent returns the timeline event next to a moment in one direction; nil
// if there is none.
func (s *Store) ClosestEvent(ctx context.Context, tx *sqldb.Tx, roomNID int64, from Moment, backwards bool) (*Event, error) {
	found, err := collect(ctx, tx, scanEvent, closestEvent(backwards), roomNID, from.TS, from.Seq, from.Sub)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return found[0], nil
}

func closestEvent(backwards bool) string {
	where, order := ">", "ASC"
	if backwards {
		where, order = "<", "DESC"
	}
	return `SELECT ` + eventColumns + `WHERE e.room_nid = $1 AND (e.ts, e.seq, e.sub) ` + where + ` ($2, $3, $4)
		AND e.flags = 0 AND e.seq > 0 ORDER BY e.ts ` + order + `, e.seq ` + order + `, e.sub ` + order + ` LIMIT 1`
}

// EarlyRedactions returns the redactions that came before the target.
func (s *Store) EarlyRedactions(ctx context.Context, tx *sqldb.Tx, target string) ([]string, error) {
	return collect(ctx, tx, scanText, `SELECT redaction_id FROM early_redactions WHERE target_id = $1 ORDER BY redaction_id`, target)
}

// ForgetEarlyRedaction drops a redaction that came before its target.
func (s *Store) ForgetEarlyRedaction(ctx context.Context, tx *sqldb.Tx, target, redaction string) error {
	_, err := tx.Exec(ctx, `DELETE FROM early_redactions WHERE target_id = $1 AND redaction_id = $2`, target, redaction)
	return err
}

func scanText(r scanner) (v string, err error) { return v, r.Scan(&v) }

// Archive returns a room's outliers, in the order of their coming, or the events
// of its timeline, soft-failed ones included, after an event.
func (s *Store) Archive(ctx context.Context, tx *sqldb.Tx, roomNID int64, outliers bool, after Event, limit int) ([]*Event, error) {
	if outliers {
		return collect(ctx, tx, scanEvent, `SELECT `+eventColumns+`WHERE e.room_nid = $1 AND e.seq = 0 AND e.flags = 4 AND e.event_nid > $2
			ORDER BY e.event_nid LIMIT $3`, roomNID, after.NID, limit)
	}
	return collect(ctx, tx, scanEvent, `SELECT `+eventColumns+`WHERE e.room_nid = $1 AND (e.seq, e.sub) > ($2, $3) AND e.seq > 0
		ORDER BY e.seq, e.sub LIMIT $4`, roomNID, after.Seq, after.Sub, limit)
}
