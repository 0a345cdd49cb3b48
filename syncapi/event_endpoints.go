package syncapi

import (
	"context"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/filters"
	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

// maxContext bounds the events around one in /context.
const maxContext = 100

// event answers GET /rooms/{roomId}/event/{eventId}.
// spec: client-server-api §get_matrixclientv3roomsroomideventeventid
func (s *Server) event(r *httpapi.Request) (any, error) {
	roomID, err := s.pathID(r, "roomId")
	if err != nil {
		return nil, err
	}
	eventID, err := s.pathID(r, "eventId")
	if err != nil {
		return nil, err
	}
	v, err := s.viewer(r, roomID)
	if matrixerror.Is(err, "M_FORBIDDEN") {
		return nil, matrixerror.NotFound("Event not found")
	}
	if err != nil {
		return nil, err
	}
	return s.oneEvent(r.Context(), v, eventID)
}

func (s *Server) oneEvent(ctx context.Context, v *viewer, eventID string) (any, error) {
	ev, err := s.visibleEvent(ctx, v, eventID)
	if err != nil {
		return nil, err
	}
	sh, err := s.shownTo(ctx, v, []*event{ev})
	if err != nil {
		return nil, err
	}
	return jsontext.Value(sh.appendEvent(nil, ev)), nil
}

// anyEvent answers GET /events/{eventId}, which names no room.
// spec: client-server-api §get_matrixclientv3eventseventid
func (s *Server) anyEvent(r *httpapi.Request) (any, error) {
	eventID, err := s.pathID(r, "eventId")
	if err != nil {
		return nil, err
	}
	res, err := roomapi.QueryEvents.Call(r.Context(), s.caller, &roomapi.EventsRequest{EventIDs: []string{eventID}, Viewer: r.Device.UserID})
	if err != nil {
		return nil, err
	}
	if len(res.Events) == 0 {
		return nil, matrixerror.NotFound("Event not found")
	}
	v, err := s.viewer(r, res.Events[0].RoomID())
	if err != nil {
		return nil, matrixerror.NotFound("Event not found")
	}
	return s.oneEvent(r.Context(), v, eventID)
}

// context answers GET /rooms/{roomId}/context/{eventId}.
// spec: client-server-api §get_matrixclientv3roomsroomidcontexteventid
func (s *Server) context(r *httpapi.Request) (any, error) {
	roomID, err := s.pathID(r, "roomId")
	if err != nil {
		return nil, err
	}
	eventID, err := s.pathID(r, "eventId")
	if err != nil {
		return nil, err
	}
	q := r.Query()
	limit, err := pageLimit(q)
	if err != nil {
		return nil, err
	}
	f, err := filters.ParseEvent(q.Get("filter"))
	if err != nil {
		return nil, err
	}
	v, err := s.viewer(r, roomID)
	if err != nil {
		return nil, err
	}
	ev, err := s.visibleEvent(r.Context(), v, eventID)
	if err != nil {
		return nil, err
	}
	limit = min(limit, maxContext)
	older, newer, err := s.around(r.Context(), v, f, ev, limit/2, limit-limit/2)
	if err != nil {
		return nil, err
	}
	return s.appendContext(r.Context(), v, f, ev, older, newer)
}

func (s *Server) appendContext(ctx context.Context, v *viewer, f *filters.Event, ev *event, older, newer *page) (any, error) {
	all := slices.Concat([]*event{ev}, older.events, newer.events)
	sh, err := s.shownTo(ctx, v, all)
	if err != nil {
		return nil, err
	}
	last := ev
	if n := len(newer.events); n > 0 {
		last = newer.events[n-1]
	}
	state, err := s.contextState(ctx, v, f, all, last)
	if err != nil {
		return nil, err
	}
	body := []byte(`{"event":`)
	body = sh.appendEvent(body, ev)
	body = sh.appendEvents(append(body, `,"events_before":`...), older.events)
	body = sh.appendEvents(append(body, `,"events_after":`...), newer.events)
	sh.extra = nil
	body = sh.appendEvents(append(body, `,"state":`...), state)
	body = appendString(appendKey(body, "start"), timelineToken(older.next))
	body = appendString(appendKey(body, "end"), timelineToken(newer.next))
	return jsontext.Value(append(body, '}')), nil
}

// contextState is the state at the last event shown, of which a lazily loading
// client wants only the members who sent what is shown.
func (s *Server) contextState(ctx context.Context, v *viewer, f *filters.Event, shown []*event, last *event) ([]*event, error) {
	req := &roomapi.StateRequest{RoomID: v.roomID, AtSeq: max(last.Position.Seq, 1), WithoutMembers: f.LazyLoadMembers}
	if f.LazyLoadMembers {
		for _, ev := range shown {
			if !slices.Contains(req.Members, ev.Sender()) {
				req.Members = append(req.Members, ev.Sender())
			}
		}
	}
	res, err := roomapi.QueryState.Call(ctx, s.caller, req)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(fromAllStored(res.Events), func(ev *event) bool { return !f.WantsEvent(ev.Event) }), nil
}

// timestampToEvent answers GET /rooms/{roomId}/timestamp_to_event.
// spec: client-server-api §get_matrixclientv1roomsroomidtimestamp_to_event
func (s *Server) timestampToEvent(r *httpapi.Request) (any, error) {
	roomID, err := s.pathID(r, "roomId")
	if err != nil {
		return nil, err
	}
	q := r.Query()
	if q.Get("ts") == "" {
		return nil, matrixerror.MissingParam("ts is missing")
	}
	ts, err := strconv.ParseInt(q.Get("ts"), 10, 64)
	if err != nil {
		return nil, matrixerror.InvalidParam("ts is not a number of milliseconds")
	}
	backwards, err := direction(q.Get("dir"), true)
	if err != nil {
		return nil, err
	}
	v, err := s.viewer(r, roomID)
	if err != nil {
		return nil, err
	}
	res, err := roomapi.QueryTimestampToEvent.Call(r.Context(), s.caller, &roomapi.TimestampToEventRequest{
		RoomID: roomID, TS: ts, Backwards: backwards, Viewer: v.userID, ExpiredBefore: v.expired})
	if err != nil {
		return nil, err
	}
	if res.Event == nil || expired(fromStored(res.Event), v.expired) {
		return nil, matrixerror.NotFound("No event close to the time")
	}
	return struct {
		EventID string `json:"event_id"`
		TS      int64  `json:"origin_server_ts"`
	}{res.Event.EventID(), res.Event.OriginServerTS()}, nil
}
