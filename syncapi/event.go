package syncapi

import (
	"slices"
	"sync/atomic"

	"github.com/matrix-org/dendrite/gomatrixserverlib"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/syncapi/storage"
)

// event is an event of a room as it is shown: shared by all who see it, and
// immutable but for what is computed once and kept.
type event struct {
	*roomapi.StoredEvent
	// changes are those of the room's current state that came with it.
	changes []change
	// hidden entries of a tail change the state without an event of their own.
	hidden bool
	// limited marks a gap before the event.
	limited bool
	// hvBefore and memberBefore are the history visibility before an
	// m.room.history_visibility, and the membership of a member event's target
	// before it.
	hvBefore, memberBefore string
	// rel is what the event relates to, of events in tails.
	rel *storage.Relation

	head atomic.Pointer[[]byte]
}

// change is one changed entry of a room's current state.
type change struct {
	gomatrixserverlib.StateKey
	eventID, replaced string
	ev                *event // nil when removed, or not known here
}

// fromStored makes an event of one that the room server answered with.
func fromStored(stored *roomapi.StoredEvent) *event {
	return &event{StoredEvent: stored, hvBefore: stored.HistoryVisibilityBefore}
}

func fromAllStored(stored []*roomapi.StoredEvent) []*event {
	out := make([]*event, len(stored))
	for i, s := range stored {
		out[i] = fromStored(s)
	}
	return out
}

// holds tells whether the event is the one with the ID, or has it among its changes.
func (e *event) holds(eventID string) bool {
	if e.Event != nil && e.EventID() == eventID {
		return true
	}
	return slices.ContainsFunc(e.changes, func(c change) bool { return c.ev != nil && c.eventID == eventID })
}

// without is a copy in which the event with the ID is redacted.
func (e *event) without(eventID, by string) (*event, error) {
	fresh := &event{StoredEvent: e.StoredEvent, hidden: e.hidden, limited: e.limited, hvBefore: e.hvBefore, memberBefore: e.memberBefore, rel: e.rel}
	if e.Event != nil && e.EventID() == eventID {
		left, err := e.Redact()
		if err != nil {
			return nil, err
		}
		stored := *e.StoredEvent
		stored.Event, stored.RedactedBy = left, by
		fresh.StoredEvent, fresh.rel = &stored, nil
	}
	fresh.changes = slices.Clone(e.changes)
	for i := range fresh.changes {
		c := &fresh.changes[i]
		switch {
		case c.ev == e:
			c.ev = fresh
		case c.ev != nil && c.eventID == eventID:
			var err error
			if c.ev, err = c.ev.without(eventID, by); err != nil {
				return nil, err
			}
		}
	}
	return fresh, nil
}

// client returns the event's client format without room_id, unsigned and the
// closing brace, so that those can be appended for each receiver.
func (e *event) client() []byte {
	if p := e.head.Load(); p != nil {
		return *p
	}
	b := e.AppendClient(make([]byte, 0, 256+len(e.Content())), gomatrixserverlib.ClientFormat{OmitRoomID: true})
	b = b[:len(b)-1]
	e.head.Store(&b)
	return b
}

// size is about what the event costs in memory.
func (e *event) size() int64 {
	n := int64(600)
	if e.Event != nil {
		n += int64(len(e.JSON()) * 2)
	}
	for _, c := range e.changes {
		if c.ev != nil && c.ev.Event != e.Event {
			n += int64(len(c.ev.JSON()) + 600)
		}
	}
	return n
}
