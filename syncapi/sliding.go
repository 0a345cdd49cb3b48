package syncapi

import (
	"context"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/syncapi/storage"
)

// sliding answers POST /sync of clients that slide a window over their rooms, in
// the names of the proposal.
// spec: MSC4186
func (s *Server) sliding(r *httpapi.Request) (any, error) { return s.slide(r, false) }

// slidingDraft does so in the names that clients have now.
// spec: MSC4186 §unstable-prefix
func (s *Server) slidingDraft(r *httpapi.Request) (any, error) { return s.slide(r, true) }

func (s *Server) slide(r *httpapi.Request, draft bool) (any, error) {
	ctx := r.Context()
	req, err := s.parseSliding(r, draft)
	if err != nil {
		return nil, err
	}
	s.active(r, true, req.presence)
	conn := storage.Connection{UserID: r.Device.UserID, DeviceID: r.Device.DeviceID, ConnID: req.connID}
	before := emptyConnection(conn)
	if req.since != nil {
		if before, err = s.connection(ctx, conn, req.hash); err != nil {
			return nil, err
		}
	}
	if err := s.catchUp(ctx, req.since); matrixerror.Is(err, "M_INVALID_PARAM") {
		return nil, errUnknownPos()
	} else if err != nil {
		return nil, err
	}
	u, err := s.view.user(ctx, conn.UserID)
	if err != nil {
		return nil, err
	}
	defer s.view.release(u)
	var x *slidingAnswer
	var body []byte
	stopped, err := s.poll(ctx, u, req.timeout, func() (bool, error) {
		x = newSlidingAnswer(s, req, u, conn, before)
		var err error
		body, err = s.limited(ctx, x.build)
		return x.something || req.since == nil, err
	})
	if err != nil {
		return nil, err
	}
	if stopped {
		return jsontext.Value(x.nothing()), nil
	}
	return x.finish(ctx, body)
}

// slidingAnswer is one answer of sliding sync being built: what is new, between
// since and cut, in the rooms that the request's rules match.
type slidingAnswer struct {
	*answer
	ask    *slidingRequest
	conn   storage.Connection
	before *connection
	rooms  []*slidingRoom // those matched, or told before
	counts []int          // of rooms, by list
	known  int            // how many of the rooms the client knows
	// told is what the client has of rooms after this answer, where that is not what
	// it had, and required the states that rooms refer to; extensions as in connection.
	told       map[string]toldRoom
	required   []*required
	extensions uint64
}

// slidingRoom is a room of which the client was told, or is to be.
type slidingRoom struct {
	*part
	lists      []int // that match, by number
	subscribed bool
	config     *roomConfig // nil: no rule matches
	known      bool        // to the client
	was        toldRoom
	direct     bool
	tags       map[string]struct{}
	busy       int64 // orders rooms
	// shown are the events of its timeline in this answer.
	shown []*event
}

// matched tells whether the room is to be told of.
func (r *slidingRoom) matched() bool { return r.config != nil }

// whole tells whether the client's copy is to be replaced, also of what extensions say.
func (r *slidingRoom) whole() bool { return r.fresh || !r.known || r.was.behind > 0 }

func newSlidingAnswer(s *Server, req *slidingRequest, u *user, conn storage.Connection, before *connection) *slidingAnswer {
	a := newAnswer(s, &syncRequest{filter: s.lazily, since: req.since, stateAfter: true}, u, conn.DeviceID)
	return &slidingAnswer{answer: a, ask: req, conn: conn, before: before, counts: make([]int, len(req.lists)),
		told: map[string]toldRoom{}, required: before.required, extensions: before.extensions}
}

// build makes the answer's body, but for its end: the token.
func (x *slidingAnswer) build(ctx context.Context) ([]byte, error) {
	if err := x.collect(ctx); err != nil {
		return nil, err
	}
	x.device = x.s.sent.of(x.u.id, x.deviceID+"\x00"+x.ask.connID, x.since, x.cut)
	body := make([]byte, 0, 1024)
	body = append(body, '{')
	if x.ask.txnID != "" {
		body = appendString(appendKey(body, "txn_id"), x.ask.txnID)
	}
	body = x.appendLists(body)
	body, err := x.appendSlidingRooms(ctx, body)
	if err != nil {
		return nil, err
	}
	return x.appendExtensions(ctx, body)
}

// finish stores the connection as it is after the answer, and ends the body.
func (x *slidingAnswer) finish(ctx context.Context, body []byte) (any, error) {
	at, next := x.cut, x.next()
	if next != nil && x.since != nil && !x.something && x.extensions == x.before.extensions {
		// Nothing is told, so nothing needs to be stored: the client comes again with
		// the token that it has. From when on it asks for an extension is noted.
		at, next = x.since, nil
	}
	after, err := x.s.settle(ctx, x.conn, x.before, next, x.since == nil)
	if err != nil {
		return nil, err
	}
	body = appendString(appendKey(body, "pos"), posOf(at, after.hash))
	return jsontext.Value(append(body, '}')), nil
}

// nothing is the body that says only where to go on.
func (x *slidingAnswer) nothing() []byte {
	body := appendString([]byte(`{"pos":`), posOf(x.since, x.before.hash))
	return append(body, `,"lists":{},"rooms":{},"extensions":{}}`...)
}

