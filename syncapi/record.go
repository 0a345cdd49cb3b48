package syncapi

import (
	"context"
	"fmt"
	"slices"

	"github.com/matrix-org/dendrite/gomatrixserverlib"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

const (
	// maxTailChanges bounds the changes of one record that are kept in a tail:
	// after a larger one the room server is asked.
	maxTailChanges = 500
	// eventsPerFetch bounds the events asked for at once.
	eventsPerFetch = 5000
)

// told is what a record of room.output tells of its room.
type told struct {
	*roomapi.OutputRecord
	// ev is the record's own event; nil: it has none.
	ev *event
	// changes are those of the current state.
	changes []change
	// large tells that the changes are too many for a tail, or not all known.
	large bool
	// at is when the record was logged, in milliseconds: it orders lists of rooms.
	at int64
}

// decodeRecord reads a record, its event and those of its changes that it holds.
func decodeRecord(rec *roomapi.OutputRecord, lines [][]byte) (*told, error) {
	t := &told{OutputRecord: rec, large: len(rec.Changes) > maxTailChanges}
	version := gomatrixserverlib.RoomVersion(rec.RoomVersion)
	if rec.EventID != "" && len(lines) > 0 && len(lines[0]) > 0 {
		parsed, err := gomatrixserverlib.ParseStoredEvent(lines[0], version, rec.EventID)
		if err != nil {
			return nil, err
		}
		t.ev = &event{
			StoredEvent: &roomapi.StoredEvent{
				Event: parsed, Position: t.place(), ReplacesState: rec.ReplacesState, Device: rec.Device, TxnID: rec.TxnID, DelayID: rec.DelayID,
				HistoryVisibility: rec.HistoryVisibility, SoftFailed: rec.SoftFailed,
			},
			limited: rec.Limited, hvBefore: rec.HistoryVisibilityBefore, memberBefore: rec.MembershipBefore,
		}
	} else if rec.Kind == roomapi.OutputEvent {
		return nil, fmt.Errorf("record %d holds no event", rec.Position.Seq)
	}
	for _, c := range rec.Changes {
		ch := change{StateKey: gomatrixserverlib.StateKey{Type: c.Type, StateKey: c.StateKey}, eventID: c.EventID, replaced: c.Replaced}
		switch {
		case c.EventID == "":
		case c.EventID == rec.EventID && t.ev != nil:
			ch.ev = t.ev
		case c.Line > 0 && c.Line < len(lines):
			parsed, err := gomatrixserverlib.ParseStoredEvent(lines[c.Line], version, c.EventID)
			if err != nil {
				return nil, err
			}
			ch.ev = fromStored(&roomapi.StoredEvent{Event: parsed, Position: rec.Position, ReplacesState: c.Replaced})
		}
		t.changes = append(t.changes, ch)
	}
	return t, nil
}

// place is where the record's event stands in the room's timeline.
func (t *told) place() roomapi.Position {
	if t.Place != (roomapi.Position{}) {
		return t.Place
	}
	return t.Position
}

// live tells whether the record adds its event to the end of the timeline.
func (t *told) live() bool {
	return t.ev != nil && !t.SoftFailed && t.place() == t.Position &&
		(t.Kind == roomapi.OutputEvent || t.Kind == roomapi.OutputUnrejected)
}

// inTimeline tells whether the record's event has a place in the timeline at
// all, at its end or in its past.
func (t *told) inTimeline() bool {
	return t.ev != nil && !t.SoftFailed &&
		(t.Kind == roomapi.OutputEvent || t.Kind == roomapi.OutputUnrejected || t.Kind == roomapi.OutputBackfilled)
}

// entry is what the record adds to the room's tail: its event, or a hidden
// entry that only changes the state; nil for nothing.
func (t *told) entry() *event {
	switch {
	case t.live():
		t.ev.changes = t.changes
		return t.ev
	case len(t.changes) == 0:
		return nil
	}
	return &event{StoredEvent: &roomapi.StoredEvent{Position: t.Position}, changes: t.changes, hidden: true}
}

// complete fetches the events of changes that a record only names; of a large
// one no more than the members of ours.
func (v *view) complete(ctx context.Context, t *told) error {
	var missing []string
	for _, c := range t.changes {
		if c.ev == nil && c.eventID != "" && (!t.large || c.Type == typeMember && v.local(c.StateKey.StateKey)) {
			missing = append(missing, c.eventID)
		}
	}
	found := map[string]*roomapi.StoredEvent{}
	for ids := range slices.Chunk(missing, eventsPerFetch) {
		if err := v.retry(ctx, "Cannot fetch state events", func() error {
			res, err := roomapi.QueryEvents.Call(ctx, v.caller, &roomapi.EventsRequest{RoomID: t.RoomID, EventIDs: ids})
			if err == nil {
				for _, e := range res.Events {
					found[e.EventID()] = e
				}
			}
			return err
		}); err != nil {
			return err
		}
	}
	for i := range t.changes {
		c := &t.changes[i]
		if c.ev != nil || c.eventID == "" {
			continue
		}
		if e, ok := found[c.eventID]; ok {
			c.ev = fromStored(e)
			continue
		}
		t.large = true // as the room server knows it, or not any more
	}
	return nil
}
