package storage

import (
	"context"
	"slices"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// Relation is an event that relates to another of its room.
type Relation struct {
	RoomID, Parent, RelType string
	EventID, Type, Sender   string
	TS                      int64 // origin_server_ts
	Seq, Sub                int64
	// Usable is false for replacements that hold nothing to replace with.
	Usable bool
}

func putRelations(ctx context.Context, tx *sqldb.Tx, list []Relation) error {
	err := putMany(ctx, tx, list, []int{1, 2, 8, 9, 4}, `INSERT INTO relations (room_id, parent, rel_type, event_id, type, sender, ts, seq, sub, usable)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (room_id, parent, seq, sub, event_id) DO NOTHING`,
		func(r *Relation) []any {
			usable := 0
			if r.Usable {
				usable = 1
			}
			return []any{r.RoomID, r.Parent, r.RelType, r.EventID, r.Type, r.Sender, r.TS, r.Seq, r.Sub, usable}
		})
	if err != nil {
		return err
	}
	threads := slices.DeleteFunc(slices.Clone(list), func(r Relation) bool { return r.RelType != "m.thread" })
	return putMany(ctx, tx, threads, []int{1, 2}, `INSERT INTO threads (room_id, root, seq, sub) VALUES ($1, $2, $3, $4)
		ON CONFLICT (room_id, root) DO UPDATE SET seq = excluded.seq, sub = excluded.sub
		WHERE excluded.seq > threads.seq OR excluded.seq = threads.seq AND excluded.sub > threads.sub`,
		func(r *Relation) []any { return []any{r.RoomID, r.Parent, r.Seq, r.Sub} })
}

// unrelate ends what a redacted event related to, and moves or ends its thread.
func unrelate(ctx context.Context, tx *sqldb.Tx, e *RoomEvent) error {
	var root string
	err := tx.QueryRow(ctx, `SELECT COALESCE(MAX(parent), '') FROM relations WHERE room_id = $1 AND event_id = $2 AND rel_type = 'm.thread'`,
		e.RoomID, e.EventID).Scan(&root)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `DELETE FROM relations WHERE room_id = $1 AND event_id = $2`, e.RoomID, e.EventID); err != nil || root == "" {
		return err
	}
	return moveThread(ctx, tx, e.RoomID, root)
}

// moveThread notes which event of a thread is the latest now, or ends it.
func moveThread(ctx context.Context, tx *sqldb.Tx, roomID, root string) error {
	if _, err := tx.Exec(ctx, `DELETE FROM threads WHERE room_id = $1 AND root = $2`, roomID, root); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `INSERT INTO threads (room_id, root, seq, sub)
		SELECT room_id, parent, seq, sub FROM relations WHERE room_id = $1 AND parent = $2 AND rel_type = 'm.thread'
		ORDER BY seq DESC, sub DESC LIMIT 1`, roomID, root)
	return err
}

// bundled are the relation types that are aggregated into their parents.
const bundled = `rel_type IN ('m.replace', 'm.thread', 'm.reference')`

// Children returns what relates to the parents in a way that is aggregated, up
// to the position, oldest first; at most limit.
func (s *Store) Children(ctx context.Context, roomID string, parents []string, upTo int64, limit int) ([]Relation, error) {
	return s.relations(ctx, "children", `SELECT `+relationColumns+` FROM relations WHERE room_id = $1 AND parent `+s.db.Any("$2")+`
		AND `+bundled+` AND seq <= $3 ORDER BY seq, sub LIMIT $4`, roomID, roomID, sqldb.List(parents), upTo, limit)
}

const relationColumns = `parent, rel_type, event_id, type, sender, ts, seq, sub, usable`

func (s *Store) relations(ctx context.Context, what, text, roomID string, args ...any) ([]Relation, error) {
	return query(ctx, s, what, text, args, func(r scanner) (Relation, error) {
		o := Relation{RoomID: roomID}
		var usable int64
		err := r.Scan(&o.Parent, &o.RelType, &o.EventID, &o.Type, &o.Sender, &o.TS, &o.Seq, &o.Sub, &usable)
		o.Usable = usable != 0
		return o, err
	})
}

// Relating asks for events that relate to others.
type Relating struct {
	RoomID  string
	Parents []string
	// RelType and Type limit the answer unless they are "".
	RelType, Type string
	// After and Before bound the positions: (After, Before].
	After, Before [2]int64 // Seq, Sub
	Backwards     bool
	Limit         int
}

// Relating returns a stretch of the events that relate to the parents, in the
// order asked for.
func (s *Store) Relating(ctx context.Context, q Relating) ([]Relation, error) {
	order := `ORDER BY seq, sub`
	if q.Backwards {
		order = `ORDER BY seq DESC, sub DESC`
	}
	return s.relations(ctx, "relating", `SELECT `+relationColumns+` FROM relations WHERE room_id = $1 AND parent `+s.db.Any("$2")+`
		AND ($3 = '' OR rel_type = $3) AND ($4 = '' OR type = $4)
		AND (seq, sub) > ($5, $6) AND (seq, sub) <= ($7, $8) `+order+` LIMIT $9`, q.RoomID,
		q.RoomID, sqldb.List(q.Parents), q.RelType, q.Type, q.After[0], q.After[1], q.Before[0], q.Before[1], q.Limit)
}

// ParentsOf returns the relations of the events themselves: what each relates to.
func (s *Store) ParentsOf(ctx context.Context, roomID string, events []string) ([]Relation, error) {
	return s.relations(ctx, "parents", `SELECT `+relationColumns+` FROM relations WHERE room_id = $1 AND event_id `+s.db.Any("$2"),
		roomID, roomID, sqldb.List(events))
}

// Thread is a thread of a room with the position of its latest event.
type Thread struct {
	Root     string
	Seq, Sub int64
}

// Threads returns a room's threads whose latest event is before the position,
// latest first.
func (s *Store) Threads(ctx context.Context, roomID string, before [2]int64, limit int) ([]Thread, error) {
	return query(ctx, s, "threads", `SELECT root, seq, sub FROM threads WHERE room_id = $1
		AND (seq, sub) < ($2, $3) ORDER BY seq DESC, sub DESC LIMIT $4`,
		[]any{roomID, before[0], before[1], limit},
		func(r scanner) (Thread, error) {
			var t Thread
			return t, r.Scan(&t.Root, &t.Seq, &t.Sub)
		})
}

// Participated returns those of the threads in which the user has written.
func (s *Store) Participated(ctx context.Context, roomID string, roots []string, userID string) ([]string, error) {
	return query(ctx, s, "participated", `SELECT DISTINCT parent FROM relations WHERE room_id = $1 AND parent `+s.db.Any("$2")+`
		AND rel_type = 'm.thread' AND sender = $3`, []any{roomID, sqldb.List(roots), userID},
		func(r scanner) (string, error) {
			var id string
			return id, r.Scan(&id)
		})
}
