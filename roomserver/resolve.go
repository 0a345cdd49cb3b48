package roomserver

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/storage"
)

// before is the state before an event.
type before struct {
	// ref names it, unless it was given or resolved (named false): then whole is
	// all that there is.
	ref   ref
	named bool
	whole state
}

// stateBefore returns the state before an event: the one given, or that which
// the states after its previous events resolve to. All of these are placed.
// spec: server-server-api §pdus (the state before an event)
func (w *work) stateBefore(prevs map[string]*found, ids []string, given state) (before, error) {
	if given != nil {
		return w.known(before{whole: given})
	}
	var refs []ref
	for _, id := range ids {
		r, err := w.after(prevs[id])
		if err != nil {
			return before{}, err
		}
		if !slices.Contains(refs, r) {
			refs = append(refs, r)
		}
	}
	if len(refs) == 0 {
		return before{named: true}, nil // of an event that follows none
	}
	if len(refs) == 1 {
		return before{ref: refs[0], named: true}, nil
	}
	sets := make([]state, 0, len(refs))
	for _, r := range refs {
		set, err := w.stateOf(r)
		if err != nil {
			return before{}, err
		}
		sets = append(sets, set)
	}
	whole, err := w.resolve(sets)
	if err != nil {
		return before{}, err
	}
	return w.known(before{whole: whole})
}

// known names a state if it is the current one.
func (w *work) known(b before) (before, error) {
	current, err := w.stateOf(w.trial.current)
	if err == nil && len(diffStates(current, b.whole)) == 0 {
		b = before{ref: w.trial.current, named: true}
	}
	return b, err
}

func (w *work) wholeState(b before) (state, error) {
	if b.named {
		return w.stateOf(b.ref)
	}
	return b.whole, nil
}

// isCurrent tells whether it is the room's state as the record on trial finds it.
func (w *work) isCurrent(b before) bool { return b.named && b.ref == w.trial.current }

// authState is the state before an event, for authorising it.
func (w *work) authState(b before) (gomatrixserverlib.AuthState, error) {
	if w.isCurrent(b) {
		return w, nil
	}
	whole, err := w.wholeState(b)
	return stateView{w, whole}, err
}

// stateView is a whole state whose events are found as they are needed.
type stateView struct {
	w     *work
	whole state
}

// StateEvent implements gomatrixserverlib.AuthState.
func (v stateView) StateEvent(typ, stateKey string) *gomatrixserverlib.Event {
	id := v.whole[gomatrixserverlib.StateKey{Type: typ, StateKey: stateKey}]
	if id == "" {
		return nil
	}
	if e := v.w.event(id); e != nil {
		return e.Event
	}
	return nil
}

// resolve merges states of the room.
// spec: server-server-api §room-state-resolution
func (w *work) resolve(sets []state) (state, error) {
	if len(sets) == 1 {
		return sets[0], nil
	}
	w.s.metrics.resolutions.Inc()
	out, err := gomatrixserverlib.ResolveState(w.version, sets, &provider{w: w, rejected: map[string]bool{}})
	var missing *gomatrixserverlib.MissingEventsError
	switch {
	case errors.As(err, &missing):
		return nil, &refusal{missing: missing.EventIDs, code: "M_UNKNOWN", message: err.Error()}
	case errors.Is(err, gomatrixserverlib.ErrResolutionTooLarge):
		return nil, &refusal{status: 400, code: "M_TOO_LARGE", message: err.Error()}
	case errors.Is(err, gomatrixserverlib.ErrBadEvent):
		return nil, fmt.Errorf("%w: %w", errBroken, err)
	}
	return out, err
}

// provider gives state resolution the events of a room. It keeps none of them,
// as there may be very many.
type provider struct {
	w        *work
	rejected map[string]bool
}

// Events implements gomatrixserverlib.StateProvider.
func (p *provider) Events(ids []string) (map[string]*gomatrixserverlib.Event, error) {
	if err := p.w.spend(len(ids)); err != nil {
		return nil, err
	}
	out := make(map[string]*gomatrixserverlib.Event, len(ids))
	var unknown []string
	for _, id := range ids {
		if st := p.w.stagedEvent(id); st != nil {
			p.take(out, st.event.Event, st.flags)
		} else if p.w.room != nil {
			unknown = append(unknown, id)
		}
	}
	if len(unknown) == 0 {
		return out, nil
	}
	return out, p.w.s.store.Read(p.w.ctx, func(tx *sqldb.Tx) error {
		rows, err := p.w.s.store.EventsByID(p.w.ctx, tx, unknown)
		if err != nil {
			return err
		}
		for _, row := range rows {
			event, err := stored(row)
			if err != nil {
				return err
			}
			if row.RoomNID == p.w.row.NID {
				p.take(out, event.Event, row.Flags)
			}
		}
		return nil
	})
}

func (p *provider) take(out map[string]*gomatrixserverlib.Event, e *gomatrixserverlib.Event, flags int64) {
	out[e.EventID()] = e
	if flags&storage.Rejected != 0 {
		p.rejected[e.EventID()] = true
	}
}

// Rejected implements gomatrixserverlib.RejectionKnower.
func (p *provider) Rejected(id string) bool { return p.rejected[id] }

// forkState reads the state of a fork; at gives the room's at a Seq.
func (s *Server) forkState(ctx context.Context, nid int64, at func(seq int64) (state, error)) (state, error) {
	var chain []*storage.Fork
	err := s.store.Read(ctx, func(tx *sqldb.Tx) error {
		for next := nid; next != 0; next = chain[len(chain)-1].Parent {
			f, err := s.store.Fork(ctx, tx, next)
			if err == nil && f == nil {
				err = fmt.Errorf("%w: fork %d is not stored", errBroken, next)
			}
			if err != nil {
				return err
			}
			chain = append(chain, f)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out, err := at(chain[len(chain)-1].BaseSeq)
	if err != nil {
		return nil, err
	}
	var deltas []delta
	for _, f := range slices.Backward(chain) {
		for _, e := range f.Entries {
			deltas = append(deltas, delta{key: gomatrixserverlib.StateKey{Type: e.Type, StateKey: e.StateKey}, new: e.EventID})
		}
	}
	return apply(out, deltas), nil
}
