package roomserver

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/roomserver/storage"
)

// state is a whole state: the event IDs of its entries. It is shared: do not
// change it.
type state = map[gomatrixserverlib.StateKey]string

// ref names a state: the one that the room was in at a Seq at which it changed,
// or (in the batch at hand) after a staged output that changed it; or that of a
// fork, stored or staged. Refs that are equal name the same state; the zero one
// is that of a room that does not exist.
type ref struct {
	seq    int64
	at     *staged
	fork   int64
	forked *staged
}

// fork is a state that the room has not been in: what differs from another.
type fork struct {
	base  ref
	depth int64
	delta []delta
	infos map[string]info // of the events of delta, but for the fork's own
}

// maxForkDepth bounds how many forks have to be read for one state.
const maxForkDepth = 32

// delta is an entry in which two states differ; an ID is "" where there is none.
type delta struct {
	key      gomatrixserverlib.StateKey
	old, new string
}

// diffStates returns the entries that differ, in order of their keys.
func diffStates(old, new state) []delta {
	var out []delta
	for key, id := range new {
		if old[key] != id {
			out = append(out, delta{key, old[key], id})
		}
	}
	for key, id := range old {
		if _, ok := new[key]; !ok {
			out = append(out, delta{key, id, ""})
		}
	}
	slices.SortFunc(out, func(a, b delta) int {
		if c := strings.Compare(a.key.Type, b.key.Type); c != 0 {
			return c
		}
		return strings.Compare(a.key.StateKey, b.key.StateKey)
	})
	return out
}

// found is an event that is staged or stored.
type found struct {
	st    *staged // if it is staged
	nid   int64   // if it is stored
	event *api.StoredEvent
	row   *storage.Event
}

// placed tells whether the event's state is known: that it is no outlier.
func (f *found) placed() bool {
	if f.st != nil {
		return f.st.flags&storage.Outlier == 0
	}
	return f.row.Flags&storage.Outlier == 0
}

func (f *found) flags() int64 {
	if f.st != nil {
		return f.st.flags
	}
	return f.row.Flags
}

// stagedEvent returns an event of this batch.
func (w *work) stagedEvent(id string) *staged {
	if w.isGone(id) {
		return nil
	}
	if w.trial != nil {
		if st := w.trial.byID[id]; st != nil {
			return st
		}
	}
	return w.byID[id]
}

// find returns events of this room, those that are known.
func (w *work) find(ids ...string) (map[string]*found, error) {
	out := make(map[string]*found, len(ids))
	var unknown []string
	for _, id := range ids {
		if st := w.stagedEvent(id); st != nil {
			out[id] = &found{st: st, event: st.event}
		} else if w.isGone(id) {
			continue
		} else if f := w.found[id]; f != nil {
			out[id] = f
		} else if w.room != nil {
			unknown = append(unknown, id)
		}
	}
	return out, w.read(unknown, func(row *storage.Event, event *api.StoredEvent) {
		w.found[row.EventID] = &found{nid: row.NID, event: event, row: row}
		out[row.EventID] = w.found[row.EventID]
	})
}

// read calls do with those of the events that are stored in this room, some at
// a time.
func (w *work) read(ids []string, do func(*storage.Event, *api.StoredEvent)) error {
	for chunk := range slices.Chunk(ids, eventsPerRead) {
		var rows []*storage.Event
		err := w.s.store.ReadOne(w.ctx, func(tx *sqldb.Tx) (err error) {
			rows, err = w.s.store.EventsByID(w.ctx, tx, chunk)
			return err
		})
		if err != nil {
			return fmt.Errorf("events: %w", err)
		}
		for _, row := range rows {
			if row.RoomNID != w.row.NID {
				continue
			}
			event, err := stored(row)
			if err != nil {
				return err
			}
			do(row, event)
		}
	}
	return nil
}

// event returns an event that is known to be staged or stored.
func (w *work) event(id string) *api.StoredEvent {
	found, err := w.find(id)
	if err == nil && found[id] == nil {
		err = fmt.Errorf("%w: event %s is not stored", errBroken, id)
	}
	if err != nil {
		w.err = errors.Join(w.err, err)
		return nil
	}
	return found[id].event
}

// info is what a whole state needs of each of its events.
type info struct {
	st         *staged
	nid        int64
	key        gomatrixserverlib.StateKey
	membership string
	isState    bool
	rejected   bool
}

