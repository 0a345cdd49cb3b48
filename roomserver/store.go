package roomserver

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/matrix-org/dendrite/common/consumer"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/roomserver/storage"
)

// finish does what needs no order: it signs events and encodes what is
// published of them. Signatures are not part of event IDs, so the chain did not
// wait for them.
func (s *Server) finish(b *batch) error {
	var all []*staged
	for _, w := range b.works {
		all = append(all, w.layer.staged...)
	}
	workers := runtime.GOMAXPROCS(0)
	var group errgroup.Group
	for n := range workers {
		group.Go(func() error {
			for i := n; i < len(all); i += workers {
				if err := s.finishOne(all[i]); err != nil {
					return fmt.Errorf("roomserver: %s: %w", all[i].event.EventID(), err)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
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
func (s *Server) write(ctx context.Context, b *batch, seqs []int64, records *consumer.Batch) error {
	err := s.store.Write(ctx, func(tx *sqldb.Tx) error {
		for _, w := range b.works {
			if err := w.write(ctx, tx); err != nil {
				return err
			}
		}
		moved := map[int]bool{}
		for _, in := range b.inputs {
			moved[in.partition] = moved[in.partition] || len(in.staged) > 0
			if err := s.writeVerdict(ctx, tx, in); err != nil {
				return err
			}
		}
		for p, ok := range moved {
			if !ok {
				continue
			}
			if err := s.store.PutPosition(ctx, tx, p, seqs[p]); err != nil {
				return err
			}
		}
		return records.Commit(ctx, tx)
	})
	if err != nil {
		return fmt.Errorf("roomserver: store: %w", err)
	}
	return nil
}

func (s *Server) writeVerdict(ctx context.Context, tx *sqldb.Tx, in *input) error {
	if in.known || in.verdict.EventIDs == nil || in.record.RequestID == "" {
		return nil
	}
	value, err := in.verdict.Encode()
	if err != nil {
		return err
	}
	if hour := in.record.TS / forgetEvery.Milliseconds(); hour > s.forgotten {
		s.forgotten = hour
		if err := s.store.ForgetRequests(ctx, tx, in.record.TS-s.config.TransactionLifetime.Milliseconds()); err != nil {
			return err
		}
	}
	return s.store.PutRequest(ctx, tx, storage.Request{ID: in.record.RequestID, TS: in.record.TS, Verdict: value})
}

// write stores what a batch has changed of a room.
func (w *work) write(ctx context.Context, tx *sqldb.Tx) error {
	if len(w.layer.staged) == 0 && w.row.Parked == "" || w.row.NID == 0 {
		return nil
	}
	store := w.s.store
	if err := store.PutRoom(ctx, tx, &w.row); err != nil {
		return err
	}
	for _, st := range w.layer.staged {
		if err := store.PutEvent(ctx, tx, &storage.Event{NID: st.nid, RoomNID: w.row.NID, EventID: st.event.EventID(),
			Seq: st.event.Position.Seq, Sub: st.event.Position.Sub, TS: st.event.OriginServerTS(), Flags: st.flags,
			RedactedBy: st.event.RedactedBy, Output: st.header, JSON: st.event.JSON()}); err != nil {
			return err
		}
	}
	for _, c := range w.changes {
		row := storage.StateChange{Type: c.key.Type, StateKey: c.key.StateKey, FromSeq: c.by.event.Position.Seq, EventNID: c.entry.nid}
		if c.event != nil {
			row.EventNID = c.event.nid
		}
		if err := store.PutStateChange(ctx, tx, w.row.NID, row); err != nil {
			return err
		}
	}
	for _, r := range w.redactions {
		if r.staged != nil {
			continue
		}
		if err := store.RedactEvent(ctx, tx, r.target.EventID(), r.by, r.event.JSON()); err != nil {
			return err
		}
	}
	for _, e := range w.early {
		if err := store.PutEarlyRedaction(ctx, tx, e[0], e[1]); err != nil {
			return err
		}
	}
	return nil
}

// apply makes what was committed the rooms in memory.
func (s *Server) apply(b *batch, seqs []int64) {
	s.heads.mu.Lock()
	defer s.heads.mu.Unlock()
	for _, w := range b.works {
		w.apply()
	}
	s.heads.seqs = seqs
	s.heads.applied++
}

func (w *work) apply() {
	if w.row.NID == 0 {
		return
	}
	r := w.room
	row := w.row
	if r == nil {
		r = newRoom(&row)
		r.full = true // of a room that began with this batch, all of the state is here
		r = w.s.rooms.add(w.roomID, r)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.row = &row
	for key, c := range w.state {
		e := c.entry
		if c.event != nil {
			e = entry{nid: c.event.nid, event: c.event.event}
		}
		r.put(key, e)
	}
	for _, red := range w.redactions {
		if red.staged != nil || !red.target.IsState() {
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
