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
// fresh rooms, else what changed; up to the timeline's start, or to its end
// for state_after.
func (a *answer) stateOf(ctx context.Context, p *part, t *timeline) ([]*event, error) {
	var state stateMap
	var err error
	switch {
	case p.fresh:
		state, err = a.wholeState(ctx, p, t)
	case a.req.stateAfter:
		state, err = a.delta(ctx, p, t, p.lower, p.upper)
	default:
		state, err = a.deltaBefore(ctx, p, t)
	}
	if err != nil {
		return nil, err
	}
	if a.filter.lazy() {
		if state, err = a.lazyMembers(ctx, p, t, state); err != nil {
			return nil, err
		}
	}
	out := make([]*event, 0, len(state))
	for _, ev := range state {
		if ev != nil && a.filter.Room.State.wantsEvent(ev) {
			out = append(out, ev)
		}
	}
	slices.SortFunc(out, func(x, y *event) int {
		switch {
		case x.Position.Less(y.Position):
			return -1
		case y.Position.Less(x.Position):
			return 1
		}
		return strings.Compare(x.EventID(), y.EventID())
	})
	return out, nil
}

// wholeState is the state of a fresh room.
func (a *answer) wholeState(ctx context.Context, p *part, t *timeline) (stateMap, error) {
	at := p.upper
	if !a.req.stateAfter {
		if t.fromCreate {
			return stateMap{}, nil // the timeline tells all of it
		}
		if len(t.events) > 0 {
			at = t.events[0].Position.Seq - 1
		} else if !t.limited {
			at = p.upper
		}
	}
	if at < 1 {
		return stateMap{}, nil
	}
	req := &roomapi.StateRequest{RoomID: p.room.id, AtSeq: at, WithoutMembers: a.filter.lazy()}
	if p.room.unchangedSince(at) {
		req.AtSeq = 0 // the current state, which the room server has in memory
	}
	res, err := roomapi.QueryState.Call(ctx, a.s.caller, req)
	if err != nil {
		return nil, err
	}
	if req.AtSeq == 0 && !p.room.unchangedBetween(at, res.At.Seq) {
		req = &roomapi.StateRequest{RoomID: p.room.id, AtSeq: at, WithoutMembers: req.WithoutMembers}
		if res, err = roomapi.QueryState.Call(ctx, a.s.caller, req); err != nil {
			return nil, err
		}
	}
	return stateFrom(res.Events), nil
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
func (a *answer) delta(ctx context.Context, p *part, t *timeline, from, to int64) (stateMap, error) {
	if to <= from {
		return nil, nil
	}
	if t.whole && from >= p.lower {
		return changesOf(t.window, from, to), nil
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

// deltaBefore is the change of state between the client's token and the start
// of the timeline, and with it what changed later without the timeline telling:
// resolutions, and events that the filter leaves out.
func (a *answer) deltaBefore(ctx context.Context, p *part, t *timeline) (stateMap, error) {
	state, err := a.delta(ctx, p, t, p.lower, t.firstSeq()-1)
	if err != nil {
		return nil, err
	}
	if t.whole && !hasChanges(t.window) {
		return state, nil
	}
	later, err := a.delta(ctx, p, t, max(t.firstSeq()-1, p.lower), p.upper)
	if err != nil || len(later) == 0 {
		return state, err
	}
	told := map[gomatrixserverlib.StateKey]struct{}{}
	for _, ev := range t.events {
		if ev.IsState() {
			told[ev.Key()] = struct{}{}
		}
	}
	if state == nil {
		state = stateMap{}
	} else {
		state = maps.Clone(state)
	}
	for key, ev := range later {
		if _, ok := told[key]; !ok {
			state[key] = ev
		}
	}
	return state, nil
}

func hasChanges(window []*event) bool {
	return slices.ContainsFunc(window, func(ev *event) bool { return len(ev.changes) > 0 })
}
