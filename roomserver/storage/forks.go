package storage

import (
	"context"
	"database/sql"
	"errors"

	"github.com/go-json-experiment/json"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// Fork is a state that differs from what a room has been in: that of the room
// at BaseSeq, or (not 0) of the fork Parent, and Entries.
type Fork struct {
	NID, RoomNID    int64
	BaseSeq, Parent int64
	// Depth is the length of the chain of parents.
	Depth   int64
	Entries []ForkEntry
}

// ForkEntry is an entry of a fork.
type ForkEntry struct {
	Type, StateKey string
	EventNID       int64  // 0: there is none
	EventID        string // read only
}

// Fork returns a fork; nil if there is none.
func (s *Store) Fork(ctx context.Context, tx *sqldb.Tx, nid int64) (*Fork, error) {
	f := &Fork{NID: nid}
	err := tx.QueryRow(ctx, `SELECT room_nid, base_seq, parent_nid, depth FROM forks WHERE fork_nid = $1`, nid).
		Scan(&f.RoomNID, &f.BaseSeq, &f.Parent, &f.Depth)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	f.Entries, err = collect(ctx, tx, func(r scanner) (e ForkEntry, err error) {
		return e, r.Scan(&e.Type, &e.StateKey, &e.EventNID, &e.EventID)
	}, `SELECT f.type, f.state_key, f.event_nid, coalesce(e.event_id, '') FROM fork_entries f
		LEFT JOIN events e ON e.event_nid = f.event_nid WHERE f.fork_nid = $1`, nid)
	return f, err
}

// Gap is where history is missing: right before (Seq, Sub).
type Gap struct {
	Seq, Sub int64
	Missing  []string // event IDs
}

// PutGaps stores a room's gaps in place of those that it had.
func (s *Store) PutGaps(ctx context.Context, tx *sqldb.Tx, roomNID int64, gaps []Gap) error {
	if _, err := tx.Exec(ctx, `DELETE FROM gaps WHERE room_nid = $1`, roomNID); err != nil {
		return err
	}
	rows := make([][]any, 0, len(gaps))
	for _, g := range gaps {
		missing, err := json.Marshal(g.Missing)
		if err != nil {
			return err
		}
		rows = append(rows, []any{roomNID, g.Seq, g.Sub, string(missing)})
	}
	_, err := tx.ExecMany(ctx, `INSERT INTO gaps (room_nid, seq, sub, missing) VALUES ($1, $2, $3, $4)`, nil, rows)
	return err
}

// Gaps returns a room's gaps, the newest first.
func (s *Store) Gaps(ctx context.Context, tx *sqldb.Tx, roomNID int64) ([]Gap, error) {
	return collect(ctx, tx, scanGap, `SELECT seq, sub, missing FROM gaps WHERE room_nid = $1 ORDER BY seq DESC, sub DESC`, roomNID)
}

// GapBefore returns the newest gap of a room up to a place; nil if there is none.
func (s *Store) GapBefore(ctx context.Context, tx *sqldb.Tx, roomNID, seq, sub int64) (*Gap, error) {
	found, err := collect(ctx, tx, scanGap, `SELECT seq, sub, missing FROM gaps WHERE room_nid = $1 AND (seq, sub) <= ($2, $3)
		ORDER BY seq DESC, sub DESC LIMIT 1`, roomNID, seq, sub)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return &found[0], nil
}

func scanGap(r scanner) (g Gap, err error) {
	var missing string
	if err := r.Scan(&g.Seq, &g.Sub, &missing); err != nil {
		return g, err
	}
	return g, json.Unmarshal([]byte(missing), &g.Missing)
}

// AddToStateSet adds events to a set.
func (s *Store) AddToStateSet(ctx context.Context, tx *sqldb.Tx, roomNID int64, set string, ts int64, ids []string) error {
	rows := make([][]any, 0, len(ids))
	for _, id := range ids {
		rows = append(rows, []any{roomNID, set, id, ts})
	}
	_, err := tx.ExecMany(ctx, `INSERT INTO state_sets (room_nid, set_id, event_id, ts) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`, []int{3}, rows)
	return err
}

// StateSet returns the events of a set, in order.
func (s *Store) StateSet(ctx context.Context, tx *sqldb.Tx, roomNID int64, set string) ([]string, error) {
	return collect(ctx, tx, scanText, `SELECT event_id FROM state_sets WHERE room_nid = $1 AND set_id = $2 ORDER BY event_id`, roomNID, set)
}

// ForgetStateSet drops a set that has been used.
func (s *Store) ForgetStateSet(ctx context.Context, tx *sqldb.Tx, roomNID int64, set string) error {
	_, err := tx.Exec(ctx, `DELETE FROM state_sets WHERE room_nid = $1 AND set_id = $2`, roomNID, set)
	return err
}

// ForgetStateSets drops those of records older than ts.
func (s *Store) ForgetStateSets(ctx context.Context, tx *sqldb.Tx, ts int64) error {
	_, err := tx.Exec(ctx, `DELETE FROM state_sets WHERE ts < $1`, ts)
	return err
}
