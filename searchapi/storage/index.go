package storage

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// Key says which text of an event is indexed.
type Key int64

// The keys, as they are stored.
const (
	KeyBody Key = iota + 1
	KeyName
	KeyTopic
)

// Event is an event to be indexed.
type Event struct {
	EventID, RoomID, Sender string
	TS, Seq                 int64
	Key                     Key
	Level                   int64 // see the migration
	HasURL                  bool
}

// Edit is an event that replaces the text of another.
type Edit struct {
	EditID, ParentID, RoomID, Sender string
	TS                               int64
}

// Changes are what becomes of the index together. They are of an order: events and
// edits are not among what is gone.
type Changes struct {
	Events map[string]Event // by ID
	Edits  map[string]Edit
	// Gone are events that have no text any more, by their partition.
	Gone map[string]int
	// Texts are the terms of events and edits as far as they are known, by event.
	Texts map[string][]string
	// Partition is that of a room.
	Partition func(roomID string) int
}

// NewChanges are none yet.
func NewChanges(partition func(roomID string) int) *Changes {
	return &Changes{Events: map[string]Event{}, Edits: map[string]Edit{}, Gone: map[string]int{}, Texts: map[string][]string{}, Partition: partition}
}

// Empty tells whether nothing changes.
func (c *Changes) Empty() bool { return len(c.Events)+len(c.Edits)+len(c.Gone) == 0 }

// row is an event as it is stored, or is about to be.
type row struct {
	Event
	nid, roomNID int64
	words        int
	editID       string
	terms        []string
	fresh        bool // not stored yet
	stale        bool // without its text
}

// Apply makes changes.
func (d *Database) Apply(ctx context.Context, tx *sqldb.Tx, c *Changes) error {
	rooms, err := d.numberRooms(ctx, tx, c)
	if err != nil {
		return err
	}
	parents, err := d.drop(ctx, tx, c)
	if err != nil {
		return err
	}
	if err := d.putEdits(ctx, tx, c, rooms, parents); err != nil {
		return err
	}
	rows, err := d.place(ctx, tx, c, rooms)
	if err != nil {
		return err
	}
	return d.settle(ctx, tx, rows, parents, c.Texts, c.Partition)
}

// drop removes what is gone, and returns the events whose text that was.
func (d *Database) drop(ctx context.Context, tx *sqldb.Tx, c *Changes) (parents map[string]struct{}, err error) {
	parents = map[string]struct{}{}
	if len(c.Gone) == 0 {
		return parents, nil
	}
	ids := sqldb.List(slices.Sorted(maps.Keys(c.Gone)))
	reverted, err := tx.Texts(ctx, `DELETE FROM edits WHERE edit_id `+d.db.Any("$1")+` RETURNING parent_id`, ids)
	if err != nil {
		return nil, err
	}
	for _, id := range reverted {
		parents[id] = struct{}{}
	}
	nids, err := numbers(ctx, tx, `SELECT nid FROM events WHERE event_id `+d.db.Any("$1")+` ORDER BY nid`, ids)
	if err != nil {
		return nil, err
	}
	return parents, remove(ctx, tx, nids)
}

// Bury notes which events, or rooms, are gone, for who is reading history.
func (d *Database) Bury(ctx context.Context, tx *sqldb.Tx, gone map[string]int) error {
	if len(gone) == 0 {
		return nil
	}
	reading, err := numbers(ctx, tx, `SELECT partition_id FROM histories`)
	if err != nil || len(reading) == 0 {
		return err
	}
	var rows [][]any
	for _, id := range slices.Sorted(maps.Keys(gone)) {
		if slices.Contains(reading, int64(gone[id])) {
			rows = append(rows, []any{id, gone[id]})
		}
	}
	_, err = tx.ExecMany(ctx, `INSERT INTO gone (id, partition_id) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING`, []int{1}, rows)
	return err
}

// remove removes events and their terms.
func remove(ctx context.Context, tx *sqldb.Tx, nids []int64) error {
	rows := make([][]any, len(nids))
	for i, nid := range nids {
		rows[i] = []any{nid}
	}
	for _, text := range []string{`DELETE FROM terms WHERE rowid = $1`, `DELETE FROM events WHERE nid = $1`} {
		if _, err := tx.ExecMany(ctx, text, []int{1}, rows); err != nil {
			return err
		}
	}
	return nil
}

