package roomserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/matrix-org/dendrite/common/consumer"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/roomserver/storage"
)

// finish does what needs no order: it signs events and encodes what is
// published of them. Signatures are not part of event IDs, so the chain did not
// wait for them.
func (s *Server) finish(ctx context.Context, b *batch) error {
	var all []*staged
	for _, in := range b.inputs {
		all = append(all, in.staged...)
	}
	if err := parallel(ctx, len(all), func(_ context.Context, i int) error {
		if err := s.finishOne(all[i]); err != nil {
			return fmt.Errorf("roomserver: %s: %w", all[i].output.EventID, err)
		}
		return nil
	}); err != nil {
		return err
	}
	for _, w := range b.works {
		for _, r := range w.redactions {
			if r.staged == nil {
				continue
			}
			// Stripped before it was stored; its signatures are those of the whole.
			stripped, err := r.staged.event.Redact()
			if err != nil {
				return fmt.Errorf("roomserver: redact %s: %w", r.target.EventID(), err)
			}
			r.staged.event.Event, r.staged.event.RedactedBy = stripped, r.by
		}
	}
	return nil
}

func (s *Server) finishOne(st *staged) (err error) {
	if !st.published() {
		return nil
	}
	if st.sign {
		if st.event.Event, err = st.event.Sign(s.serverName, s.key); err != nil {
			return err
		}
	}
	st.header, err = st.output.Encode()
	return err
}

// forgetEvery is by how much the records' time must have gone on before old
// verdicts are dropped once more.
const forgetEvery = time.Hour

// write stores a batch and the offsets in one transaction (design rule 2).
func (s *Server) write(ctx context.Context, b *batch, positions storage.Positions, records *consumer.Batch) error {
	rows := &storage.Batch{}
	for _, w := range b.works {
		if err := w.rows(rows); err != nil {
			return fmt.Errorf("roomserver: store: %w", err)
		}
	}
	hour := s.forgotten
	for _, in := range b.inputs {
		if len(in.staged) > 0 {
			rows.Position(in.partition, positions)
		}
		written, err := in.verdictRow(rows)
		if err != nil {
			return fmt.Errorf("roomserver: store: %w", err)
		}
		if written {
			hour = max(hour, in.record.TS/forgetEvery.Milliseconds())
		}
	}
	err := s.store.Write(ctx, func(tx *sqldb.Tx) error {
		for _, w := range b.works {
			if err := errors.Join(w.writePurged(ctx, tx), w.writeDeleted(ctx, tx)); err != nil {
				return err
			}
		}
		if hour > s.forgotten {
			before := hour*forgetEvery.Milliseconds() - s.config.TransactionLifetime.Milliseconds()
			if err := errors.Join(s.store.ForgetRequests(ctx, tx, before), s.store.ForgetStateSets(ctx, tx, before)); err != nil {
				return err
			}
		}
		seldom, others := rows.Statements()
		for _, m := range seldom {
			if _, err := tx.ExecMany(ctx, m.Text, m.Key, m.Rows); err != nil {
				return err
			}
		}
		for _, w := range b.works {
			if err := errors.Join(w.writeOthers(ctx, tx), w.writeAside(ctx, tx)); err != nil {
				return err
			}
		}
		return records.Commit(ctx, tx, others...)
	})
	if err != nil {
		return fmt.Errorf("roomserver: store: %w", err)
	}
	s.forgotten = hour
	return nil
}

// verdictRow adds the verdict, unless it is one that is not kept.
func (in *input) verdictRow(rows *storage.Batch) (written bool, err error) {
	if in.known || in.verdict.EventIDs == nil || in.record.RequestID == "" {
		return false, nil
	}
	value, err := in.verdict.Encode()
	if err != nil {
		return false, err
	}
	rows.Request(storage.Request{ID: in.record.RequestID, TS: in.record.TS, Verdict: value})
	return true, nil
}

// writePurged forgets the rooms that a batch has purged.
func (w *work) writePurged(ctx context.Context, tx *sqldb.Tx) error {
	for _, l := range w.purged {
		if err := w.s.store.PurgeRoom(ctx, tx, l.row.NID); err != nil {
			return err
		}
	}
	return nil
}

// unchanged tells whether there is nothing to store of the room.
func (w *work) unchanged() bool {
	return len(w.layer.staged) == 0 && len(w.writes) == 0 && w.row.Parked == ""
}

// rows adds what a batch has changed of a room.
func (w *work) rows(rows *storage.Batch) error {
	for _, l := range w.purged {
		// What tells of it stays; the rest leaves holes, which readers are told of.
		last := l.staged[len(l.staged)-1]
		rows.Output(last.nid, 0, 0, last.header)
	}
	if w.unchanged() {
		return nil
	}
	if w.row.ID != "" {
		if err := rows.Room(w.row); err != nil {
			return err
		}
	}
	for _, st := range w.layer.staged {
		w.stagedRows(rows, st)
	}
	for _, c := range w.changes {
		rows.StateChange(w.row.NID, storage.StateChange{Type: c.key.Type, StateKey: c.key.StateKey, FromSeq: c.by.output.Position.Seq, EventNID: c.eventNID()})
	}
	for _, r := range w.redactions {
		if r.staged == nil || r.staged.placed {
			rows.Redact(r.target.EventID(), r.by, r.event.JSON())
		}
	}
	for _, e := range w.early {
		if !w.isGone(e[1]) {
			rows.EarlyRedaction(e[0], e[1])
		}
	}
	return nil
}