// next is the connection's state after the answer; nil if it is the one before.
func (x *slidingAnswer) next() *connection {
	if x.extensions == x.before.extensions && len(x.told) == 0 && x.known == len(x.before.rooms) {
		return nil
	}
	c := &connection{rooms: x.roomsAfter(), extensions: x.extensions}
	used := make([]bool, len(x.required))
	for _, r := range c.rooms {
		if r.required >= 0 {
			used[r.required] = true
		}
	}
	place := make([]int, len(x.required))
	bytes := 0
	for i, r := range x.required {
		place[i] = -1
		if used[i] && len(c.required) < maxRequired && bytes+len(r.id) <= maxRequiredBytes {
			place[i] = len(c.required)
			c.required = append(c.required, r)
			bytes += len(r.id)
		}
	}
	for id, r := range c.rooms {
		if r.required >= 0 && place[r.required] != r.required {
			r.required = place[r.required]
			c.rooms[id] = r
		}
	}
	return c
}

// roomsAfter is what the client has of all rooms; those that are gone are forgotten.
func (x *slidingAnswer) roomsAfter() map[string]toldRoom {
	rooms := make(map[string]toldRoom, len(x.rooms))
	for _, r := range x.rooms {
		if told, ok := x.told[r.room.id]; ok {
			rooms[r.room.id] = told
		} else if r.known {
			rooms[r.room.id] = r.was
		}
	}
	return rooms
}

// tell notes what the client has of a room after this answer.
func (x *slidingAnswer) tell(r *slidingRoom, told toldRoom) {
	if r.known && told == r.was {
		delete(x.told, r.room.id)
	} else {
		x.told[r.room.id] = told
	}
}

// numberOf is the place of a required state among those that rooms refer to.
func (x *slidingAnswer) numberOf(r *required) int {
	i := slices.IndexFunc(x.required, func(other *required) bool { return other.id == r.id })
	if i < 0 {
		x.required = append(slices.Clone(x.required), r)
		i = len(x.required) - 1
	}
	return i
}

// appendLists appends how many rooms are in each list.
func (x *slidingAnswer) appendLists(body []byte) []byte {
	body = append(appendKey(body, "lists"), '{')
	for i, l := range x.ask.lists {
		body = appendNumber(append(appendKey(body, l.name), '{'), "count", int64(x.counts[i]))
		body = append(body, '}')
	}
	return append(body, '}')
}

// appendSlidingRooms appends the rooms in which something is new.
func (x *slidingAnswer) appendSlidingRooms(ctx context.Context, body []byte) ([]byte, error) {
	body = append(appendKey(body, "rooms"), '{')
	empty := len(body)
	var changed []*slidingRoom
	for _, r := range x.rooms {
		if !r.matched() {
			x.pass(r)
			continue
		}
		if r.known {
			x.tell(r, r.upToDate())
		}
		if x.mayTell(r) {
			changed = append(changed, r)
		}
	}
	for chunk := range slices.Chunk(changed, chunkRooms) {
		if err := x.warm(ctx, x.toWarm(chunk)); err != nil {
			return nil, err
		}
		for _, r := range chunk {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			x.tight = len(body) > maxAnswer
			written, err := x.appendSliding(ctx, body, r)
			if matrixerror.Is(err, "M_NOT_FOUND") {
				continue // purged; the record that says so is on its way
			}
			if err != nil {
				return nil, err
			}
			body = written
		}
	}
	x.something = x.something || len(body) > empty
	return append(body, '}'), nil
}

// toWarm are the rooms of which more than what is new is told.
func (x *slidingAnswer) toWarm(rooms []*slidingRoom) (parts []*part) {
	for _, r := range rooms {
		if r.fresh || x.expands(r) {
			parts = append(parts, r.wholePart())
		}
	}
	return parts
}

// wholePart is the room as if the client knew nothing of it.
func (r *slidingRoom) wholePart() *part {
	p := *r.part
	p.fresh, p.lower = true, 0
	return &p
}

// pass notes that a room which the client knows is not told of: from here on it
// is behind, if there is anything new.
func (x *slidingAnswer) pass(r *slidingRoom) {
	told := r.was
	if told.behind == 0 && x.moved(r) {
		told.behind = max(r.lower, 1)
	}
	x.tell(r, told)
}

// upToDate is what is noted of a room of which nothing is to be told.
func (r *slidingRoom) upToDate() toldRoom {
	told := r.was
	told.behind = 0
	return told
}

// moved tells whether there may be something new in a room.
func (x *slidingAnswer) moved(r *slidingRoom) bool {
	switch r.now.Membership {
	case "join":
		return r.fresh || x.news(r.part)
	}
	return r.now.Seq > r.lower
}

// mayTell tells whether there may be something to tell of a room that rules match.
func (x *slidingAnswer) mayTell(r *slidingRoom) bool {
	if !r.known || r.fresh || r.was.behind > 0 || x.moved(r) {
		return true
	}
	if r.ended || r.now.Membership == "invite" || r.now.Membership == "knock" {
		return false
	}
	return r.direct != r.was.direct || x.expands(r) || !x.has(r).covers(r.config.state)
}

// expands tells whether older events of a known room are to be told, because
// more of its last events are asked for than the client is known to have.
func (x *slidingAnswer) expands(r *slidingRoom) bool {
	return r.known && !r.fresh && !r.ended && r.config.limit > r.was.limit
}

// has is which state of a room the client has; nil: nobody knows.
func (x *slidingAnswer) has(r *slidingRoom) *required {
	if !r.known || r.fresh || r.was.required < 0 {
		return nil
	}
	return x.before.required[r.was.required]
}
