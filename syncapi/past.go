package syncapi

import (
	"context"
	"errors"
	"slices"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/pushrules"
	"github.com/matrix-org/dendrite/common/rpc"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/syncapi/storage"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// pastPage is how many events are asked for at once.
const pastPage = 100

// past goes back through what happened in all of a user's rooms, newest first.
// Within a partition of room.output the order is that of Seqs, so that a vector of
// positions says where it is; between partitions it is that of the events' times.
type past struct {
	s       *Server
	u       *user
	ignored map[string]struct{}
	streams []*pastStream
	// rules are those that the user had before, oldest first; judged is a ruleset of
	// each, and behind them that of now, once it was needed.
	rules  []userapi.PastRules
	judged []*pushrules.Ruleset
	cut    *vector
	// threads has how the user's subscriptions have changed; nil: not needed yet.
	threads map[threadKey][]userapi.ThreadChange
}

// pastStream is a stretch of a room's timeline: from a join of the user's on, or
// an invite by itself.
type pastStream struct {
	room    *room
	changes []storage.Membership
	// lower bounds the stretch; top is a Seq above which there is nothing left of it.
	lower, top int64
	// invite is the event that invites the user, which others followed or not.
	invite string
	over   bool
	// page has events that were read, newest first; next is where to go on, which
	// looked says to be set, and end that there is nothing behind the page.
	page        []*event
	next        roomapi.Position
	looked, end bool
	// expired is the time before which the room's events have expired, once known.
	expired *int64
	count   pastCount
}

// newPast begins at the user's newest event, or where a page before has ended.
func (s *Server) newPast(ctx context.Context, u *user, from *vector) (*past, error) {
	p := &past{s: s, u: u, cut: s.view.applied.Load()}
	u.mu.Lock()
	p.ignored = u.ignored
	for _, m := range u.rooms {
		upTo := p.cut.room(m.room.partition)
		if from != nil {
			upTo = min(upTo, from.room(m.room.partition))
		}
		if !m.isForgotten(p.cut.room(m.room.partition)) {
			p.addStreams(m, upTo)
		}
	}
	u.mu.Unlock()
	res, err := userapi.QueryPastRules.Call(ctx, s.caller, &userapi.PastRulesRequest{UserID: u.id})
	if errors.Is(err, rpc.ErrNoMethod) { // of a release that does not keep them
		res, err = &userapi.PastRulesResponse{}, nil
	}
	if err != nil {
		return nil, err
	}
	p.rules, p.judged = res.Rules, make([]*pushrules.Ruleset, len(res.Rules)+1)
	return p, nil
}

// addStreams adds what a user may have been notified of in a room. u.mu is held.
func (p *past) addStreams(m *membership, upTo int64) {
	end, last := p.cut.room(m.room.partition), len(m.changes)-1
	for i := last; i >= 0; i-- {
		c := m.changes[i]
		top := min(end, upTo, max(m.room.last(), c.Seq))
		switch {
		case c.Seq > p.cut.room(m.room.partition): // is not shown yet
			continue
		case c.Membership == "join" && (i == 0 || m.changes[i-1].Membership != "join"):
			if top > c.Seq {
				p.streams = append(p.streams, &pastStream{room: m.room, changes: m.changes, lower: c.Seq, top: top})
			}
		case c.Membership == "invite" && c.EventID != "" && c.Seq <= upTo && p.u.invites.Action(c.Sender) == userapi.InviteAllowed:
			p.streams = append(p.streams, &pastStream{room: m.room, changes: m.changes, lower: c.Seq - 1, top: c.Seq, invite: c.EventID, over: i < last})
		}
		if c.Membership != "join" || i == 0 || m.changes[i-1].Membership != "join" {
			end = min(end, c.Seq)
		}
	}
}

// rest is where the next page begins; nil when there is none.
func (p *past) rest() *vector {
	out := newVector(len(p.cut.rooms), len(p.cut.users), 0, 0)
	more := false
	for _, st := range p.streams {
		out.rooms[st.room.partition] = max(out.rooms[st.room.partition], st.top)
		more = more || st.top > 0
	}
	if !more {
		return nil
	}
	return out
}

// next is the newest event that has not been looked at; nil when there is none.
func (p *past) next(ctx context.Context) (*pastStream, *event, error) {
	heads := map[int]*pastStream{} // by partition
	for {
		clear(heads)
		ready := true
		for _, st := range p.streams {
			if h := heads[st.room.partition]; st.top > 0 && (h == nil || st.top > h.top) {
				heads[st.room.partition] = st
			}
		}
		for _, st := range heads {
			if len(st.page) == 0 {
				ready = false
				if err := p.load(ctx, st); err != nil {
					return nil, nil, err
				}
			}
		}
		if ready {
			break
		}
	}
	var newest *pastStream
	for _, st := range heads {
		if newest == nil || st.newer(newest) {
			newest = st
		}
	}
	if newest == nil {
		return nil, nil, nil
	}
	ev := newest.page[0]
	newest.page = newest.page[1:]
	newest.top = ev.Position.Seq - 1
	newest.settle()
	return newest, ev, nil
}

// newer tells which of two streams, of other partitions, comes first.
func (st *pastStream) newer(other *pastStream) bool {
	a, b := st.page[0].OriginServerTS(), other.page[0].OriginServerTS()
	return a > b || a == b && st.room.partition < other.room.partition
}

// settle brings top down to the next event, as far as that is known.
func (st *pastStream) settle() {
	switch {
	case len(st.page) > 0:
		st.top = st.page[0].Position.Seq
	case st.end || st.top <= st.lower:
		st.top = 0
	}
}

// load reads the next events of a stream.
func (p *past) load(ctx context.Context, st *pastStream) error {
	var events []*event
	var err error
	if st.invite != "" {
		st.end = true
		found := map[string]*event{st.invite: nil}
		if err = p.s.fetch(ctx, st.room.id, found); err == nil && found[st.invite] != nil {
			events = []*event{found[st.invite]}
		}
	} else {
		events, err = p.loadTimeline(ctx, st)
	}
	if matrixerror.Is(err, "M_NOT_FOUND") { // purged, or of a room that nobody is in
		st.end, err = true, nil
	}
	if err != nil {
		return err
	}
	st.page = st.page[:0]
	for _, ev := range events {
		if ev.hidden {
			st.count.doubtful = true // who is in the room may have changed
			continue
		}
		if ev.Event != nil && ev.Position.Sub == 0 && ev.Position.Seq > st.lower && ev.Position.Seq <= st.top {
			st.page = append(st.page, ev)
		}
	}
	if len(events) > 0 {
		st.top = min(st.top, events[len(events)-1].Position.Seq)
	}
	st.settle()
	return nil
}

// loadTimeline reads the next events of a timeline, newest first: those of the tail,
// then what is kept from before that, then the room server's.
func (p *past) loadTimeline(ctx context.Context, st *pastStream) ([]*event, error) {
	if !st.looked {
		st.looked, st.next = true, roomapi.Position{Partition: st.room.partition, Seq: st.top}
		window, whole := st.room.window(st.lower, st.top)
		st.end = whole
		if len(window) > 0 {
			st.next = before(window[0].Position)
			window = slices.Clone(window)
			slices.Reverse(window)
			return window, nil
		}
		if whole {
			return nil, nil
		}
	}
	events, _, all, err := p.s.olderUpTo(ctx, st.room, st.next, st.lower, pastPage)
	if err != nil {
		return nil, err
	}
	if len(events) > 0 || all {
		st.end = all
		if len(events) > 0 {
			st.next = before(events[len(events)-1].Position)
		}
		return events, nil
	}
	res, err := roomapi.QueryHistory.Call(ctx, p.s.caller, &roomapi.HistoryRequest{
		RoomID: st.room.id, From: st.next, To: roomapi.Position{Partition: st.room.partition, Seq: st.lower}, Backwards: true, Limit: pastPage})
	if err != nil {
		return nil, err
	}
	st.next, st.end = res.Next, !res.More
	return fromAllStored(res.Events), nil
}
