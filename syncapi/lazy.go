package syncapi

import (
	"context"
	"slices"
	"sync"

	"github.com/matrix-org/dendrite/gomatrixserverlib"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

const typeMember = "m.room.member"

// lazyMembers adds the member events that a lazily loading client needs to
// show the timeline, and leaves out those of a whole state that it does not.
// spec: client-server-api §lazy-loading-room-members
func (a *answer) lazyMembers(ctx context.Context, p *part, t *timeline, state stateMap) (stateMap, error) {
	need := map[string]struct{}{}
	for _, ev := range t.events {
		need[ev.Sender()] = struct{}{}
	}
	if p.fresh {
		need[a.u.id] = struct{}{}
		heroes, err := a.heroes(ctx, p)
		if err != nil {
			return nil, err
		}
		for _, id := range heroes {
			need[id] = struct{}{}
		}
		for key := range state {
			if _, ok := need[key.StateKey]; key.Type == typeMember && !ok {
				delete(state, key)
			}
		}
	}
	// Who joined or changed within the timeline is told by the timeline, once
	// the client has seen the event: not before the sender's first.
	for _, ev := range t.events {
		if ev.Type() == typeMember && ev.StateKey() != nil && !a.req.stateAfter {
			if i := slices.IndexFunc(t.events, func(e *event) bool { return e.Sender() == *ev.StateKey() }); i < 0 || t.events[i] == ev {
				delete(need, *ev.StateKey())
			}
		}
	}
	for id := range need {
		if _, ok := state[gomatrixserverlib.StateKey{Type: typeMember, StateKey: id}]; ok {
			delete(need, id)
		}
	}
	return a.addMembers(ctx, p, t, state, need)
}

// addMembers adds the member events of the users that the client does not
// have: at the start of the timeline, or at its end for state_after.
func (a *answer) addMembers(ctx context.Context, p *part, t *timeline, state stateMap, need map[string]struct{}) (stateMap, error) {
	sent := a.device
	if !a.filter.redundant() && !p.fresh {
		for id := range need {
			if sent.has(p.room.id, id) && !memberChanged(t.window, id) && t.whole {
				delete(need, id)
			}
		}
	}
	if len(need) > 0 {
		at := p.upper
		if !a.req.stateAfter {
			at = t.firstSeq() - 1
		}
		req := &roomapi.StateRequest{RoomID: p.room.id, AtSeq: max(at, 1)}
		for id := range need {
			req.Keys = append(req.Keys, gomatrixserverlib.StateKey{Type: typeMember, StateKey: id})
		}
		if p.room.unchangedSince(at) {
			req.AtSeq = 0
		}
		res, err := roomapi.QueryState.Call(ctx, a.s.caller, req)
		if err != nil {
			return nil, err
		}
		if state == nil {
			state = stateMap{}
		}
		for _, stored := range res.Events {
			state[stored.Key()] = fromStored(stored)
		}
	}
	for key, ev := range state {
		if key.Type == typeMember && ev != nil {
			sent.add(p.room.id, key.StateKey)
		}
	}
	return state, nil
}

func memberChanged(window []*event, userID string) bool {
	key := gomatrixserverlib.StateKey{Type: typeMember, StateKey: userID}
	return slices.ContainsFunc(window, func(ev *event) bool {
		return slices.ContainsFunc(ev.changes, func(c change) bool { return c.StateKey == key })
	})
}

// Bounds of what is remembered of member events sent to lazily loading devices.
const (
	maxSentDevices = 5000
	maxSentMembers = 2000 // of a device
)

// sentMembers remembers which member events lazily loading devices have, so
// that they are not sent again and again. Forgetting is harmless: a member
// event may always be sent again.
type sentMembers struct {
	mu      sync.Mutex
	devices map[string]*sentDevice
}

// sentDevice is what a device was sent. An entry counts only once the device
// has come back with the token of the answer that held it.
type sentDevice struct {
	mu sync.Mutex
	// confirmed are members in answers that the device has received; offered
	// those in the last answer, whose token is next.
	confirmed, offered map[sentKey]struct{}
	next               string
	// seen is the token that the device came with last.
	seen string
}

type sentKey struct{ room, user string }

// of returns what is remembered of a device that comes with a token and gets an
// answer up to the cut.
func (s *sentMembers) of(userID, deviceID string, since, cut *vector) *sentDevice {
	s.mu.Lock()
	key := userID + "\x00" + deviceID
	d, ok := s.devices[key]
	if !ok {
		if len(s.devices) >= maxSentDevices {
			for other := range s.devices { // any: map order is random
				delete(s.devices, other)
				break
			}
		}
		d = &sentDevice{confirmed: map[sentKey]struct{}{}, offered: map[sentKey]struct{}{}}
		s.devices[key] = d
	}
	s.mu.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case since == nil:
		clear(d.confirmed)
	case since.String() == d.next:
		for k := range d.offered {
			d.confirmed[k] = struct{}{}
		}
	case since.String() != d.seen:
		// Another copy of the session, or one that went back: it has other answers.
		clear(d.confirmed)
	}
	if len(d.confirmed) > maxSentMembers {
		clear(d.confirmed)
	}
	clear(d.offered)
	d.next, d.seen = cut.String(), ""
	if since != nil {
		d.seen = since.String()
	}
	return d
}

func (d *sentDevice) has(room, user string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.confirmed[sentKey{room, user}]
	return ok
}

// add notes a member event in the answer being built.
func (d *sentDevice) add(room, user string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.offered) < maxSentMembers {
		d.offered[sentKey{room, user}] = struct{}{}
	}
}
