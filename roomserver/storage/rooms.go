package storage

import (
	"context"
	"database/sql"
	"errors"

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

// Room returns a room; nil if there is none.
func (s *Store) Room(ctx context.Context, tx *sqldb.Tx, id string) (*Room, error) {
	r := &Room{ID: id}
	var extremities string
	err := tx.QueryRow(ctx, `SELECT room_nid, version, partition_id, depth, latest_seq, state_seq, joined, invited, local_joined, gaps, extremities, parked
		FROM rooms WHERE room_id = $1`, id).
		Scan(&r.NID, &r.Version, &r.Partition, &r.Depth, &r.LatestSeq, &r.StateSeq, &r.Joined, &r.Invited, &r.LocalJoined, &r.Gaps, &extremities, &r.Parked)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return r, json.Unmarshal([]byte(extremities), &r.Extremities)
}

// PutRoom stores a room.
func (s *Store) PutRoom(ctx context.Context, tx *sqldb.Tx, r *Room) error {
	extremities, err := json.Marshal(r.Extremities)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO rooms (room_nid, room_id, version, partition_id, depth, latest_seq, state_seq, joined, invited, local_joined, gaps, extremities, parked)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
		ON CONFLICT (room_nid) DO UPDATE SET depth = excluded.depth, latest_seq = excluded.latest_seq, state_seq = excluded.state_seq,
			joined = excluded.joined, invited = excluded.invited, local_joined = excluded.local_joined, gaps = excluded.gaps,
			extremities = excluded.extremities, parked = excluded.parked`,
		r.NID, r.ID, r.Version, r.Partition, r.Depth, r.LatestSeq, r.StateSeq, r.Joined, r.Invited, r.LocalJoined, r.Gaps, string(extremities), r.Parked)
	return err
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

// PutRequest stores a verdict.
func (s *Store) PutRequest(ctx context.Context, tx *sqldb.Tx, r Request) error {
	_, err := tx.Exec(ctx, `INSERT INTO requests (request_id, ts, verdict) VALUES ($1, $2, $3)
		ON CONFLICT (request_id) DO UPDATE SET ts = excluded.ts, verdict = excluded.verdict`, r.ID, r.TS, r.Verdict)
	return err
}

// ForgetRequests drops verdicts of records older than ts.
func (s *Store) ForgetRequests(ctx context.Context, tx *sqldb.Tx, ts int64) error {
	_, err := tx.Exec(ctx, `DELETE FROM requests WHERE ts < $1`, ts)
	return err
}
