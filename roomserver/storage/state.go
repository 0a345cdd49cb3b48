package storage

import (
	"context"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// StateChange is a row of state_changes: from the Seq on, the entry is the event.
type StateChange struct {
	Type, StateKey string
	FromSeq        int64
	EventNID       int64 // 0: no event
}

func scanChange(r scanner) (c StateChange, err error) {
	return c, r.Scan(&c.Type, &c.StateKey, &c.FromSeq, &c.EventNID)
}

// PutStateChange stores a change. Of two at one Seq the later counts.
func (s *Store) PutStateChange(ctx context.Context, tx *sqldb.Tx, roomNID int64, c StateChange) error {
	_, err := tx.Exec(ctx, `INSERT INTO state_changes (room_nid, type, state_key, from_seq, event_nid) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (room_nid, type, state_key, from_seq) DO UPDATE SET event_nid = excluded.event_nid`,
		roomNID, c.Type, c.StateKey, c.FromSeq, c.EventNID)
	return err
}

// stateAt selects the entries in force at Seq $2 of room $1.
const stateAt = `SELECT c.type, c.state_key, c.from_seq, c.event_nid FROM state_changes c WHERE c.room_nid = $1 AND c.from_seq <= $2
	AND c.event_nid <> 0 AND NOT EXISTS (SELECT 1 FROM state_changes d WHERE d.room_nid = c.room_nid AND d.type = c.type
		AND d.state_key = c.state_key AND d.from_seq > c.from_seq AND d.from_seq <= $2)`

// StateAt returns a room's state right after a Seq.
func (s *Store) StateAt(ctx context.Context, tx *sqldb.Tx, roomNID, seq int64) ([]StateChange, error) {
	return collect(ctx, tx, scanChange, stateAt, roomNID, seq)
}

// StateOfTypesAt returns the entries of some types.
func (s *Store) StateOfTypesAt(ctx context.Context, tx *sqldb.Tx, roomNID, seq int64, types []string) ([]StateChange, error) {
	return collect(ctx, tx, scanChange, stateAt+` AND c.type `+s.Any("$3"), roomNID, seq, sqldb.List(types))
}

// StateWithoutMembersAt returns all entries but m.room.member.
func (s *Store) StateWithoutMembersAt(ctx context.Context, tx *sqldb.Tx, roomNID, seq int64) ([]StateChange, error) {
	return collect(ctx, tx, scanChange, stateAt+` AND c.type <> 'm.room.member'`, roomNID, seq)
}

// StateEntryAt returns one entry; EventNID 0 if there is none.
func (s *Store) StateEntryAt(ctx context.Context, tx *sqldb.Tx, roomNID, seq int64, typ, stateKey string) (StateChange, error) {
	found, err := collect(ctx, tx, scanChange, `SELECT type, state_key, from_seq, event_nid FROM state_changes
		WHERE room_nid = $1 AND type = $2 AND state_key = $3 AND from_seq <= $4 ORDER BY from_seq DESC LIMIT 1`, roomNID, typ, stateKey, seq)
	if err != nil || len(found) == 0 {
		return StateChange{Type: typ, StateKey: stateKey}, err
	}
	return found[0], nil
}

// StateEntryHistory returns all that an entry was, oldest first.
func (s *Store) StateEntryHistory(ctx context.Context, tx *sqldb.Tx, roomNID int64, typ, stateKey string) ([]StateChange, error) {
	return collect(ctx, tx, scanChange, `SELECT type, state_key, from_seq, event_nid FROM state_changes
		WHERE room_nid = $1 AND type = $2 AND state_key = $3 ORDER BY from_seq`, roomNID, typ, stateKey)
}

// StateChangesIn returns what changed after one Seq up to another, in order.
func (s *Store) StateChangesIn(ctx context.Context, tx *sqldb.Tx, roomNID, after, to int64) ([]StateChange, error) {
	return collect(ctx, tx, scanChange, `SELECT type, state_key, from_seq, event_nid FROM state_changes
		WHERE room_nid = $1 AND from_seq > $2 AND from_seq <= $3 ORDER BY from_seq`, roomNID, after, to)
}

// StateIDChange is a changed entry with the event's ID; "" if there is none.
type StateIDChange struct{ Type, StateKey, EventID string }

// StateIDChangesIn returns the first of what changed after one Seq up to
// another, in order.
func (s *Store) StateIDChangesIn(ctx context.Context, tx *sqldb.Tx, roomNID, after, to int64, limit int) ([]StateIDChange, error) {
	return collect(ctx, tx, func(r scanner) (c StateIDChange, err error) { return c, r.Scan(&c.Type, &c.StateKey, &c.EventID) },
		`SELECT c.type, c.state_key, coalesce(e.event_id, '') FROM state_changes c LEFT JOIN events e ON e.event_nid = c.event_nid
		WHERE c.room_nid = $1 AND c.from_seq > $2 AND c.from_seq <= $3 ORDER BY c.from_seq LIMIT $4`, roomNID, after, to, limit)
}

// StateIDsAt is StateAt with the events' IDs.
func (s *Store) StateIDsAt(ctx context.Context, tx *sqldb.Tx, roomNID, seq int64, each func(c StateChange, eventID string)) error {
	rows, err := tx.Query(ctx, `SELECT s.type, s.state_key, s.from_seq, s.event_nid, e.event_id FROM (`+stateAt+`) s
		JOIN events e ON e.event_nid = s.event_nid`, roomNID, seq)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var c StateChange
		var id string
		if err := rows.Scan(&c.Type, &c.StateKey, &c.FromSeq, &c.EventNID, &id); err != nil {
			return err
		}
		each(c, id)
	}
	return rows.Err()
}

// LastStateChange returns the Seq of a room's last change up to a Seq; 0 if
// there was none.
func (s *Store) LastStateChange(ctx context.Context, tx *sqldb.Tx, roomNID, seq int64) (last int64, err error) {
	return last, tx.QueryRow(ctx, `SELECT coalesce(max(from_seq), 0) FROM state_changes WHERE room_nid = $1 AND from_seq <= $2`, roomNID, seq).Scan(&last)
}

// MembersOf returns all that the m.room.member entries of a server's users
// were, oldest first.
func (s *Store) MembersOf(ctx context.Context, tx *sqldb.Tx, roomNID int64, server string) ([]StateChange, error) {
	return collect(ctx, tx, scanChange, `SELECT type, state_key, from_seq, event_nid FROM state_changes WHERE room_nid = $1
		AND type = 'm.room.member' AND substr(state_key, length(state_key) - $2 + 1) = $3 ORDER BY from_seq`,
		roomNID, len(server)+1, ":"+server)
}
