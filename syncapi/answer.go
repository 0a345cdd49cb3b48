package syncapi

import (
	"context"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/syncapi/storage"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

const (
	// chunkRooms is how many rooms of an answer are prepared together.
	chunkRooms = 50
	// maxAnswer is the size from which the timelines of further rooms hold one
	// event each: the rest is a gap that the client fills when it needs to.
	maxAnswer = 16 << 20
)

// answer is one answer of /sync being built: everything between since and cut.
type answer struct {
	s        *Server
	req      *syncRequest
	filter   *filter
	u        *user
	deviceID string
	since    *vector // nil: from the beginning
	cut      *vector
	now      time.Time
	ignored  map[string]struct{}
	// account is the changed account data of rooms, by room.
	account map[string][]accountChange
	global  []accountChange
	// accountAll is all account data, where all was asked for.
	accountAll map[string]map[string]jsontext.Value
	parts      []*part
	// looked holds events that were looked up ahead, by room, until the room is shown.
	looked map[string][]*event
	// toDevice are the messages to the device.
	toDevice []userapi.ToDeviceMessage
	// device is what a lazily loading device was sent, where it is one.
	device *sentDevice
	// tight is set once the answer is large.
	tight bool
	// something is set once the answer holds more than its token.
	something bool
}

// part is a room's part of an answer.
type part struct {
	room    *room
	changes []storage.Membership // of this user, ascending
	now     storage.Membership   // the last change up to the cut
	// fresh rooms are shown as a whole: the client knows nothing of them.
	fresh bool
	// ended parts tell only that an invite or a knock is over.
	ended bool
	// lower and upper bound the timeline: (lower, upper].
	lower, upper int64
	// limit is of the timeline; nil: the filter's.
	limit *int
	// expired is the time before which the room's events have expired, as its timeline
	// was found.
	expired int64
}

// limitOf is how many events of a room's timeline are shown.
func (a *answer) limitOf(p *part) int {
	if p.limit != nil {
		return *p.limit
	}
	return a.filter.Room.Timeline.Count(defaultTimelineLimit, maxTimelineLimit)
}

func newAnswer(s *Server, req *syncRequest, u *user, deviceID string) *answer {
	return &answer{s: s, req: req, filter: req.filter, u: u, deviceID: deviceID, since: req.since, cut: s.view.applied.Load(), now: s.now()}
}

// build makes the answer's body.
func (a *answer) build(ctx context.Context) ([]byte, error) {
	if err := a.inbox(ctx); err != nil { // before all else: it may move the cut
		return nil, err
	}
	if err := a.collect(ctx); err != nil {
		return nil, err
	}
	if a.filter.Lazy() {
		a.device = a.s.sent.of(a.u.id, a.deviceID, a.since, a.cut)
	}
	body := make([]byte, 0, 512+1024*len(a.parts))
	body = append(body, `{"next_batch":`...)
	body = appendString(body, a.cut.String())
	var err error
	if body, err = a.appendGlobal(ctx, body); err != nil {
		return nil, err
	}
	if body, err = a.appendRooms(ctx, body); err != nil {
		return nil, err
	}
	return append(body, '}'), nil
}

// nothing is the body that says only where to go on.
func (a *answer) nothing(at *vector) []byte {
	body := append([]byte(`{"next_batch":`), appendString(nil, at.String())...)
	return append(a.appendDevices(body), '}')
}

// collect finds the rooms and the account data that the answer is about.
func (a *answer) collect(ctx context.Context) error {
	var joined []*part
	a.u.mu.Lock()
	a.ignored = a.u.ignored
	a.collectAccount()
	for id, m := range a.u.rooms {
		if !a.filter.Room.WantsRoom(id) {
			continue
		}
		if a.quiet(m) {
			continue
		}
		p := a.classify(m)
		switch {
		case p == nil:
		case p.now.Membership == "join":
			joined = append(joined, p)
		default:
			a.parts = append(a.parts, p)
		}
	}
	a.u.mu.Unlock()
	if err := a.receiptsOf(ctx, joined); err != nil {
		return err
	}
	for _, p := range joined {
		if p.fresh || a.changed(p) {
			a.parts = append(a.parts, p)
		}
	}
	slices.SortFunc(a.parts, func(x, y *part) int {
		switch {
		case x.room.id < y.room.id:
			return -1
		default:
			return 1
		}
	})
	return nil
}

// quiet tells at little cost that the client knows all of a joined room
// already: the most frequent case by far.
func (a *answer) quiet(m *membership) bool {
	r := m.room
	if a.since == nil || a.req.full || len(a.account[r.id]) > 0 {
		return false
	}
	since := a.since.of(r.id, r.partition, len(a.cut.rooms))
	if last := m.changes[len(m.changes)-1]; last.Seq > since || last.Membership != "join" {
		return false
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.latest <= since && r.typing.pos <= a.since.sinceEph(r.typing.partition, a.cut.ephID) &&
		r.receipts != nil && r.receipts.loaded && covers(a.since.users, r.receipts.highest)
}

// receiptsOf brings the receipts of joined rooms into memory, in chunks.
func (a *answer) receiptsOf(ctx context.Context, joined []*part) error {
	for chunk := range slices.Chunk(joined, chunkRooms) {
		rooms := make([]*room, len(chunk))
		for i, p := range chunk {
			rooms[i] = p.room
		}
		if err := a.s.view.loadReceipts(ctx, rooms); err != nil {
			return err
		}
	}
	return nil
}

// classify decides how a room appears in the answer; nil when it does not,
// but for joined rooms, of which that is seen later. u.mu is held.
func (a *answer) classify(m *membership) *part {
	cut := a.cut.room(m.room.partition)
	since := a.since.of(m.room.id, m.room.partition, len(a.cut.rooms))
	p := &part{room: m.room, changes: m.changes, now: m.at(cut), lower: since, upper: cut}
	first := a.since == nil
	switch p.now.Membership {
	case "join":
		p.fresh = first || a.req.full || !m.stayed(since, cut)
		if p.fresh && (first || !m.stayed(since, cut)) {
			p.lower = 0
		}
		return p
	case "invite":
		if !first && p.now.Seq <= since {
			return nil
		}
		// spec: client-server-api §ignoring-users, §invite-permission
		if _, ignored := a.ignored[p.now.Sender]; ignored || a.u.invites.Action(p.now.Sender) != userapi.InviteAllowed {
			return nil
		}
		return p
	case "knock":
		if !first && p.now.Seq <= since {
			return nil
		}
		return p
	case "leave", "ban":
		return a.classifyLeft(m, p, since)
	}
	return nil
}

// classifyLeft decides how a room that the user is no longer in appears: as
// long as the client does not know, and always where it asked for those.
func (a *answer) classifyLeft(m *membership, p *part, since int64) *part {
	if m.isForgotten(p.upper) {
		return nil
	}
	p.upper = p.now.Seq
	before := m.at(since)
	switch {
	case a.since == nil, a.req.full && a.filter.Room.IncludeLeave && p.now.Seq <= since:
		if !a.filter.Room.IncludeLeave {
			return nil
		}
		p.fresh, p.lower = true, 0
		p.ended = !m.joinedIn(0, p.upper)
	case p.now.Seq <= since:
		return nil
	case before.Membership != "join":
		// An invite or a knock that ended, or a room joined and left between.
		p.fresh, p.lower = true, 0
		p.ended = !m.joinedIn(since, p.upper)
	}
	if p.ended {
		p.lower = p.upper - 1
	}
	return p
}

// joinedIn tells whether the user was joined at some time in (since, upTo].
func (m *membership) joinedIn(since, upTo int64) bool {
	for _, c := range m.changes {
		if c.Seq > since && c.Seq <= upTo && c.Membership == "join" {
			return true
		}
	}
	return false
}

// changed tells whether there may be something new in a room that the client
// knows.
func (a *answer) changed(p *part) bool {
	p.room.mu.RLock()
	t := p.room.typing
	p.room.mu.RUnlock()
	return a.news(p) || t.pos > a.since.sinceEph(t.partition, a.cut.ephID)
}

// news is changed without what is gone again soon.
func (a *answer) news(p *part) bool {
	r := p.room
	if len(a.account[r.id]) > 0 {
		return true
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.latest > p.lower || r.receipts != nil && r.receipts.loaded && !covers(a.since.users, r.receipts.highest)
}

// shown is how the events of a room are shown to this client.
func (a *answer) shown(p *part) *shown {
	return &shown{
		userID: a.u.id, deviceID: a.deviceID, now: a.now.UnixMilli(),
		expired:    p.expired,
		federation: a.filter.EventFormat == "federation", fields: a.filter.fields,
		memberAt: func(seq int64) string { return memberAt(p.changes, seq) },
	}
}

// memberAt is the membership right after a position, by its changes.
func memberAt(changes []storage.Membership, seq int64) string {
	for i := len(changes) - 1; i >= 0; i-- {
		if changes[i].Seq <= seq {
			return changes[i].Membership
		}
	}
	return ""
}

// appendRooms appends the member rooms.
func (a *answer) appendRooms(ctx context.Context, body []byte) ([]byte, error) {
	start := len(body)
	body = append(body, `,"rooms":{`...)
	empty := len(body)
	for _, section := range []struct {
		name    string
		matches func(membership string) bool
		write   func(context.Context, []byte, *part) ([]byte, error)
	}{
		{"join", func(m string) bool { return m == "join" }, a.appendJoined},
		{"invite", func(m string) bool { return m == "invite" }, a.appendInvite},
		{"knock", func(m string) bool { return m == "knock" }, a.appendKnock},
		{"leave", func(m string) bool { return m == "leave" || m == "ban" }, a.appendLeft},
	} {
		mark := len(body)
		body = append(appendKey(body, section.name), '{')
		open := len(body)
		parts := slices.DeleteFunc(slices.Clone(a.parts), func(p *part) bool { return !section.matches(p.now.Membership) })
		for chunk := range slices.Chunk(parts, chunkRooms) {
			var err error
			if body, err = a.appendChunk(ctx, body, chunk, section.write); err != nil {
				return nil, err
			}
		}
		if len(body) == open {
			body = body[:mark]
			continue
		}
		body = append(body, '}')
	}
	if len(body) == empty {
		return body[:start], nil
	}
	a.something = true
	return append(body, '}'), nil
}

// appendChunk appends some rooms of a section.
func (a *answer) appendChunk(ctx context.Context, body []byte, chunk []*part, write func(context.Context, []byte, *part) ([]byte, error)) ([]byte, error) {
	if err := a.warm(ctx, chunk); err != nil {
		return nil, err
	}
	for _, p := range chunk {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		a.tight = len(body) > maxAnswer
		written, err := write(ctx, body, p)
		if matrixerror.Is(err, "M_NOT_FOUND") {
			continue // purged; the record that says so is on its way
		}
		if err != nil {
			return nil, err
		}
		body = written
	}
	return body, nil
}