func (d *Database) putEdits(ctx context.Context, tx *sqldb.Tx, c *Changes, rooms map[string]int64, parents map[string]struct{}) error {
	rows := make([][]any, 0, len(c.Edits))
	for _, id := range slices.Sorted(maps.Keys(c.Edits)) {
		e := c.Edits[id]
		parents[e.ParentID] = struct{}{}
		rows = append(rows, []any{id, e.ParentID, rooms[e.RoomID], e.Sender, e.TS})
	}
	_, err := tx.ExecMany(ctx, `INSERT INTO edits (edit_id, parent_id, room_nid, sender, ts) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (edit_id) DO NOTHING`,
		[]int{1}, rows)
	return err
}

// Order bounds: 42 bits of milliseconds, 21 of the place in the partition.
const (
	orderBits = 21
	maxTS     = 1<<42 - 2 // so that no number is First
)

// orderOf is the first number that an event may have in the order of results: a
// room's events of one millisecond stand as in its timeline. It does not depend on
// when the event is indexed, so tokens outlive the index.
func orderOf(e *Event) int64 { return min(max(e.TS, 0), maxTS)<<orderBits | e.Seq&(1<<orderBits-1) }

// place gives the events numbers; those that are indexed already keep theirs, and
// are indexed anew.
func (d *Database) place(ctx context.Context, tx *sqldb.Tx, c *Changes, rooms map[string]int64) (map[string]*row, error) {
	out := make(map[string]*row, len(c.Events))
	if len(c.Events) == 0 {
		return out, nil
	}
	for id, e := range c.Events {
		out[id] = &row{Event: e, roomNID: rooms[e.RoomID], fresh: true}
	}
	var old []int64
	err := tx.Each(ctx, func(scan func(...any) error) error {
		var id string
		var nid int64
		if err := scan(&id, &nid); err != nil {
			return err
		}
		out[id].nid = nid
		old = append(old, nid)
		return nil
	}, `SELECT event_id, nid FROM events WHERE event_id `+d.db.Any("$1"), sqldb.List(slices.Sorted(maps.Keys(out))))
	if err != nil {
		return nil, err
	}
	slices.Sort(old)
	if err := remove(ctx, tx, old); err != nil {
		return nil, err
	}
	return out, d.number(ctx, tx, out)
}

// number finds a free number for each row that has none: the first one, but for
// events of one millisecond that happen to have the same.
func (d *Database) number(ctx context.Context, tx *sqldb.Tx, rows map[string]*row) error {
	taken := map[int64]*row{}
	var pending []*row
	for _, id := range slices.Sorted(maps.Keys(rows)) {
		if r := rows[id]; r.nid != 0 {
			taken[r.nid] = r
		} else {
			pending = append(pending, r)
		}
	}
	for len(pending) > 0 {
		var tried []int64
		for _, r := range pending {
			r.nid = orderOf(&r.Event)
			for taken[r.nid] != nil {
				r.nid++
			}
			taken[r.nid] = r
			tried = append(tried, r.nid)
		}
		found, err := numbers(ctx, tx, `SELECT nid FROM events WHERE nid `+d.db.Any("$1"), sqldb.List(tried))
		if err != nil {
			return err
		}
		pending = nil
		for _, nid := range found { // another event's, which has been there
			pending = append(pending, taken[nid])
		}
	}
	return nil
}

// settle gives events, new ones and those whose edits have changed, the newest of
// their texts.
func (d *Database) settle(ctx context.Context, tx *sqldb.Tx, rows map[string]*row, parents map[string]struct{}, texts map[string][]string, partition func(string) int) error {
	var ids []string
	for _, id := range slices.Sorted(maps.Keys(parents)) {
		if rows[id] == nil {
			ids = append(ids, id)
		}
	}
	if err := d.addStored(ctx, tx, rows, ids); err != nil {
		return err
	}
	return d.writeNewest(ctx, tx, rows, texts, partition)
}

// addStored adds those of the events that are stored.
func (d *Database) addStored(ctx context.Context, tx *sqldb.Tx, rows map[string]*row, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	return tx.Each(ctx, scanStored(rows), storedEvents+`WHERE e.event_id `+d.db.Any("$1"), sqldb.List(ids))
}

const storedEvents = `SELECT e.event_id, r.room_id, e.nid, e.room_nid, e.sender, e.key_nid, e.edit_id FROM events e JOIN rooms r ON r.room_nid = e.room_nid
`

// scanStored reads storedEvents.
func scanStored(rows map[string]*row) func(scan func(...any) error) error {
	return func(scan func(...any) error) error {
		r := &row{}
		err := scan(&r.EventID, &r.RoomID, &r.nid, &r.roomNID, &r.Sender, &r.Key, &r.editID)
		rows[r.EventID] = r
		return err
	}
}