// describe returns what is known of events, which may be very many.
func (w *work) describe(ids []string) (map[string]info, error) {
	out := make(map[string]info, len(ids))
	var unknown []string
	for _, id := range ids {
		if st := w.stagedEvent(id); st != nil {
			out[id] = describe(st.event, st.flags, 0, st)
		} else if w.isGone(id) {
			continue
		} else if f, ok := w.infos[id]; ok {
			out[id] = f
		} else if w.room != nil {
			unknown = append(unknown, id)
		}
	}
	return out, w.read(unknown, func(row *storage.Event, event *api.StoredEvent) {
		w.infos[row.EventID] = describe(event, row.Flags, row.NID, nil)
		out[row.EventID] = w.infos[row.EventID]
	})
}

func describe(e *api.StoredEvent, flags, nid int64, st *staged) info {
	i := info{st: st, nid: nid, key: e.Key(), membership: e.Membership(), isState: e.IsState(), rejected: flags&storage.Rejected != 0}
	if st == nil { // kept for longer than the event, of whose bytes these are parts
		i.key = gomatrixserverlib.StateKey{Type: strings.Clone(i.key.Type), StateKey: strings.Clone(i.key.StateKey)}
		i.membership = strings.Clone(i.membership)
	}
	return i
}

// after returns the state after an event; of a rejected one before it.
func (w *work) after(f *found) (ref, error) {
	if f.st != nil {
		return f.st.after, nil
	}
	if f.row.Fork != 0 {
		return ref{fork: f.row.Fork}, nil
	}
	seq := f.row.Seq
	if f.row.StateSeq != 0 {
		seq = f.row.StateSeq
	}
	return w.atSeq(seq)
}

// atSeq names the state of the committed room at a Seq.
func (w *work) atSeq(seq int64) (ref, error) {
	if last := w.room.stateSeq(); seq >= last {
		return ref{seq: last}, nil
	}
	var last int64
	err := w.s.store.ReadOne(w.ctx, func(tx *sqldb.Tx) (err error) {
		last, err = w.s.store.LastStateChange(w.ctx, tx, w.row.NID, seq)
		return err
	})
	return ref{seq: last}, err
}

func (r *room) stateSeq() int64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.row.StateSeq
}

// stateOf returns the state that a ref names.
func (w *work) stateOf(r ref) (state, error) {
	if err := w.mayRead(r); err != nil {
		return nil, err
	}
	out, err := w.wholeOf(r)
	if err == nil {
		err = w.spendOn(r, out)
	}
	return out, err
}

// wholeOf is stateOf without an account of it.
func (w *work) wholeOf(r ref) (state, error) {
	if out, ok := w.states[r]; ok {
		return out, nil
	}
	out, err := w.makeState(r)
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	w.states[r] = out
	return out, nil
}

func (w *work) makeState(r ref) (state, error) {
	switch {
	case r.forked != nil:
		base, err := w.wholeOf(r.forked.fork.base)
		return apply(base, r.forked.fork.delta), err
	case r.fork != 0:
		return w.s.forkState(w.ctx, r.fork, func(seq int64) (state, error) {
			base, err := w.atSeq(seq)
			if err != nil {
				return nil, err
			}
			return w.wholeOf(base)
		})
	case r.at != nil:
		base, err := w.wholeOf(ref{seq: w.committedSeq()})
		if err != nil {
			return nil, err
		}
		out := maps.Clone(base)
		for _, list := range [][]*change{w.changes, w.trial.changes} {
			for _, c := range list {
				if c.by.n > r.at.n {
					continue
				}
				set(out, c.key, c.id)
			}
		}
		return out, nil
	case w.room == nil || r.seq == 0:
		return state{}, nil
	}
	return w.s.stateIDs(w.ctx, w.row.NID, r.seq)
}

func (w *work) committedSeq() int64 {
	if w.room == nil {
		return 0
	}
	return w.room.stateSeq()
}

func set(s state, key gomatrixserverlib.StateKey, id string) {
	if id == "" {
		delete(s, key)
	} else {
		s[key] = id
	}
}

func apply(base state, deltas []delta) state {
	out := maps.Clone(base)
	for _, d := range deltas {
		set(out, d.key, d.new)
	}
	return out
}
