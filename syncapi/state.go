package syncapi

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/matrix-org/dendrite/gomatrixserverlib"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

// stateMap is state, or changes of state: nil stands for an entry removed.
type stateMap map[gomatrixserverlib.StateKey]*event

// stateOf finds the state events that go with a timeline: the whole state of
// fresh rooms, else what changed; as it was at the timeline's start, or for
// state_after at its end. What changed in between without the timeline telling
// (resolutions, events that the filter leaves out) is in it either way.
func (a *answer) stateOf(ctx context.Context, p *part, t *timeline) ([]*event, error) {
	state, err := a.stateAtEnd(ctx, p, t)
	if err != nil {
		return nil, err
	}
	var needed map[gomatrixserverlib.StateKey]struct{}
	if a.filter.Lazy() {
		if state, needed, err = a.lazyMembers(ctx, p, t, state); err != nil {
			return nil, err
		}
	}
	if !a.req.stateAfter {
		if state, err = a.rewind(ctx, p, t, state, needed); err != nil {
			return nil, err
		}
	}
	if a.filter.Lazy() {
		a.device.note(p.room.id, state)
	}
	out := make([]*event, 0, len(state))
	for _, ev := range state {
		if ev != nil && a.filter.Room.State.WantsEvent(ev.Event) {
			out = append(out, ev)
		}
	}
	sortEvents(out)
	return out, nil
}

// sortEvents puts events of state in an order that is always the same.
func sortEvents(list []*event) {
	slices.SortFunc(list, func(x, y *event) int {
		switch {
		case x.Position.Less(y.Position):
			return -1
		case y.Position.Less(x.Position):
			return 1
		}
		return strings.Compare(x.EventID(), y.EventID())
	})
}

// stateAtEnd is the state at the part's upper end: all of it for a fresh room
// (lazily loading clients get no members yet), else what changed since lower.
func (a *answer) stateAtEnd(ctx context.Context, p *part, t *timeline) (stateMap, error) {
	switch {
	case !p.fresh:
		return a.delta(ctx, p, p.lower, p.upper)
	case t.whole && p.lower == 0:
		return changesOf(t.window, 0, p.upper), nil // since the room began
	}
	return a.stateAt(ctx, p, p.upper, roomapi.StateRequest{WithoutMembers: a.filter.Lazy()})
}

// stateAt asks for state of the room right after the Seq.
func (a *answer) stateAt(ctx context.Context, p *part, at int64, req roomapi.StateRequest) (stateMap, error) {
	if at < 1 {
		return stateMap{}, nil
	}
	r := p.room
	req.RoomID = r.id
	if state, ok := r.knownState(at, &req); ok {
		return state, nil
	}
	if r.unchangedSince(at) { // the current state, which the room server has in memory
		state, upTo, err := a.s.askState(ctx, r, req)
		if err != nil {
			return nil, err
		}
		if r.unchangedBetween(at, upTo) {
			return state, nil
		}
	}
	req.AtSeq = at
	state, _, err := a.s.askState(ctx, r, req)
	return state, err
}

// askState asks the room server for state and keeps it; it returns also the Seq
// whose state it is.
func (s *Server) askState(ctx context.Context, r *room, req roomapi.StateRequest) (stateMap, int64, error) {
	asked := s.view.seen(r.partition)
	res, err := roomapi.QueryState.Call(ctx, s.caller, &req)
	if err != nil {
		return nil, 0, err
	}
	state := stateFrom(res.Events)
	s.view.keepState(r, asked, &req, res.At.Seq, state)
	return state, res.At.Seq, nil
}

// stateNow is the room's state as it is known last.
func (s *Server) stateNow(ctx context.Context, r *room, keys ...gomatrixserverlib.StateKey) (stateMap, error) {
	req := roomapi.StateRequest{RoomID: r.id, Keys: keys}
	if state, ok := r.knownState(now, &req); ok {
		return state, nil
	}
	state, _, err := s.askState(ctx, r, req)
	return state, err
}

// rewind turns the state at a timeline's end into the one that the client
// starts from: entries that the timeline leaves as they are at the end are
// given as they were before it, all others as they are.
func (a *answer) rewind(ctx context.Context, p *part, t *timeline, state stateMap, needed map[gomatrixserverlib.StateKey]struct{}) (stateMap, error) {
	last := stateMap{}
	for _, ev := range t.events {
		if ev.IsState() {
			last[ev.Key()] = ev
		}
	}
	start := t.firstSeq() - 1
	if p.fresh && len(t.events) > 0 {
		start = t.events[0].Position.Seq - 1
	}
	var ask, changed []gomatrixserverlib.StateKey
	for key, ev := range last {
		if now := state[key]; now == nil || now.EventID() != ev.EventID() {
			delete(last, key)
			continue
		}
		if _, need := needed[key]; need || p.fresh {
			ask = append(ask, key)
		} else if start > p.lower {
			changed = append(changed, key)
		}
	}
	if len(last) == 0 {
		return state, nil
	}
	state = maps.Clone(state)
	maps.DeleteFunc(state, func(key gomatrixserverlib.StateKey, _ *event) bool { return last[key] != nil })
	if len(ask) > 0 && !t.fromCreate {
		old, err := a.stateAt(ctx, p, start, roomapi.StateRequest{Keys: ask})
		if err != nil {
			return nil, err
		}
		maps.Copy(state, old)
	}
	if len(changed) > 0 {
		old, err := a.delta(ctx, p, p.lower, start)
		if err != nil {
			return nil, err
		}
		for _, key := range changed {
			if ev := old[key]; ev != nil {
				state[key] = ev
			}
		}
	}
	return state, nil
}

func stateFrom(events []*roomapi.StoredEvent) stateMap {
	out := make(stateMap, len(events))
	for _, stored := range events {
		out[stored.Key()] = fromStored(stored)
	}
	return out
}

// unchangedSince tells whether the tail knows that the room's state has not
// changed after the Seq.
func (r *room) unchangedSince(seq int64) bool {
	r.mu.RLock()
	last := r.latest
	r.mu.RUnlock()
	return r.unchangedBetween(seq, last)
}

func (r *room) unchangedBetween(seq, upTo int64) bool {
	if upTo <= seq {
		return true
	}
	r.mu.RLock()
	known := r.latest >= upTo
	r.mu.RUnlock()
	window, whole := r.window(seq, upTo)
	if !whole || !known {
		return false
	}
	return !slices.ContainsFunc(window, func(ev *event) bool { return len(ev.changes) > 0 })
}

// delta is how the room's state changed in (from, to].
func (a *answer) delta(ctx context.Context, p *part, from, to int64) (stateMap, error) {
	if to <= from {
		return nil, nil
	}
	if window, whole := p.room.window(from, to); whole {
		return changesOf(window, from, to), nil
	}
	res, err := roomapi.QueryStateChanges.Call(ctx, a.s.caller, &roomapi.StateChangesRequest{RoomID: p.room.id, FromSeq: from, ToSeq: to})
	if err != nil {
		return nil, err
	}
	out := stateFrom(res.Events)
	for _, key := range res.Removed {
		out[key] = nil
	}
	return out, nil
}

// changesOf folds the changes of a tail's records in (from, to]; nil when
// there are none.
func changesOf(window []*event, from, to int64) stateMap {
	var out stateMap
	for _, ev := range window {
		if ev.Position.Seq <= from || ev.Position.Seq > to || len(ev.changes) == 0 {
			continue
		}
		if out == nil {
			out = stateMap{}
		}
		for _, c := range ev.changes {
			out[c.StateKey] = c.ev
		}
	}
	return out
}
