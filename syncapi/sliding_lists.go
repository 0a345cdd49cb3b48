package syncapi

import (
	"context"
	"slices"
	"strings"

	"github.com/matrix-org/dendrite/common/property"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// collect finds the rooms that the answer is about, and account data.
func (x *slidingAnswer) collect(ctx context.Context) error {
	all := x.roomsOfUser()
	if err := x.match(ctx, all); err != nil {
		return err
	}
	var joined []*part
	for _, r := range all {
		if !r.known && !r.matched() {
			continue
		}
		x.rooms = append(x.rooms, r)
		if r.known {
			x.known++
		}
		if r.now.Membership == "join" {
			joined = append(joined, r.part)
		}
	}
	return x.receiptsOf(ctx, joined)
}

// roomsOfUser lists the rooms that lists are made of.
// spec: MSC4186 §lists
func (x *slidingAnswer) roomsOfUser() []*slidingRoom {
	x.u.mu.Lock()
	defer x.u.mu.Unlock()
	x.ignored = x.u.ignored
	x.collectAccount()
	out := make([]*slidingRoom, 0, len(x.u.rooms))
	parts, rooms := make([]part, len(x.u.rooms)), make([]slidingRoom, len(x.u.rooms)) // one allocation each
	for id, m := range x.u.rooms {
		was, known := x.before.rooms[id]
		p := &parts[len(out)]
		if !x.place(p, m, was, known) {
			continue
		}
		r := &rooms[len(out)]
		*r = slidingRoom{part: p, known: known, was: was, tags: x.u.tags[id]}
		_, r.direct = x.u.direct[id]
		r.busy = p.now.TS // of rooms that the user is not in, nothing more is told
		if p.now.Membership == "join" {
			p.room.mu.RLock()
			r.busy = max(r.busy, p.room.busy)
			p.room.mu.RUnlock()
		}
		out = append(out, r)
	}
	return out
}

// place decides whether a room is in lists, and what of it is new to the client.
// u.mu is held.
func (x *slidingAnswer) place(p *part, m *membership, was toldRoom, known bool) bool {
	cut := x.cut.room(m.room.partition)
	*p = part{room: m.room, changes: m.changes, now: m.at(cut), upper: cut}
	if known {
		if p.lower = was.behind; p.lower == 0 {
			p.lower = x.since.of(m.room.id, m.room.partition, len(x.cut.rooms))
		}
	}
	switch p.now.Membership {
	case "join":
		p.fresh = !known || !m.stayed(p.lower, cut)
	case "invite":
		// spec: client-server-api §ignoring-users, §invite-permission
		_, ignored := x.ignored[p.now.Sender]
		if !known && (ignored || x.u.invites.Action(p.now.Sender) != userapi.InviteAllowed) {
			return false
		}
		p.fresh = !known || p.now.Seq > p.lower
	case "knock":
		p.fresh = !known || p.now.Seq > p.lower
	case "leave", "ban":
		return x.placeLeft(m, p, known)
	default:
		return false
	}
	if p.fresh {
		p.lower = 0
	}
	return true
}

// placeLeft is place for a room that the user is no longer in: those left by
// the user's own will only where the client knows them.
func (x *slidingAnswer) placeLeft(m *membership, p *part, known bool) bool {
	was := m.joinedIn(0, p.now.Seq)
	own := p.now.Sender == x.u.id || p.now.Sender == ""
	if m.isForgotten(p.upper) || !known && (own || !was) {
		return false
	}
	p.upper = p.now.Seq
	switch before := m.at(p.lower); {
	case !was || known && p.now.Seq > p.lower && !m.joinedIn(p.lower, p.upper) && before.Membership != "join":
		p.ended = true
	case !known || p.now.Seq > p.lower && before.Membership != "join":
		p.fresh, p.lower = true, 0
	}
	return true
}

// match finds which rules match which rooms, and counts the rooms of lists.
func (x *slidingAnswer) match(ctx context.Context, all []*slidingRoom) error {
	fits, err := x.filters(ctx, all)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(x.ask.lists, func(l *slidingList) bool { return !l.whole(len(all)) }) {
		slices.SortFunc(all, func(a, b *slidingRoom) int {
			if a.busy != b.busy {
				return int(min(max(b.busy-a.busy, -1), 1))
			}
			return strings.Compare(a.room.id, b.room.id)
		})
	}
	for i, l := range x.ask.lists {
		places := make([]int, len(all)) // of this list, one allocation
		for n, r := range all {
			if !fits(l.filter, r) {
				continue
			}
			if l.holds(x.counts[i]) {
				if r.lists == nil {
					places[n] = i
					r.lists = places[n : n+1 : n+1]
				} else {
					r.lists = append(r.lists, i)
				}
			}
			x.counts[i]++
		}
	}
	return x.configure(all)
}

// configure combines what the rules that match rooms say.
func (x *slidingAnswer) configure(all []*slidingRoom) error {
	combined := map[string]*roomConfig{}
	var key []byte
	for _, r := range all {
		own := x.ask.subscribed[r.room.id]
		r.subscribed = own != nil
		if len(r.lists) == 0 && own == nil {
			continue
		}
		key = key[:0]
		for _, i := range r.lists {
			key = append(key, byte(i))
		}
		if own != nil {
			key = append(append(key, 0xff), own.state.id...)
			key = append(key, byte(own.limit))
		}
		config, ok := combined[string(key)]
		if !ok {
			var configs []*roomConfig
			for _, i := range r.lists {
				configs = append(configs, x.ask.lists[i].config)
			}
			if own != nil {
				configs = append(configs, own)
			}
			var err error
			if config, err = combine(configs); err != nil {
				return err
			}
			combined[string(key)] = config
		}
		r.config, r.limit = config, &config.limit
	}
	return nil
}

// filters prepares what filters go by: it asks only for what some filter needs.
func (x *slidingAnswer) filters(ctx context.Context, all []*slidingRoom) (func(*slidingFilter, *slidingRoom) bool, error) {
	var facts map[*room]roomFacts
	needed := func(l *slidingList) bool {
		f := l.filter
		return f != nil && (f.Encrypted != nil || f.Types != nil || f.NotTypes != nil)
	}
	if slices.ContainsFunc(x.ask.lists, needed) {
		var rooms []*room
		for _, r := range all {
			if r.now.Stripped == "" {
				rooms = append(rooms, r.room)
			}
		}
		var err error
		if facts, err = x.s.findFacts(ctx, rooms); err != nil {
			return nil, err
		}
	}
	spaces := map[string]map[string]struct{}{}
	for _, l := range x.ask.lists {
		if l.filter == nil {
			continue
		}
		for _, id := range l.filter.Spaces {
			if spaces[id] != nil {
				continue
			}
			var err error
			if spaces[id], err = x.children(ctx, id, all); err != nil {
				return nil, err
			}
		}
	}
	return func(f *slidingFilter, r *slidingRoom) bool {
		if f == nil {
			return true
		}
		known, ok := facts[r.room]
		if !ok && facts != nil {
			known = strippedFacts(r.now.Stripped)
		}
		return f.fits(r, known) && f.inSpaces(r.room.id, spaces)
	}, nil
}

// fits tells whether a room passes the filter, but for spaces.
func (f *slidingFilter) fits(r *slidingRoom, facts roomFacts) bool {
	is := func(want *bool, has bool) bool { return want == nil || *want == has }
	of := func(types []*string) bool {
		return slices.ContainsFunc(types, func(t *string) bool {
			return t == nil && facts.typ == nil || t != nil && facts.typ != nil && *t == *facts.typ
		})
	}
	tagged := func(tags []string) bool {
		return slices.ContainsFunc(tags, func(name string) bool { _, has := r.tags[name]; return has })
	}
	return is(f.DM, r.direct) && is(f.Invited, r.now.Membership == "invite") && is(f.Encrypted, facts.encrypted) &&
		(f.Types == nil || of(f.Types)) && !of(f.NotTypes) && (f.Tags == nil || tagged(f.Tags)) && !tagged(f.NotTags)
}

// inSpaces tells whether a room is in one of the filter's spaces.
func (f *slidingFilter) inSpaces(id string, spaces map[string]map[string]struct{}) bool {
	return f.Spaces == nil || slices.ContainsFunc(f.Spaces, func(space string) bool { _, is := spaces[space][id]; return is })
}

// children are the rooms of a space that the user is joined to; of others none.
func (x *slidingAnswer) children(ctx context.Context, id string, all []*slidingRoom) (map[string]struct{}, error) {
	out := map[string]struct{}{}
	i := slices.IndexFunc(all, func(r *slidingRoom) bool { return r.room.id == id && r.now.Membership == "join" })
	if i < 0 {
		return out, nil
	}
	r := all[i].room
	req := roomapi.StateRequest{RoomID: id, WithoutMembers: true}
	state, ok := r.knownState(now, &req)
	if !ok {
		var err error
		if state, _, err = x.s.askState(ctx, r, req); err != nil {
			return nil, err
		}
	}
	for key, ev := range state {
		if ev != nil && isChild(key, ev) {
			out[key.StateKey] = struct{}{}
		}
	}
	return out, nil
}

// isChild tells whether a state event puts a room into a space.
// spec: client-server-api §mspacechild
func isChild(key gomatrixserverlib.StateKey, ev *event) bool {
	if key.Type != typeSpaceChild {
		return false
	}
	via, ok := property.Member(ev.Content(), "via")
	return ok && via.Kind() == '['
}
