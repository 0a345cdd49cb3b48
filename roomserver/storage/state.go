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

// stateAt selects the entries in force at Seq $2 of room $1. The subquery finds
// each in the primary key, whatever the engine thinks of the numbers of rows.
const stateAt = `SELECT c.type, c.state_key, c.from_seq, c.event_nid FROM state_changes c WHERE c.room_nid = $1
	AND c.event_nid <> 0 AND c.from_seq = (SELECT max(d.from_seq) FROM state_changes d WHERE d.room_nid = c.room_nid AND d.type = c.type
		AND d.state_key = c.state_key AND d.from_seq <= $2)`

// StateAt returns a room's state right after a Seq.
func (s *Store) StateAt(ctx context.Context, tx *sqldb.Tx, roomNID, seq int64) ([]StateChange, error) {
	return collect(ctx, tx, scanChange, stateAt, roomNID, seq)
}

// StateOfTypesAt returns the entries of some types.
func (s *Store) StateOfTypesAt(ctx context.Context, tx *sqldb.Tx, roomNID, seq int64, types []string) ([]StateChange, error) {
	var out []StateChange
	for _, t := range types { // for a list PostgreSQL may rather read the whole state
		found, err := collect(ctx, tx, scanChange, stateAt+` AND c.type = $3`, roomNID, seq, t)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

// StateWithoutMembersAt returns all entries but m.room.member.
func (s *Store) StateWithoutMembersAt(ctx context.Context, tx *sqldb.Tx, roomNID, seq int64) ([]StateChange, error) {
	return collect(ctx, tx, scanChange, stateAt+` AND c.type < 'm.room.member'
		UNION ALL `+stateAt+` AND c.type > 'm.room.member'`, roomNID, seq)
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

// Entry names an entry of a room's state as of a Seq.
type Entry struct {
	RoomNID        int64
	Type, StateKey string
	Seq            int64
}

var entryColumns = []string{"room_nid", "type", "state_key", "to_seq"}

// StateEvents returns the events that are entries of rooms' states, by what was
// asked for. What is missing there has no event.
func (s *Store) StateEvents(ctx context.Context, tx *sqldb.Tx, entries []Entry) (map[Entry]*Event, error) {
	asked := make([][]any, len(entries))
	for i, e := range entries {
		asked[i] = []any{e.RoomNID, e.Type, e.StateKey, e.Seq}
	}
	rows, err := tx.Query(ctx, `SELECT k.type, k.state_key, k.to_seq, `+eventColumns+`JOIN (SELECT k.type, k.state_key, k.to_seq,
			(SELECT c.event_nid FROM state_changes c WHERE c.room_nid = k.room_nid AND c.type = k.type AND c.state_key = k.state_key
				AND c.from_seq <= k.to_seq ORDER BY c.from_seq DESC LIMIT 1) AS event_nid
			FROM `+s.From("$1", "k", entryColumns)+`) k ON k.event_nid = e.event_nid`, sqldb.Records(entryColumns, asked))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := make(map[Entry]*Event, len(entries))
	for rows.Next() {
		var k Entry
		e, err := scanEvent(prefixed{rows, []any{&k.Type, &k.StateKey, &k.Seq}})
		if err != nil {
			return nil, err
		}
		k.RoomNID = e.RoomNID
		out[k] = e
	}
	return out, rows.Err()
}

// prefixed is a row with columns ahead of those that are scanned.
type prefixed struct {
	scanner
	ahead []any
}

func (p prefixed) Scan(dest ...any) error { return p.scanner.Scan(append(p.ahead, dest...)...) }

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
