package syncapi

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/matrix-org/dendrite/gomatrixserverlib"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

const typeMember = "m.room.member"

// lazyMembers adds the member events that a lazily loading client needs to
// show the timeline, and leaves out those of a whole state that it does not. It
// returns which ones it needs.
// spec: client-server-api §lazy-loading-room-members
func (a *answer) lazyMembers(ctx context.Context, p *part, t *timeline, state stateMap) (stateMap, map[gomatrixserverlib.StateKey]struct{}, error) {
	need, err := a.neededMembers(ctx, p, t)
	if err != nil {
		return nil, nil, err
	}
	if p.fresh {
		maps.DeleteFunc(state, func(key gomatrixserverlib.StateKey, _ *event) bool {
			_, ok := need[key]
			return key.Type == typeMember && !ok
		})
	}
	var ask []gomatrixserverlib.StateKey
	for key := range need {
		if _, ok := state[key]; !ok {
			ask = append(ask, key)
		}
	}
	if len(ask) == 0 {
		return state, need, nil
	}
	members, err := a.stateAt(ctx, p, p.upper, roomapi.StateRequest{Keys: ask})
	if err != nil {
		return nil, nil, err
	}
	maps.Copy(members, state)
	return members, need, nil
}

// neededMembers are the senders of the timeline's events, and of a fresh room
// the user and its heroes, but for those whom the client has.
func (a *answer) neededMembers(ctx context.Context, p *part, t *timeline) (map[gomatrixserverlib.StateKey]struct{}, error) {
	need := map[gomatrixserverlib.StateKey]struct{}{}
	memberOf := func(id string) gomatrixserverlib.StateKey {
		return gomatrixserverlib.StateKey{Type: typeMember, StateKey: id}
	}
	for _, ev := range t.events {
		need[memberOf(ev.Sender())] = struct{}{}
	}
	if p.fresh {
		heroes, err := a.heroes(ctx, p)
		if err != nil {
			return nil, err
		}
		for _, id := range append(heroes, a.u.id) {
			need[memberOf(id)] = struct{}{}
		}
	}
	// Who joined or changed within the timeline is told by the timeline, once
	// the client has seen the event: not before the sender's first.
	for _, ev := range t.events {
		if ev.Type() == typeMember && ev.StateKey() != nil && !a.req.stateAfter {
			if i := slices.IndexFunc(t.events, func(e *event) bool { return e.Sender() == *ev.StateKey() }); i < 0 || t.events[i] == ev {
				delete(need, ev.Key())
			}
		}
	}
	if !a.filter.Redundant() && !p.fresh && t.whole {
		maps.DeleteFunc(need, func(key gomatrixserverlib.StateKey, _ struct{}) bool {
			return a.device.has(p.room.id, key.StateKey) && !memberChanged(t.window, key)
		})
	}
	return need, nil
}

func memberChanged(window []*event, key gomatrixserverlib.StateKey) bool {
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

// note notes the member events in the answer being built.
func (d *sentDevice) note(room string, state stateMap) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for key, ev := range state {
		if key.Type == typeMember && ev != nil && len(d.offered) < maxSentMembers {
			d.offered[sentKey{room, key.StateKey}] = struct{}{}
		}
	}
}