// writeOthers stores what rooms seldom have.
func (w *work) writeOthers(ctx context.Context, tx *sqldb.Tx) error {
	if w.unchanged() {
		return nil
	}
	for _, f := range w.writes {
		if err := f(ctx, tx, w.s.store, w.row.NID); err != nil {
			return err
		}
	}
	return w.writeGaps(ctx, tx)
}

func (c *change) eventNID() int64 {
	if c.event != nil {
		return c.event.nid
	}
	return c.nid
}

func outputNID(st *staged) int64 {
	return storage.EventNID(st.output.Position.Partition, st.output.Position.Seq)
}

// stagedRows adds an event, an output, or both.
func (w *work) stagedRows(rows *storage.Batch, st *staged) {
	roomNID := w.row.NID
	if st.lone != nil {
		roomNID = 0
	}
	switch {
	case st.event == nil && st.purges != nil:
		rows.Purge(st.nid, roomNID, st.ts, st.header)
		return
	case st.event == nil:
		rows.Output(st.nid, roomNID, 0, w.outputLines(st))
		return
	}
	row := &storage.Event{NID: st.nid, RoomNID: w.row.NID, EventID: st.event.EventID(),
		Seq: st.event.Position.Seq, Sub: st.event.Position.Sub, TS: st.event.OriginServerTS(), Flags: st.flags,
		RedactedBy: st.event.RedactedBy, Output: st.header, JSON: st.event.JSON()}
	if !st.current {
		row.StateSeq, row.Fork = st.after.stored() // of outliers it is zero
	}
	if st.fork != nil {
		rows.Fork(w.forkRow(st))
	}
	if st.gone {
		return // but for its fork, on which others may be built
	}
	if !st.placed {
		rows.Event(row)
		return
	}
	rows.Place(row)
	if st.published() {
		rows.Output(outputNID(st), roomNID, st.nid, st.header)
	}
}

// outputLines is what is published of an output without a stored event.
func (w *work) outputLines(st *staged) []byte {
	if st.lone == nil {
		return st.header
	}
	return outputValue(st.header, st.lone.JSON())
}

// stored is how a row names a state.
func (r ref) stored() (stateSeq, fork int64) {
	switch {
	case r.forked != nil:
		return 0, r.forked.nid
	case r.fork != 0:
		return 0, r.fork
	case r.at != nil:
		return r.at.output.Position.Seq, 0
	}
	return r.seq, 0
}

func (w *work) forkRow(st *staged) *storage.Fork {
	row := &storage.Fork{NID: st.nid, RoomNID: w.row.NID, Depth: st.fork.depth}
	row.BaseSeq, row.Parent = st.fork.base.stored()
	for _, d := range st.fork.delta {
		entry := storage.ForkEntry{Type: d.key.Type, StateKey: d.key.StateKey, EventNID: st.fork.infos[d.new].nid}
		if d.new == st.event.EventID() {
			entry.EventNID = st.nid
		} else if other := st.fork.infos[d.new].st; other != nil {
			entry.EventNID = other.nid
		}
		row.Entries = append(row.Entries, entry)
	}
	return row
}

func (w *work) writeGaps(ctx context.Context, tx *sqldb.Tx) error {
	if !w.gapsChanged {
		return nil
	}
	rows := make([]storage.Gap, 0, len(w.gaps))
	for _, g := range w.gaps {
		at := g.position(w.partition)
		rows = append(rows, storage.Gap{Seq: at.Seq, Sub: at.Sub, Missing: g.missing})
	}
	return w.s.store.PutGaps(ctx, tx, w.row.NID, rows)
}

// apply makes what was committed the rooms in memory.
func (s *Server) apply(b *batch, positions storage.Positions) {
	s.heads.mu.Lock()
	defer s.heads.mu.Unlock()
	for _, w := range b.works {
		w.apply()
		s.rooms.recount(w.roomID)
	}
	s.heads.positions = positions
	s.heads.applied++
	for _, w := range b.works {
		w.applyAside()
	}
}

func (w *work) apply() {
	if len(w.purged) > 0 {
		w.s.rooms.remove(w.roomID)
		w.s.timelines.clear()
	}
	if w.row.ID == "" || w.row.NID == 0 {
		return
	}
	r := w.room
	row := *w.row
	if r == nil {
		r = newRoom(&row)
		r.full = true // of a room that began with this batch, all of the state is here
		r = w.s.rooms.add(w.roomID, r)
	}
	w.s.rooms.removeOther(w.roomID, r)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.row = &row
	for key, c := range w.state {
		if key.Type == "m.room.member" {
			r.forgetViewer(key.StateKey)
		}
		switch {
		case c.event != nil:
			r.put(key, entry{nid: c.event.nid, event: c.event.event})
		case c.id == "":
			r.put(key, entry{})
		default: // its event has not been read
			r.drop(key)
		}
	}
	for _, f := range w.deleted {
		w.s.timelines.forget(f.nid)
	}
	for _, red := range w.redactions {
		if red.staged != nil {
			continue
		}
		w.s.timelines.forget(red.nid)
		if !red.target.IsState() {
			continue
		}
		key := red.target.Key()
		if e, ok := r.state[key]; ok && e.event != nil && e.event.EventID() == red.target.EventID() {
			stripped := *e.event
			stripped.Event, stripped.RedactedBy = red.event, red.by
			r.put(key, entry{nid: e.nid, event: &stripped})
		}
	}
	r.levels = w.levels
}
