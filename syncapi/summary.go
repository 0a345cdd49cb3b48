package syncapi

import (
	"context"
	"slices"
	"strconv"

	"github.com/matrix-org/dendrite/common/property"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

// heroes is who a room without a name is named after. It is kept until the
// room's members or names change.
type heroes struct {
	// named rooms need none.
	named bool
	// here are the first joined and invited members, gone the first who left
	// or were banned: one more than is shown, for the client's own user.
	here, gone []string
}

const shownHeroes = 5

// heroesChanged forgets the heroes when an event may change them. r.mu is held.
func (r *room) heroesChanged(ev *event) {
	for _, c := range ev.changes {
		switch c.Type {
		case typeMember, "m.room.name", "m.room.canonical_alias":
			r.heroes = nil
			return
		}
	}
}

// heroes returns the users that the room is named after for this client; nil
// when it has a name.
// spec: client-server-api §get_matrixclientv3sync (m.heroes)
func (a *answer) heroes(ctx context.Context, p *part) ([]string, error) {
	p.room.mu.RLock()
	h := p.room.heroes
	p.room.mu.RUnlock()
	if h == nil {
		var err error
		if h, err = a.s.findHeroes(ctx, p.room); err != nil {
			return nil, err
		}
	}
	if h.named {
		return nil, nil
	}
	self := func(id string) bool { return id == a.u.id }
	list := slices.DeleteFunc(slices.Clone(h.here), self)
	if len(list) == 0 {
		list = slices.DeleteFunc(slices.Clone(h.gone), self)
	}
	return list[:min(len(list), shownHeroes)], nil
}

func (s *Server) findHeroes(ctx context.Context, r *room) (*heroes, error) {
	at := r.last()
	h := &heroes{}
	names, err := s.stateNow(ctx, r, gomatrixserverlib.StateKey{Type: "m.room.name"}, gomatrixserverlib.StateKey{Type: "m.room.canonical_alias"})
	if err != nil {
		return nil, err
	}
	for _, ev := range names {
		field := "name"
		if ev.Type() == "m.room.canonical_alias" {
			field = "alias"
		}
		if v, ok := property.Member(ev.Content(), field); ok && v.Kind() == '"' && len(v) > 2 {
			h.named = true
		}
	}
	if !h.named {
		if h.here, err = s.firstMembers(ctx, r, "join", "invite"); err != nil {
			return nil, err
		}
		if len(h.here) <= 1 {
			if h.gone, err = s.firstMembers(ctx, r, "leave", "ban"); err != nil {
				return nil, err
			}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.latest == at {
		r.heroes = h
	}
	return h, nil
}

// firstMembers returns the users who have had one of the memberships longest.
func (s *Server) firstMembers(ctx context.Context, r *room, memberships ...string) ([]string, error) {
	if list, ok := r.keptMembers(shownHeroes+1, memberships); ok {
		return list, nil
	}
	res, err := roomapi.QueryMemberships.Call(ctx, s.caller, &roomapi.MembershipsRequest{RoomID: r.id, Membership: memberships, Limit: shownHeroes + 1})
	if err != nil {
		return nil, err
	}
	members := slices.Clone(res.Members)
	slices.SortFunc(members, func(x, y roomapi.Member) int { return x.Position.Compare(y.Position) })
	var out []string
	for _, m := range members[:min(len(members), shownHeroes+1)] {
		out = append(out, m.UserID)
	}
	return out, nil
}

// memberCounts counts who is joined and invited.
func (s *Server) memberCounts(ctx context.Context, r *room) (joined, invited int, err error) {
	r.mu.RLock()
	joined, invited, counted := r.joined, r.invited, r.counted
	r.mu.RUnlock()
	if counted > 0 {
		return joined, invited, nil
	}
	res, err := roomapi.QueryRoom.Call(ctx, s.caller, &roomapi.RoomRequest{RoomID: r.id})
	if err != nil {
		return 0, 0, err
	}
	return res.JoinedCount, res.InvitedCount, nil
}

// appendSummary appends the room's summary.
func (a *answer) appendSummary(ctx context.Context, body []byte, p *part) ([]byte, error) {
	list, err := a.heroes(ctx, p)
	if err != nil {
		return nil, err
	}
	joined, invited, err := a.s.memberCounts(ctx, p.room)
	if err != nil {
		return nil, err
	}
	body = append(appendKey(body, "summary"), '{')
	if list != nil {
		body = append(appendKey(body, "m.heroes"), '[')
		for _, id := range list {
			body = appendString(comma(body), id)
		}
		body = append(body, ']')
	}
	body = strconv.AppendInt(appendKey(body, "m.joined_member_count"), int64(joined), 10)
	body = strconv.AppendInt(appendKey(body, "m.invited_member_count"), int64(invited), 10)
	return append(body, '}'), nil
}
