package syncapi

import (
	"context"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/filters"
	"github.com/matrix-org/dendrite/common/httpapi"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

// maxPeek bounds the events of an answer to who looks into a room from outside.
const maxPeek = 100

// peek answers GET /events of a room that the viewer is not in, but may look into.
// No wake-up is for them: after each step of the view that may be about the room,
// the room server is asked.
// spec: client-server-api §room-previews
func (s *Server) peek(r *httpapi.Request, req *syncRequest, v *viewer) (any, error) {
	ctx, cancel := context.WithTimeout(r.Context(), req.timeout)
	defer cancel()
	go func() { // a server that stops ends the wait
		select {
		case <-s.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	p := s.partition(v.roomID)
	end := req.since.clone()
	for {
		next := newVector(len(s.view.shape.rooms), 0, 0, 0)
		next.rooms[p] = s.view.applied.Load().room(p) + 1
		found, err := s.page(r.Context(), v, &filters.None().Room.Timeline, history{
			from: roomapi.Position{Partition: p, Seq: req.since.room(p)}, limit: maxPeek})
		if err != nil {
			return nil, err
		}
		if n := len(found.events); n > 0 {
			end.rooms[p] = found.events[n-1].Position.Seq
		} else if s.view.reach(ctx, next) {
			continue
		} else if err := r.Context().Err(); err != nil {
			return nil, err
		}
		sh, err := s.shownTo(r.Context(), v, found.events)
		if err != nil {
			return nil, err
		}
		body := appendString([]byte(`{"start":`), req.since.String())
		body = appendString(append(body, `,"end":`...), end.String())
		body = sh.appendEvents(append(body, `,"chunk":`...), found.events)
		return jsontext.Value(append(body, '}')), nil
	}
}
