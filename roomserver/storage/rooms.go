package storage

import (
	"context"

	"github.com/go-json-experiment/json"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// Room is a row of rooms.
type Room struct {
	NID             int64
	ID, Version     string
	Partition       int
	Depth           int64
	LatestSeq       int64
	StateSeq        int64
	Joined, Invited int
	LocalJoined     int
	Gaps            int
	Extremities     []string
	Parked          string
}

const roomColumns = `SELECT room_id, room_nid, version, partition_id, depth, latest_seq, state_seq, joined, invited, local_joined, gaps, extremities, parked
	FROM rooms `

func scanRoom(row scanner) (*Room, error) {
	r := &Room{}
	var extremities string
	if err := row.Scan(&r.ID, &r.NID, &r.Version, &r.Partition, &r.Depth, &r.LatestSeq, &r.StateSeq, &r.Joined, &r.Invited, &r.LocalJoined, &r.Gaps,
		&extremities, &r.Parked); err != nil {
		return nil, err
	}
	return r, json.Unmarshal([]byte(extremities), &r.Extremities)
}

// Room returns a room; nil if there is none.
func (s *Store) Room(ctx context.Context, tx *sqldb.Tx, id string) (*Room, error) {
	found, err := collect(ctx, tx, scanRoom, roomColumns+`WHERE room_id = $1`, id)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return found[0], nil
}

// Rooms returns those of the rooms that are there.
func (s *Store) Rooms(ctx context.Context, tx *sqldb.Tx, ids []string) ([]*Room, error) {
	return collect(ctx, tx, scanRoom, roomColumns+`WHERE room_id `+s.Any("$1"), sqldb.List(ids))
}

// PurgeRoom forgets a room and all that is in it.
func (s *Store) PurgeRoom(ctx context.Context, tx *sqldb.Tx, roomNID int64) error {
	for _, text := range []string{
		`DELETE FROM out_of_room WHERE room_id = (SELECT room_id FROM rooms WHERE room_nid = $1)`,
		`DELETE FROM early_redactions WHERE redaction_id IN (SELECT event_id FROM events WHERE room_nid = $1)`,
		`DELETE FROM outputs WHERE room_nid = $1`,
		`DELETE FROM fork_entries WHERE fork_nid IN (SELECT fork_nid FROM forks WHERE room_nid = $1)`,
		`DELETE FROM forks WHERE room_nid = $1`, `DELETE FROM gaps WHERE room_nid = $1`, `DELETE FROM state_sets WHERE room_nid = $1`,
		`DELETE FROM state_changes WHERE room_nid = $1`, `DELETE FROM events WHERE room_nid = $1`, `DELETE FROM rooms WHERE room_nid = $1`,
	} {
		if _, err := tx.Exec(ctx, text, roomNID); err != nil {
			return err
		}
	}
	return nil
}

// DeleteEvents forgets events of a room, and what was published of those that were
// stored before they had a place: the others are published from their rows.
func (s *Store) DeleteEvents(ctx context.Context, tx *sqldb.Tx, roomNID int64, nids []int64) error {
	if _, err := tx.Exec(ctx, `DELETE FROM outputs WHERE room_nid = $1 AND event_nid `+s.Any("$2"), roomNID, sqldb.List(nids)); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `DELETE FROM events WHERE event_nid `+s.Any("$1"), sqldb.List(nids))
	return err
}

// ForgetPurges drops what was published of a room's purges of before a time.
func (s *Store) ForgetPurges(ctx context.Context, tx *sqldb.Tx, roomNID, before int64) error {
	_, err := tx.Exec(ctx, `DELETE FROM outputs WHERE room_nid = $1 AND event_nid < 0 AND event_nid > $2`, roomNID, -before)
	return err
}

// Request is an accepted request: its verdict, and the time of its record.
type Request struct {
	ID      string
	TS      int64
	Verdict []byte
}

// Requests returns those of the requests that were accepted.
func (s *Store) Requests(ctx context.Context, tx *sqldb.Tx, ids []string) ([]Request, error) {
	return collect(ctx, tx, func(r scanner) (v Request, err error) { return v, r.Scan(&v.ID, &v.TS, &v.Verdict) },
		`SELECT request_id, ts, verdict FROM requests WHERE request_id `+s.Any("$1"), sqldb.List(ids))
}

// ForgetRequests drops verdicts of records older than ts.
func (s *Store) ForgetRequests(ctx context.Context, tx *sqldb.Tx, ts int64) error {
	_, err := tx.Exec(ctx, `DELETE FROM requests WHERE ts < $1`, ts)
	return err
}
