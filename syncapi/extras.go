package syncapi

import (
	"context"

	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

// lookUp finds what the events' unsigned data takes from other events: the
// content that a state event replaced, the redaction of a redacted event. What
// is not among the known events is asked of the room server, at once.
func (s *Server) lookUp(ctx context.Context, roomID string, events, known []*event) (map[string]*extras, error) {
	var want map[string]*event // nil until needed; most timelines need nothing
	need := func(id string) {
		if want == nil {
			want = map[string]*event{}
		}
		want[id] = nil
	}
	for _, ev := range events {
		if ev.ReplacesState != "" {
			need(ev.ReplacesState)
		}
		if ev.RedactedBy != "" {
			need(ev.RedactedBy)
		}
	}
	if want == nil {
		return nil, nil
	}
	for _, list := range [][]*event{events, known} {
		for _, ev := range list {
			if ev.Event == nil {
				continue
			}
			if _, ok := want[ev.EventID()]; ok {
				want[ev.EventID()] = ev
			}
		}
	}
	if err := s.fetch(ctx, roomID, want); err != nil {
		return nil, err
	}
	out := map[string]*extras{}
	for _, ev := range events {
		var x extras
		if prev := want[ev.ReplacesState]; prev != nil {
			x.prev = prev.Event
		}
		x.redaction = want[ev.RedactedBy]
		if x.prev != nil || x.redaction != nil {
			out[ev.EventID()] = &x
		}
	}
	return out, nil
}

// fetch finds the events that are nil in the map: in memory, else it asks the
// room server.
func (s *Server) fetch(ctx context.Context, roomID string, events map[string]*event) error {
	s.view.mu.Lock()
	r := s.view.rooms[roomID]
	s.view.mu.Unlock()
	if r != nil && len(events) > 0 {
		r.find(events)
	}
	var ids []string
	for id, ev := range events {
		if ev == nil {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	res, err := roomapi.QueryEvents.Call(ctx, s.caller, &roomapi.EventsRequest{RoomID: roomID, EventIDs: ids})
	if err != nil {
		return err
	}
	for _, stored := range res.Events {
		events[stored.EventID()] = fromStored(stored)
	}
	return nil
}
