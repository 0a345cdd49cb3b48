package syncapi

import (
	"context"
	"net/url"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/filters"
	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

const (
	defaultPage = 10
	maxPage     = 1000
	// maxFilterPages bounds the history read for one page of /messages when a
	// filter lets little of it pass.
	maxFilterPages = 10
)

// messages answers GET /rooms/{roomId}/messages.
// spec: client-server-api §get_matrixclientv3roomsroomidmessages
func (s *Server) messages(r *httpapi.Request) (any, error) {
	roomID, err := s.pathID(r, "roomId")
	if err != nil {
		return nil, err
	}
	q := r.Query()
	backwards, err := direction(q.Get("dir"), true)
	if err != nil {
		return nil, err
	}
	limit, err := pageLimit(q)
	if err != nil {
		return nil, err
	}
	f, err := filters.ParseEvent(q.Get("filter"))
	if err != nil {
		return nil, err
	}
	from, to, err := s.span(q, roomID)
	if err != nil {
		return nil, err
	}
	viewer, err := s.viewer(r, roomID)
	if err != nil {
		return nil, err
	}
	h := history{from: from, to: to, backwards: backwards, limit: limit}
	if q.Get("from") != "" && backwards && from.Seq == 0 || q.Get("to") != "" && !backwards && to.Seq == 0 {
		// Before the first event there is nothing. To the room server a zero
		// Position says that there is no bound.
		return s.appendPage(r.Context(), viewer, f, &page{history: h})
	}
	page, err := s.page(r.Context(), viewer, f, h)
	if err != nil {
		return nil, err
	}
	return s.appendPage(r.Context(), viewer, f, page)
}

// span reads the parameters from and to; absent ones are zero Positions.
func (s *Server) span(q url.Values, roomID string) (from, to roomapi.Position, err error) {
	if token := q.Get("from"); token != "" {
		if from, err = parsePoint(token, roomID, s.view.shape); err != nil {
			return from, to, err
		}
	}
	if token := q.Get("to"); token != "" {
		to, err = parsePoint(token, roomID, s.view.shape)
	}
	return from, to, err
}

func direction(text string, required bool) (backwards bool, err error) {
	switch text {
	case "b":
		return true, nil
	case "f":
		return false, nil
	case "":
		if required {
			return false, matrixerror.MissingParam("dir is missing")
		}
		return true, nil
	}
	return false, matrixerror.InvalidParam("dir is neither b nor f")
}

func pageLimit(q url.Values) (int, error) {
	text := q.Get("limit")
	if text == "" {
		return defaultPage, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, matrixerror.InvalidParam("limit is not a positive number")
	}
	return int(min(n, maxPage)), nil
}

// history is a stretch of a room's timeline that is asked for.
type history struct {
	from, to  roomapi.Position
	backwards bool
	limit     int
}

// page is such a stretch as found.
type page struct {
	history
	events []*event // in the order asked for
	// next is where to go on; more tells whether that makes sense.
	next roomapi.Position
	more bool
}

// page reads a stretch of history that the viewer may see and wants.
func (s *Server) page(ctx context.Context, v *viewer, f *filters.Event, h history) (*page, error) {
	if f.Limit != nil {
		h.limit = min(h.limit, int(min(*f.Limit, maxPage)))
	}
	out := &page{history: h, next: h.from}
	if !f.WantsRoom(v.roomID) {
		return out, nil
	}
	if done, err := s.recall(ctx, v, f, out); done || err != nil {
		return out, err
	}
	from := out.next
	for range maxFilterPages {
		want := h.limit - len(out.events)
		if want <= 0 {
			break
		}
		res, err := roomapi.QueryHistory.Call(ctx, s.caller, &roomapi.HistoryRequest{
			RoomID: v.roomID, From: from, To: h.to, Backwards: h.backwards, Limit: want, Viewer: v.userID})
		if err != nil {
			return nil, err
		}
		for _, stored := range res.Events {
			if ev := fromStored(stored); v.wants(f, ev) {
				out.events = append(out.events, ev)
			}
		}
		if out.from == (roomapi.Position{}) {
			out.from = firstPoint(res, h.backwards)
		}
		// Beyond a gap there may be more, once it has been fetched.
		out.next, out.more = res.Next, res.More || len(res.Gap) > 0 && len(out.events) > 0
		from = res.Next
		if !res.More {
			break
		}
	}
	return out, nil
}

// firstPoint is the point where a stretch that was asked for without one begins.
func firstPoint(res *roomapi.HistoryResponse, backwards bool) roomapi.Position {
	if len(res.Events) == 0 {
		return res.Next
	}
	pos := res.Events[0].Position
	if !backwards {
		return before(pos)
	}
	return pos
}

// appendPage makes the body of /messages.
func (s *Server) appendPage(ctx context.Context, v *viewer, f *filters.Event, p *page) (any, error) {
	sh, err := s.shownTo(ctx, v, p.events)
	if err != nil {
		return nil, err
	}
	body := []byte(`{"chunk":`)
	body = sh.appendEvents(body, p.events)
	body = appendString(appendKey(body, "start"), timelineToken(p.from))
	if p.more {
		body = appendString(appendKey(body, "end"), timelineToken(p.next))
	}
	if f.LazyLoadMembers && len(p.events) > 0 {
		members, err := s.membersAt(ctx, v.roomID, p.events)
		if err != nil {
			return nil, err
		}
		body = append(body, `,"state":`...)
		body = sh.appendEvents(body, members)
	}
	return jsontext.Value(append(body, '}')), nil
}

// membersAt are the member events of the events' senders, as of the last of them.
func (s *Server) membersAt(ctx context.Context, roomID string, events []*event) ([]*event, error) {
	seen := map[string]struct{}{}
	var keys []gomatrixserverlib.StateKey
	last := events[0].Position
	for _, ev := range events {
		if last.Less(ev.Position) {
			last = ev.Position
		}
		if _, ok := seen[ev.Sender()]; !ok {
			seen[ev.Sender()] = struct{}{}
			keys = append(keys, gomatrixserverlib.StateKey{Type: typeMember, StateKey: ev.Sender()})
		}
	}
	res, err := roomapi.QueryState.Call(ctx, s.caller, &roomapi.StateRequest{RoomID: roomID, AtSeq: max(last.Seq, 1), Keys: keys})
	if err != nil {
		return nil, err
	}
	return fromAllStored(res.Events), nil
}
