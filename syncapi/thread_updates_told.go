package syncapi

import (
	"context"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
)

// appendThreadsExtension appends the threads of all joined rooms in which something
// was said since the client's position; unless it wants their roots, only those of
// which this answer does not hold all that was said.
// spec: MSC4360
func (x *slidingAnswer) appendThreadsExtension(ctx context.Context, body []byte, ask *extensionAsk) ([]byte, bool, error) {
	of := struct {
		Roots bool `json:"include_roots"`
		Limit int  `json:"limit"`
	}{Limit: maxThreadUpdates}
	if err := json.Unmarshal(ask.raw, &of); err != nil || of.Limit < 1 {
		return nil, false, matrixerror.InvalidParam("The limit of threads is not a number above zero")
	}
	rooms := x.s.threadsOfUser(x.u, x.cut, nil, x.since)
	presented := map[*room]int64{}
	for _, r := range x.rooms {
		if len(r.shown) > 0 {
			presented[r.room] = r.shown[0].Position.Seq
		}
	}
	if !of.Roots {
		for _, in := range rooms {
			in.presentedSince = presented[in.room]
		}
	}
	list, rest, err := x.s.threadUpdates(ctx, rooms, min(of.Limit, maxThreadUpdates))
	if err != nil || len(list) == 0 {
		return append(body, "{}"...), false, err
	}
	v := viewer{userID: x.u.id, deviceID: x.deviceID, ignored: x.ignored, now: x.now.UnixMilli()}
	body, err = x.s.appendThreadUpdates(ctx, appendKey(append(body, '{'), "updates"), list, v, of.Roots)
	if rest != nil {
		body = appendString(appendKey(body, "prev_batch"), threadsToken(x.cut, rest))
	}
	return append(body, '}'), true, err
}

// threadsOfUser are the rooms that a user is joined to, and what is asked of each:
// what was said up to the cut since a position, of threads whose last event is not
// after another; nil is no bound.
func (s *Server) threadsOfUser(u *user, cut, from, since *vector) (out []*threadsIn) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for id, m := range u.rooms {
		p := m.room.partition
		upper := cut.room(p)
		if m.at(upper).Membership != "join" {
			continue
		}
		in := &threadsIn{room: m.room, changes: m.changes, lower: since.of(id, p, len(cut.rooms)), upper: upper, from: upper, joinedSince: joinedSince(m.changes, upper)}
		if from != nil {
			in.from = from.room(p)
		}
		out = append(out, in)
	}
	return out
}

// threadsToken makes the token of a page: what it is of, which stays the same on all
// of them, and from where on.
func threadsToken(cut, from *vector) string {
	of := newVector(len(cut.rooms), len(cut.users), 0, 0)
	copy(of.rooms, cut.rooms)
	return "u" + of.String() + "." + from.String()
}

// parseThreads reads a threadsToken; "" is of what there is now.
func (s *Server) parseThreads(token string) (cut, from *vector, err error) {
	if token == "" {
		return s.view.applied.Load(), nil, nil
	}
	before, after, _ := strings.Cut(token, ".")
	text, ok := strings.CutPrefix(before, "u")
	if cut, err = parseVector(text, s.view.shape); err == nil {
		from, err = parseVector(after, s.view.shape)
	}
	if n := len(s.view.shape.rooms); err != nil || !ok || len(cut.rooms) != n || len(from.rooms) != n || !s.view.applied.Load().covers(cut) {
		return nil, nil, errToken()
	}
	return cut, from, nil
}

// threadsUpdated answers GET /thread_updates: the threads of all rooms, with their
// roots, last first, back to a position of sliding sync.
// spec: MSC4360
func (s *Server) threadsUpdated(r *httpapi.Request) (any, error) {
	q, ctx := r.Query(), r.Context()
	limit, err := boundedLimit(q, maxThreadUpdates, maxThreadUpdates)
	if err != nil {
		return nil, err
	}
	if q.Get("dir") != "b" {
		return nil, matrixerror.InvalidParam("dir is not b")
	}
	var to *vector
	if token := q.Get("to"); token != "" {
		if to, _, err = parsePos(token, s.view.shape); err != nil {
			return nil, errToken()
		}
	}
	if err := s.catchUp(ctx, nil); err != nil {
		return nil, err
	}
	cut, from, err := s.parseThreads(q.Get("from"))
	if err != nil {
		return nil, err
	}
	u, err := s.view.user(ctx, r.Device.UserID)
	if err != nil {
		return nil, err
	}
	defer s.view.release(u)
	body, err := s.limited(ctx, func(ctx context.Context) ([]byte, error) {
		list, rest, err := s.threadUpdates(ctx, s.threadsOfUser(u, cut, from, to), limit)
		if err != nil {
			return nil, err
		}
		u.mu.Lock()
		v := viewer{userID: u.id, deviceID: r.Device.DeviceID, ignored: u.ignored, now: s.now().UnixMilli()}
		u.mu.Unlock()
		body, err := s.appendThreadUpdates(ctx, []byte(`{"chunk":`), list, v, true)
		if rest != nil {
			body = appendString(appendKey(body, "next_batch"), threadsToken(cut, rest))
		}
		return append(body, '}'), err
	})
	return jsontext.Value(body), err
}