// writeNewest writes events with the newest of their texts. Where that is not known
// they are found by none until it is read.
func (d *Database) writeNewest(ctx context.Context, tx *sqldb.Tx, rows map[string]*row, texts map[string][]string, partition func(string) int) error {
	if len(rows) == 0 {
		return nil
	}
	edits, err := d.newest(ctx, tx, rows, nil)
	if err != nil {
		return err
	}
	var stale [][]any
	list := slices.SortedFunc(maps.Values(rows), func(a, b *row) int { return cmp.Compare(a.nid, b.nid) })
	list = slices.DeleteFunc(list, func(r *row) bool {
		editID := edits[r.EventID]
		if !r.fresh && !r.stale && editID == r.editID {
			return true
		}
		terms, known := texts[cmp.Or(editID, r.EventID)]
		if !known {
			stale = append(stale, []any{r.EventID, r.RoomID, partition(r.RoomID)})
		}
		r.editID, r.terms, r.words = editID, terms, len(terms)
		return false
	})
	if err := write(ctx, tx, d.db, list); err != nil {
		return err
	}
	_, err = tx.ExecMany(ctx, `INSERT INTO stale (event_id, room_id, partition_id) VALUES ($1, $2, $3) ON CONFLICT (event_id) DO NOTHING`, []int{1}, stale)
	return err
}

// newest finds the event that has the newest text of each, but for some; none where
// it has that itself.
// spec: client-server-api §event-replacements
func (d *Database) newest(ctx context.Context, tx *sqldb.Tx, rows map[string]*row, but []string) (map[string]string, error) {
	out, at := map[string]string{}, map[string]int64{}
	return out, tx.Each(ctx, func(scan func(...any) error) error {
		var parent, id, sender string
		var roomNID, ts int64
		if err := scan(&parent, &id, &roomNID, &sender, &ts); err != nil {
			return err
		}
		r := rows[parent]
		if r.Key != KeyBody || r.Sender != sender || r.roomNID != roomNID || slices.Contains(but, id) {
			return nil // it replaces nothing
		}
		if out[parent] == "" || ts > at[parent] || ts == at[parent] && id > out[parent] {
			out[parent], at[parent] = id, ts
		}
		return nil
	}, `SELECT parent_id, edit_id, room_nid, sender, ts FROM edits WHERE parent_id `+d.db.Any("$1"), sqldb.List(slices.Sorted(maps.Keys(rows))))
}

// write writes rows, which are in the order of their numbers.
func write(ctx context.Context, tx *sqldb.Tx, db *sqldb.DB, list []*row) error {
	var old, changed, events, terms [][]any
	for _, r := range list {
		terms = append(terms, []any{r.nid, strings.Join(append([]string{roomTerm(r.roomNID)}, r.terms...), " ")})
		if r.fresh {
			events = append(events, []any{r.nid, r.EventID, r.roomNID, r.Seq, r.Sender, int64(r.Key), r.Level, number(r.HasURL), r.words, r.editID})
		} else {
			old = append(old, []any{r.nid})
			changed = append(changed, []any{r.words, r.editID, r.nid})
		}
	}
	for _, step := range []struct {
		text string
		key  []int
		rows [][]any
	}{
		{`DELETE FROM terms WHERE rowid = $1`, []int{1}, old},
		{`UPDATE events SET words = $1, edit_id = $2 WHERE nid = $3`, []int{3}, changed},
		{`INSERT INTO events (nid, event_id, room_nid, seq, sender, key_nid, level, has_url, words, edit_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`, nil, events},
		{`INSERT INTO terms (rowid, words) VALUES ($1, ` + db.Terms("$2") + `)`, nil, terms},
	} {
		if _, err := tx.ExecMany(ctx, step.text, step.key, step.rows); err != nil {
			return err
		}
	}
	return nil
}

// roomTerm is the term that all events of a room have: none of a text holds
// a character for private use.
func roomTerm(nid int64) string { return "\uE000" + strconv.FormatInt(nid, 36) }

func number(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// numbers reads the only column of a query.
func numbers(ctx context.Context, tx *sqldb.Tx, text string, args ...any) (out []int64, err error) {
	err = tx.Each(ctx, func(scan func(...any) error) error {
		var n int64
		err := scan(&n)
		out = append(out, n)
		return err
	}, text, args...)
	return out, err
}
