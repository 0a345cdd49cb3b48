package syncapi

import (
	"context"
	"math"
	"net/url"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/syncapi/storage"
)

const (
	defaultRelations = 20
	maxRelations     = 100
	// maxRecursion is how many levels recurse goes down, maxDescendants how
	// many events it follows.
	maxRecursion   = 3
	maxDescendants = 1000
)

// relations answers GET /rooms/{roomId}/relations/{eventId} and its forms with
// a relation type and an event type.
// spec: client-server-api §get_matrixclientv1roomsroomidrelationseventid
func (s *Server) relations(r *httpapi.Request) (any, error) {
	roomID, err := s.pathID(r, "roomId")
	if err != nil {
		return nil, err
	}
	parent, err := s.pathID(r, "eventId")
	if err != nil {
		return nil, err
	}
	q := r.Query()
	query, err := s.relationsQuery(q, roomID)
	if err != nil {
		return nil, err
	}
	query.RelType, query.Type = r.PathValue("relType"), r.PathValue("eventType")
	recurse, err := r.QueryBool("recurse", false)
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
	if _, err := s.visibleEvent(r.Context(), v, parent); err != nil {
		return nil, err
	}
	if err := s.view.awaitRows(r.Context(), ofRoom(s.partition(roomID))); err != nil {
		return nil, err
	}
	query.Parents = []string{parent}
	depth := 1
	if recurse {
		if query.Parents, depth, err = s.descend(r.Context(), roomID, parent); err != nil {
			return nil, err
		}
	}
	rows, err := s.view.store.Relating(r.Context(), *query)
	if err != nil {
		return nil, err
	}
	return s.appendRelations(r.Context(), v, q, query, rows, recurse, depth)
}

// relationsQuery reads what relations have in common.
func (s *Server) relationsQuery(q url.Values, roomID string) (*storage.Relating, error) {
	backwards, err := direction(q.Get("dir"), false)
	if err != nil {
		return nil, err
	}
	limit, err := boundedLimit(q, defaultRelations, maxRelations)
	if err != nil {
		return nil, err
	}
	from, to, err := s.span(q, roomID)
	if err != nil {
		return nil, err
	}
	query := &storage.Relating{RoomID: roomID, Backwards: backwards, Limit: limit + 1, Before: [2]int64{math.MaxInt64, 0}}
	low, high := to, from
	if !backwards {
		low, high = from, to
	}
	if low != (roomapi.Position{}) {
		query.After = [2]int64{low.Seq, low.Sub}
	}
	if high != (roomapi.Position{}) {
		query.Before = [2]int64{high.Seq, high.Sub}
	}
	return query, nil
}

