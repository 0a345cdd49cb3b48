package storage

import (
	"slices"

	"github.com/go-json-experiment/json"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// Batch collects rows, so that many are stored by few statements: what a batch
// of records costs in round trips does not grow with it.
type Batch struct {
	rooms, forks, forkEntries, events, placed, outputs, changes, requests, positions, redacted, early [][]any
}

// Statements are those that store the batch. Those of seldom depend on each other and
// run first, in their order; the others are for tables of their own.
func (b *Batch) Statements() (seldom, others []sqldb.Many) {
	events := sqldb.Many{Text: `INSERT INTO events
		(event_nid, room_nid, event_id, seq, sub, ts, flags, state_seq, fork_nid, redacted_by, output, json)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`, Rows: b.events}
	others = []sqldb.Many{
		{Text: `INSERT INTO rooms
		(room_nid, room_id, version, partition_id, depth, latest_seq, state_seq, joined, invited, local_joined, gaps, extremities, parked)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
		ON CONFLICT (room_nid) DO UPDATE SET depth = excluded.depth, latest_seq = excluded.latest_seq, state_seq = excluded.state_seq,
			joined = excluded.joined, invited = excluded.invited, local_joined = excluded.local_joined, gaps = excluded.gaps,
			extremities = excluded.extremities, parked = excluded.parked`, Key: []int{1}, Rows: b.rooms},
		{Text: `INSERT INTO state_changes (room_nid, type, state_key, from_seq, event_nid) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (room_nid, type, state_key, from_seq) DO UPDATE SET event_nid = excluded.event_nid`, Key: []int{1, 2, 3, 4}, Rows: b.changes},
		{Text: `INSERT INTO requests (request_id, ts, verdict) VALUES ($1, $2, $3)
		ON CONFLICT (request_id) DO UPDATE SET ts = excluded.ts, verdict = excluded.verdict`, Key: []int{1}, Rows: b.requests},
		{Text: `INSERT INTO positions (partition_id, seq, others) VALUES ($1, $2, $3)
		ON CONFLICT (partition_id) DO UPDATE SET seq = excluded.seq, others = excluded.others`, Key: []int{1}, Rows: b.positions},
	}
	if len(b.placed)+len(b.redacted) == 0 {
		others = append(others, events)
	} else {
		seldom = []sqldb.Many{events,
			{Text: `UPDATE events SET seq = $1, sub = $2, flags = $3, state_seq = $4, fork_nid = $5, output = $6 WHERE event_nid = $7`, Key: []int{7}, Rows: b.placed},
			{Text: `UPDATE events SET json = $1, redacted_by = $2 WHERE event_id = $3`, Key: []int{3}, Rows: b.redacted},
		}
	}
	return append(seldom,
		sqldb.Many{Text: `INSERT INTO outputs (output_nid, room_nid, event_nid, output) VALUES ($1, $2, $3, $4)`, Rows: b.outputs},
		sqldb.Many{Text: `INSERT INTO forks (fork_nid, room_nid, base_seq, parent_nid, depth) VALUES ($1, $2, $3, $4, $5)`, Rows: b.forks},
		sqldb.Many{Text: `INSERT INTO fork_entries (fork_nid, type, state_key, event_nid) VALUES ($1, $2, $3, $4)`, Rows: b.forkEntries},
		sqldb.Many{Text: `INSERT INTO early_redactions (target_id, redaction_id) VALUES ($1, $2) ON CONFLICT DO NOTHING`, Key: []int{1, 2}, Rows: b.early}), others
}

// Room adds a room.
func (b *Batch) Room(r *Room) error {
	extremities, err := json.Marshal(r.Extremities)
	if err != nil {
		return err
	}
	b.rooms = append(b.rooms, []any{r.NID, r.ID, r.Version, r.Partition, r.Depth, r.LatestSeq, r.StateSeq, r.Joined, r.Invited,
		r.LocalJoined, r.Gaps, string(extremities), r.Parked})
	return nil
}

// Fork adds a fork.
func (b *Batch) Fork(f *Fork) {
	b.forks = append(b.forks, []any{f.NID, f.RoomNID, f.BaseSeq, f.Parent, f.Depth})
	for _, e := range f.Entries {
		b.forkEntries = append(b.forkEntries, []any{f.NID, e.Type, e.StateKey, e.EventNID})
	}
}

// Event adds an event.
func (b *Batch) Event(e *Event) {
	b.events = append(b.events, []any{e.NID, e.RoomNID, e.EventID, e.Seq, e.Sub, e.TS, e.Flags, e.StateSeq, e.Fork, e.RedactedBy, e.Output, e.JSON})
}

// Place gives an outlier a place, and what it is from then on; its JSON is kept.
func (b *Batch) Place(e *Event) {
	b.placed = append(b.placed, []any{e.Seq, e.Sub, e.Flags, e.StateSeq, e.Fork, e.Output, e.NID})
}

// Output adds the output at output_nid of an event that is stored under another
// number, or (0) of none. It is purged with the room, if that is not 0.
func (b *Batch) Output(outputNID, roomNID, eventNID int64, header []byte) {
	b.outputs = append(b.outputs, []any{outputNID, roomNID, eventNID, header})
}

// Purge adds the output at output_nid that tells of a purge of history; ts is when it
// was logged. In the table it stands where others have their event, below zero.
func (b *Batch) Purge(outputNID, roomNID, ts int64, header []byte) {
	b.outputs = append(b.outputs, []any{outputNID, roomNID, -ts, header})
}

// StateChange adds a change. Of two at one Seq the later counts.
func (b *Batch) StateChange(roomNID int64, c StateChange) {
	b.changes = append(b.changes, []any{roomNID, c.Type, c.StateKey, c.FromSeq, c.EventNID})
}

// Request adds a verdict.
func (b *Batch) Request(r Request) { b.requests = append(b.requests, []any{r.ID, r.TS, r.Verdict}) }

// Position adds the positions of a partition, once.
func (b *Batch) Position(partition int, p Positions) {
	if !slices.ContainsFunc(b.positions, func(row []any) bool { return row[0] == partition }) {
		b.positions = append(b.positions, []any{partition, p.Seqs[partition], p.Others[partition]})
	}
}

// Redact replaces an event's JSON by what its redaction leaves.
func (b *Batch) Redact(eventID, redactedBy string, json []byte) {
	b.redacted = append(b.redacted, []any{json, redactedBy, eventID})
}

// EarlyRedaction remembers a redaction whose target is not known.
func (b *Batch) EarlyRedaction(target, redaction string) {
	b.early = append(b.early, []any{target, redaction})
}
