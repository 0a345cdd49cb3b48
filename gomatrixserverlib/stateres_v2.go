package gomatrixserverlib

import "slices"

// resolveV2 is the algorithm of room versions 2 to 11, and 2.1 of room version
// 12, which starts from an empty state and also replays what lies between
// conflicted events.
// spec: rooms/v2 §state-resolution, rooms/v12 §state-resolution
func (r *resolution) resolveV2(sets []map[StateKey]string) (map[StateKey]string, error) {
	unconflicted, conflicted := separate(sets)
	all := distinct(conflicted...)
	if len(all) == 0 {
		return unconflicted, nil
	}
	if err := r.load(all); err != nil {
		return nil, err
	}
	difference, between, err := r.authDifference(conflicted, all, unconflicted)
	if err != nil {
		return nil, err
	}
	full := distinct(all, difference)
	base := unconflicted
	if r.rules.StateRes == StateResV21 {
		full = distinct(full, between)
		base = nil
		if err := r.loadCreate(all[0]); err != nil {
			return nil, err
		}
	}
	graph := distinct(full, between)
	if err := r.load(graph); err != nil {
		return nil, err
	}
	if err := r.loadAuthEvents(graph); err != nil {
		return nil, err
	}
	power, rest, err := r.powerOrder(full, graph)
	if err != nil {
		return nil, err
	}
	state := &replay{resolution: r, base: base, taken: make(map[StateKey]*Event), fromAuth: true}
	if err := state.apply("power", power); err != nil {
		return nil, err
	}
	top := state.stateOnly(StateKey{"m.room.power_levels", ""})
	if state.err != nil {
		return nil, state.err
	}
	if rest, err = r.mainlineOrder(top, rest); err != nil {
		return nil, err
	}
	if err := state.apply("rest", rest); err != nil {
		return nil, err
	}
	for key, e := range state.taken {
		if _, ok := unconflicted[key]; !ok {
			unconflicted[key] = e.id
		}
	}
	return unconflicted, nil
}

// distinct returns the union of lists.
func distinct(lists ...[]string) []string {
	n := 0
	for _, list := range lists {
		n += len(list)
	}
	all := make([]string, 0, n)
	for _, list := range lists {
		all = append(all, list...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// loadCreate loads the create event of a room whose ID names it.
func (r *resolution) loadCreate(ofRoomOf string) error {
	room := r.events[ofRoomOf].roomID
	if room == "" {
		return &MissingEventsError{EventIDs: []string{"m.room.create"}}
	}
	id := "$" + room[1:]
	if err := r.load([]string{id}); err != nil {
		return err
	}
	r.create = r.events[id]
	return nil
}

// stateOnly returns the event at a key, not looking at auth events.
func (p *replay) stateOnly(key StateKey) *Event {
	fromAuth := p.fromAuth
	p.fromAuth = false
	e := p.StateEvent(key.Type, key.StateKey)
	p.fromAuth = fromAuth
	return e
}

// apply is the iterative auth checks algorithm.
func (p *replay) apply(phase string, ids []string) error {
	if err := p.prepare(ids); err != nil {
		return err
	}
	for _, id := range ids {
		refused, err := p.check(id)
		if err != nil {
			return err
		}
		if refused == nil {
			p.taken[p.event.Key()] = p.event
		}
		p.step(p.event, phase, refused)
	}
	return nil
}

// isPowerEvent reports whether an event might remove someone's ability to do
// something.
func isPowerEvent(e *Event) bool {
	if e.stateKey == nil {
		return false
	}
	switch e.typ {
	case "m.room.power_levels", "m.room.join_rules":
		return true
	case "m.room.member":
		return (e.membership == "leave" || e.membership == "ban") && e.sender != *e.stateKey
	}
	return false
}