func boundedLimit(q url.Values, standard, highest int) (int, error) {
	text := q.Get("limit")
	if text == "" {
		return standard, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 {
		return 0, matrixerror.InvalidParam("limit is not a number greater than zero")
	}
	return int(min(n, int64(highest))), nil
}

// descend finds the events that relate to one directly or through others, and
// how deep it looked for what relates to them.
func (s *Server) descend(ctx context.Context, roomID, parent string) ([]string, int, error) {
	all := []string{parent}
	level := all
	depth := 1
	for ; depth < maxRecursion && len(level) > 0 && len(all) < maxDescendants; depth++ {
		rows, err := s.view.store.Relating(ctx, storage.Relating{RoomID: roomID, Parents: level,
			Before: [2]int64{math.MaxInt64, 0}, Limit: maxDescendants - len(all)})
		if err != nil {
			return nil, 0, err
		}
		level = nil
		for _, row := range rows {
			if !slices.Contains(all, row.EventID) {
				all = append(all, row.EventID)
				level = append(level, row.EventID)
			}
		}
	}
	return all, depth, nil
}

// appendRelations makes the body of an answer with what relates.
func (s *Server) appendRelations(ctx context.Context, v *viewer, q url.Values, query *storage.Relating, rows []storage.Relation, recurse bool, depth int) (any, error) {
	more := len(rows) >= query.Limit
	if more {
		rows = rows[:query.Limit-1]
	}
	ids := make([]string, len(rows))
	for i, row := range rows {
		ids[i] = row.EventID
	}
	events, err := s.visibleEvents(ctx, v, ids)
	if err != nil {
		return nil, err
	}
	sh, err := s.shownTo(ctx, v, events)
	if err != nil {
		return nil, err
	}
	body := sh.appendEvents([]byte(`{"chunk":`), events)
	if more {
		last := rows[len(rows)-1]
		pos := roomapi.Position{Partition: s.partition(v.roomID), Seq: last.Seq, Sub: last.Sub}
		if query.Backwards {
			pos = before(pos)
		}
		body = appendString(appendKey(body, "next_batch"), timelineToken(pos))
	}
	if from := q.Get("from"); from != "" {
		body = appendString(appendKey(body, "prev_batch"), from)
	}
	if recurse {
		body = strconv.AppendInt(appendKey(body, "recursion_depth"), int64(depth), 10)
	}
	return jsontext.Value(append(body, '}')), nil
}

// visibleEvents fetches those of the events that the viewer may see and wants,
// in the order given.
func (s *Server) visibleEvents(ctx context.Context, v *viewer, ids []string) ([]*event, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	res, err := roomapi.QueryEvents.Call(ctx, s.caller, &roomapi.EventsRequest{RoomID: v.roomID, EventIDs: ids, Viewer: v.userID})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(fromAllStored(res.Events), func(ev *event) bool {
		_, ignored := v.ignored[ev.Sender()]
		return ignored && !ev.IsState() || ev.RoomID() != v.roomID || expired(ev, v.expired)
	}), nil
}

// threads answers GET /rooms/{roomId}/threads.
// spec: client-server-api §get_matrixclientv1roomsroomidthreads
func (s *Server) threads(r *httpapi.Request) (any, error) {
	roomID, err := s.pathID(r, "roomId")
	if err != nil {
		return nil, err
	}
	q := r.Query()
	limit, err := boundedLimit(q, defaultRelations, maxRelations)
	if err != nil {
		return nil, err
	}
	participated := false
	switch q.Get("include") {
	case "", "all":
	case "participated":
		participated = true
	default:
		return nil, matrixerror.InvalidParam("include is neither all nor participated")
	}
	from := roomapi.Position{Seq: math.MaxInt64}
	if token := q.Get("from"); token != "" {
		if from, err = parsePoint(token, roomID, s.view.shape); err != nil {
			return nil, err
		}
	}
	v, err := s.viewer(r, roomID)
	if err != nil {
		return nil, err
	}
	if err := s.view.awaitRows(r.Context(), ofRoom(s.partition(roomID))); err != nil {
		return nil, err
	}
	rows, err := s.view.store.Threads(r.Context(), roomID, [2]int64{from.Seq, from.Sub}, limit+1)
	if err != nil {
		return nil, err
	}
	return s.appendThreads(r.Context(), v, rows, limit, participated)
}

func (s *Server) appendThreads(ctx context.Context, v *viewer, rows []storage.Thread, limit int, participated bool) (any, error) {
	more := len(rows) > limit
	rows = rows[:min(len(rows), limit)]
	ids := make([]string, len(rows))
	for i, row := range rows {
		ids[i] = row.Root
	}
	roots, err := s.threadRoots(ctx, v, ids)
	if err != nil {
		return nil, err
	}
	if participated {
		in, err := s.view.store.Participated(ctx, v.roomID, ids, v.userID)
		if err != nil {
			return nil, err
		}
		roots = slices.DeleteFunc(roots, func(ev *event) bool { return ev.Sender() != v.userID && !slices.Contains(in, ev.EventID()) })
	}
	sh, err := s.shownTo(ctx, v, roots)
	if err != nil {
		return nil, err
	}
	body := sh.appendEvents([]byte(`{"chunk":`), roots)
	if more {
		last := rows[len(rows)-1]
		body = appendString(appendKey(body, "next_batch"),
			timelineToken(roomapi.Position{Partition: s.partition(v.roomID), Seq: last.Seq, Sub: last.Sub}))
	}
	return jsontext.Value(append(body, '}')), nil
}

// threadRoots fetches the roots that the viewer may see; those of ignored
// users redacted, as if the client had put the thread together itself.
func (s *Server) threadRoots(ctx context.Context, v *viewer, ids []string) ([]*event, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	res, err := roomapi.QueryEvents.Call(ctx, s.caller, &roomapi.EventsRequest{RoomID: v.roomID, EventIDs: ids, Viewer: v.userID})
	if err != nil {
		return nil, err
	}
	var out []*event
	for _, stored := range res.Events {
		if expired(fromStored(stored), v.expired) {
			continue
		}
		if _, ignored := v.ignored[stored.Sender()]; ignored {
			left, err := stored.Redact()
			if err != nil {
				return nil, err
			}
			fresh := *stored
			fresh.Event = left
			stored = &fresh
		}
		out = append(out, fromStored(stored))
	}
	return out, nil
}
