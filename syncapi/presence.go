package syncapi

import (
	"context"
	"slices"
	"strconv"
	"sync"

	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// maxPresences bounds the users whose presence is kept, maxPresenceUsers those
// of whom an initial answer tells.
const (
	maxPresences     = 100_000
	maxPresenceUsers = 500
)

// presences is what was last heard of users.
type presences struct {
	mu    sync.RWMutex
	users map[string]presence
	// highest is the last position, for those who have seen it all.
	highest int64
}

type presence struct {
	*userapi.Presence
	partition int
	pos       int64
}

func (p *presences) put(said *userapi.Presence, partition int, pos int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.users[said.UserID]; !ok && len(p.users) >= maxPresences {
		for id := range p.users { // any: the user-api knows it too
			delete(p.users, id)
			break
		}
	}
	p.users[said.UserID] = presence{said, partition, pos}
	p.highest = max(p.highest, pos)
}

// since returns the presence that changed between the vectors, by user.
func (p *presences) since(v, cut *vector) []presence {
	id := cut.ephID
	p.mu.RLock()
	defer p.mu.RUnlock()
	if len(v.eph) > 0 && v.ephID == id && p.highest <= slices.Min(v.eph) {
		return nil
	}
	var out []presence
	for _, one := range p.users {
		if one.pos > v.sinceEph(one.partition, id) && one.pos <= cut.sinceEph(one.partition, id) {
			out = append(out, one)
		}
	}
	return out
}

// appendPresence appends the presence of users who share a room with the
// client's.
// spec: client-server-api §presence
func (a *answer) appendPresence(ctx context.Context, body []byte) ([]byte, error) {
	if a.filter.Presence.Types != nil && !a.filter.Presence.WantsType("m.presence") {
		return body, nil
	}
	list, err := a.presenceList(ctx)
	if err != nil {
		return nil, err
	}
	mark := len(body)
	body = append(appendKey(body, "presence"), `{"events":[`...)
	empty := len(body)
	for _, p := range list {
		if a.filter.Presence.Wants("m.presence", p.UserID) {
			body = a.appendOnePresence(comma(body), p)
		}
	}
	if len(body) == empty {
		return body[:mark], nil
	}
	a.something = true
	return append(body, `]}`...), nil
}

func (a *answer) presenceList(ctx context.Context) ([]*userapi.Presence, error) {
	if a.since == nil {
		return a.allPresence(ctx)
	}
	var out []*userapi.Presence
	for _, p := range a.s.view.presence.since(a.since, a.cut) {
		if p.UserID == a.u.id {
			out = append(out, p.Presence)
			continue
		}
		shares, err := a.s.view.share(ctx, a.u, p.UserID)
		if err != nil {
			return nil, err
		}
		if shares {
			out = append(out, p.Presence)
		}
	}
	slices.SortFunc(out, func(x, y *userapi.Presence) int {
		if x.UserID < y.UserID {
			return -1
		}
		return 1
	})
	return out, nil
}

// allPresence asks for the presence of who shares a room with the user.
func (a *answer) allPresence(ctx context.Context) ([]*userapi.Presence, error) {
	var rooms []string
	for _, p := range a.parts {
		if p.now.Membership == "join" {
			rooms = append(rooms, p.room.id)
		}
	}
	ids := []string{a.u.id}
	if len(rooms) > 0 {
		neighbours, err := a.s.view.store.Neighbours(ctx, rooms, maxPresenceUsers)
		if err != nil {
			return nil, err
		}
		ids = append(ids, neighbours...)
	}
	slices.Sort(ids)
	res, err := userapi.QueryPresence.Call(ctx, a.s.caller, &userapi.PresenceRequest{UserIDs: slices.Compact(ids)})
	if err != nil {
		return nil, err
	}
	out := make([]*userapi.Presence, len(res.Presence))
	for i := range res.Presence {
		out[i] = &res.Presence[i]
	}
	return out, nil
}

// share tells whether two users are joined to the same room. Users of other
// servers are not in the view: theirs is told once federation brings it.
func (v *view) share(ctx context.Context, u *user, other string) (bool, error) {
	if !v.local(other) {
		return false, nil
	}
	o, err := v.user(ctx, other)
	if err != nil {
		return false, err
	}
	defer v.release(o)
	v.mu.Lock()
	defer v.mu.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, m := range o.rooms {
		_, here := m.room.active[o]
		_, there := m.room.active[u]
		if here && there {
			return true, nil
		}
	}
	return false, nil
}

func (a *answer) appendOnePresence(body []byte, p *userapi.Presence) []byte {
	body = append(body, `{"content":{`...)
	if p.LastActiveTS > 0 && !p.CurrentlyActive {
		body = strconv.AppendInt(appendKey(body, "last_active_ago"), max(a.now.UnixMilli()-p.LastActiveTS, 0), 10)
	}
	body = strconv.AppendBool(appendKey(body, "currently_active"), p.CurrentlyActive)
	body = appendString(appendKey(body, "presence"), p.Presence)
	if p.StatusMsg != "" {
		body = appendString(appendKey(body, "status_msg"), p.StatusMsg)
	}
	body = appendString(append(body, `},"sender":`...), p.UserID)
	return append(body, `,"type":"m.presence"}`...)
}
