package syncapi

import (
	"context"
	"maps"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/property"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

// roomNews is what is told of a room that the user is or was joined to.
type roomNews struct {
	// since is what is new, shown what is told of the timeline: older events too,
	// if it is expanded. of is the part that shown is of.
	since, shown *timeline
	of           *part
	expanded     bool
	live         int // of the events shown: how many are new
	state        []*event
	removed      []gomatrixserverlib.StateKey
	// facts has the entries that name the room, where they are new; nil values are removed.
	facts stateMap
	// lost tells that state which the client has changed, and is not told.
	lost bool
}

func nameKey() gomatrixserverlib.StateKey   { return gomatrixserverlib.StateKey{Type: "m.room.name"} }
func avatarKey() gomatrixserverlib.StateKey { return gomatrixserverlib.StateKey{Type: "m.room.avatar"} }

// appendSliding appends a room: name and object, unless there is nothing to tell.
// spec: MSC4186 §roomresult
func (x *slidingAnswer) appendSliding(ctx context.Context, body []byte, r *slidingRoom) ([]byte, error) {
	switch {
	case r.now.Membership == "invite", r.now.Membership == "knock":
		return x.appendOffered(ctx, body, r)
	case r.ended:
		return x.appendOver(ctx, body, r)
	}
	n, err := x.newsOf(ctx, r)
	if err != nil {
		return nil, err
	}
	x.note(r, n)
	moved := r.now.Seq > r.lower && r.known
	read := x.ask.draft && r.now.Membership == "join" && r.room.readSince(x.since, x.cut, x.u)
	if !r.fresh && !moved && !read && !n.tells() && r.direct == r.was.direct {
		return body, nil
	}
	body = append(appendKey(body, r.room.id), '{')
	body = x.appendCommon(body, r)
	if body, err = x.appendSlidingTimeline(ctx, body, r, n); err != nil {
		return nil, err
	}
	if len(n.state)+len(n.removed) > 0 {
		body = x.appendRequired(body, r, n)
	}
	body = n.appendName(body, r.fresh)
	if r.now.Membership == "join" {
		if body, err = x.appendMembers(ctx, body, r, n); err != nil {
			return nil, err
		}
		if x.ask.draft {
			threads, err := x.s.unread(ctx, x.u, r.part, x.ignored)
			if err != nil {
				return nil, err
			}
			total := sum(threads)
			body = appendNumber(body, "notification_count", int64(total.notifications))
			body = appendNumber(body, "highlight_count", int64(total.highlights))
		}
	}
	return append(body, '}'), nil
}

// tells tells whether there is anything in it.
func (n *roomNews) tells() bool {
	return n.expanded || len(n.since.events) > 0 || n.since.limited || len(n.state)+len(n.removed) > 0
}

// note notes what the client has of a room after this answer.
func (x *slidingAnswer) note(r *slidingRoom, n *roomNews) {
	limit := *r.limit
	if x.tight {
		limit = min(limit, 1)
	}
	told := toldRoom{limit: limit, direct: r.direct}
	if !r.fresh && !n.expanded && !n.since.limited {
		told.limit = max(r.was.limit, limit)
	}
	if has := x.has(r); has.covers(r.config.state) && !n.lost {
		told.required = x.numberOf(has)
	} else {
		told.required = x.numberOf(r.config.state)
	}
	x.tell(r, told)
	r.shown = n.shown.events
}

// newsOf finds what is new in a room, and what else is to be told of it.
func (x *slidingAnswer) newsOf(ctx context.Context, r *slidingRoom) (*roomNews, error) {
	t, err := x.timeline(ctx, r.part)
	if err != nil {
		return nil, err
	}
	n := &roomNews{since: t, shown: t, of: r.part}
	if x.expands(r) {
		whole := r.wholePart()
		older, err := x.timeline(ctx, whole)
		if err != nil {
			return nil, err
		}
		if len(older.events) > len(t.events) {
			n.shown, n.of, n.expanded = older, whole, true
		}
	}
	told := r.known && !r.fresh && !n.expanded && r.now.Seq <= r.lower
	if r.now.Membership != "join" && r.config.limit > 0 && !told {
		if err := x.ownLeave(ctx, n.of, n.shown); err != nil { // as in /sync
			return nil, err
		}
	}
	if x.since != nil {
		from := x.since.of(r.room.id, r.room.partition, len(x.cut.rooms))
		for _, ev := range n.shown.events {
			if ev.Position.Seq > from && ev.Position.Sub >= 0 {
				n.live++
			}
		}
	}
	return n, x.requiredState(ctx, r, n)
}

// requiredState finds the state to be told: of a room that the client does not
// know all that is wanted, else what has changed of it, and what was not wanted
// before.
func (x *slidingAnswer) requiredState(ctx context.Context, r *slidingRoom, n *roomNews) error {
	wants, has := r.config.state, x.has(r)
	out, all := stateMap{}, stateMap(nil)
	var err error
	if r.fresh || !has.covers(wants) {
		if all, err = x.wantedNow(ctx, r, n.since, wants); err != nil {
			return err
		}
		for key, ev := range all {
			if ev != nil && wants.matches(key) && !has.matches(key) {
				out[key] = ev
			}
		}
	}
	n.facts = all
	if !r.fresh {
		if n.facts, err = x.delta(ctx, r.part, r.lower, r.upper); err != nil {
			return err
		}
		for key, ev := range n.facts {
			lazily := wants.lazy && key.Type == typeMember && !n.since.limited
			if lazily || wants.matches(key) {
				out[key] = ev
			} else {
				n.lost = n.lost || has.matches(key)
			}
		}
	}
	if wants.lazy {
		if err := x.addMembers(ctx, r, n, out); err != nil {
			return err
		}
		x.device.note(r.room.id, out)
	}
	for key, ev := range out {
		if ev == nil {
			n.removed = append(n.removed, key)
		} else {
			n.state = append(n.state, ev)
		}
	}
	sortEvents(n.state)
	return nil
}

// wantedNow is the room's state at the part's end, as far as it is wanted, and
// what names the room.
func (x *slidingAnswer) wantedNow(ctx context.Context, r *slidingRoom, t *timeline, wants *required) (stateMap, error) {
	if t.whole && r.fresh && r.lower == 0 {
		return changesOf(t.window, 0, r.upper), nil // since the room began
	}
	req := roomapi.StateRequest{}
	switch {
	case !wants.wild:
		req.Keys = append(wants.keys(), nameKey(), avatarKey())
	case !wants.members:
		req.WithoutMembers = true
		for _, key := range wants.keys() {
			if key.Type == typeMember {
				req.Members = append(req.Members, key.StateKey)
			}
		}
	}
	return x.stateAt(ctx, r.part, r.upper, req)
}

// addMembers adds the member events that are needed to show the events told:
// those of senders, and of who is in member events. What this instance knows that
// the client has is left out.
// spec: MSC4186 §lazy-loaded-memberships
func (x *slidingAnswer) addMembers(ctx context.Context, r *slidingRoom, n *roomNews, out stateMap) error {
	need := map[gomatrixserverlib.StateKey]struct{}{}
	for _, ev := range n.shown.events {
		need[gomatrixserverlib.StateKey{Type: typeMember, StateKey: ev.Sender()}] = struct{}{}
		if ev.Type() == typeMember && ev.IsState() {
			need[ev.Key()] = struct{}{}
		}
	}
	maps.DeleteFunc(need, func(key gomatrixserverlib.StateKey, _ struct{}) bool {
		_, there := out[key]
		return there || !r.fresh && n.since.whole && x.device.has(r.room.id, key.StateKey) && !memberChanged(n.since.window, key)
	})
	if len(need) == 0 {
		return nil
	}
	req := roomapi.StateRequest{}
	for key := range need {
		req.Keys = append(req.Keys, key)
	}
	state, err := x.stateAt(ctx, r.part, r.upper, req)
	if err != nil {
		return err
	}
	for key := range need {
		if ev := state[key]; ev != nil {
			out[key] = ev
		}
	}
	return nil
}

// appendCommon appends what is told of any room.
// spec: MSC4186 §common-fields
func (x *slidingAnswer) appendCommon(body []byte, r *slidingRoom) []byte {
	if r.fresh || !r.known {
		body = append(appendKey(body, "initial"), "true"...)
	}
	if r.fresh || !r.known || r.now.Seq > r.lower {
		body = appendString(appendKey(body, "membership"), r.now.Membership)
	}
	if r.direct || r.direct != r.was.direct {
		body = strconv.AppendBool(appendKey(body, "is_dm"), r.direct)
	}
	if len(r.lists) > 0 {
		body = append(appendKey(body, "lists"), '[')
		for _, i := range r.lists {
			body = appendString(comma(body), x.ask.lists[i].name)
		}
		body = append(body, ']')
	}
	if stamp := x.bumpStamp(r); stamp > 0 {
		body = appendNumber(body, "bump_stamp", stamp)
	}
	return body
}

// bumpStamp is when something happened that people care about, in milliseconds;
// 0: not known.
func (x *slidingAnswer) bumpStamp(r *slidingRoom) int64 {
	if r.now.Membership != "join" {
		return r.now.TS
	}
	r.room.mu.RLock()
	stamp := r.room.bumped
	r.room.mu.RUnlock()
	if stamp > 0 {
		return stamp
	}
	for i := len(r.shown) - 1; i >= 0; i-- { // of before the time was noted
		if bumps(r.shown[i].Type()) {
			return min(r.shown[i].OriginServerTS(), x.now.UnixMilli())
		}
	}
	return r.now.TS
}

func appendNumber(body []byte, name string, n int64) []byte {
	return strconv.AppendInt(appendKey(body, name), n, 10)
}

// appendSlidingTimeline appends the timeline, where there is any.
func (x *slidingAnswer) appendSlidingTimeline(ctx context.Context, body []byte, r *slidingRoom, n *roomNews) ([]byte, error) {
	if !r.fresh && !n.expanded && len(n.shown.events) == 0 && !n.shown.limited {
		return body, nil
	}
	sh := x.shown(n.of)
	if err := x.complete(ctx, n.of, n.shown, sh); err != nil {
		return nil, err
	}
	body = sh.appendEvents(appendKey(body, "timeline"), n.shown.events)
	body = strconv.AppendBool(appendKey(body, "limited"), n.shown.limited)
	body = appendString(appendKey(body, "prev_batch"), timelineToken(n.shown.start))
	body = appendNumber(body, "num_live", int64(n.live))
	if n.expanded {
		name := "expanded_timeline"
		if x.ask.draft {
			name = "unstable_expanded_timeline"
		}
		body = append(appendKey(body, name), "true"...)
	}
	return body, nil
}

// appendRequired appends required_state: events, and what is there no more.
// spec: MSC4186 §statestub-type
func (x *slidingAnswer) appendRequired(body []byte, r *slidingRoom, n *roomNews) []byte {
	body = x.shown(r.part).appendEvents(appendKey(body, "required_state"), n.state)
	body = body[:len(body)-1]
	for _, key := range n.removed {
		body = appendString(append(comma(body), `{"type":`...), key.Type)
		body = append(appendString(append(body, `,"state_key":`...), key.StateKey), '}')
	}
	return append(body, ']')
}

// appendName appends name and avatar, where they are new or gone.
func (n *roomNews) appendName(body []byte, fresh bool) []byte {
	for _, f := range []struct {
		key           gomatrixserverlib.StateKey
		name, content string
	}{{nameKey(), "name", "name"}, {avatarKey(), "avatar", "url"}} {
		ev, changed := n.facts[f.key]
		if !changed {
			continue
		}
		if v, ok := textOf(ev, f.content); ok {
			body = append(appendKey(body, f.name), v...)
		} else if !fresh {
			body = append(appendKey(body, f.name), "null"...)
		}
	}
	return body
}

// textOf is a member of an event's content, if it is a string with something in it.
func textOf(ev *event, name string) (jsontext.Value, bool) {
	if ev == nil {
		return nil, false
	}
	v, ok := property.Member(ev.Content(), name)
	return v, ok && v.Kind() == '"' && len(v) > 2
}

// appendMembers appends who a room is named after and how many are in it, where
// that may have changed.
func (x *slidingAnswer) appendMembers(ctx context.Context, body []byte, r *slidingRoom, n *roomNews) ([]byte, error) {
	_, named := n.facts[nameKey()]
	if !r.fresh && !n.since.membersChanged() && !named {
		return body, nil
	}
	joined, invited, err := x.s.memberCounts(ctx, r.room)
	if err != nil {
		return nil, err
	}
	body = appendNumber(body, "joined_count", int64(joined))
	body = appendNumber(body, "invited_count", int64(invited))
	heroes, err := x.heroes(ctx, r.part)
	if err != nil || len(heroes) == 0 {
		return body, err
	}
	req := roomapi.StateRequest{}
	for _, id := range heroes {
		req.Keys = append(req.Keys, gomatrixserverlib.StateKey{Type: typeMember, StateKey: id})
	}
	members, err := x.stateAt(ctx, r.part, r.upper, req)
	if err != nil {
		return nil, err
	}
	body = append(appendKey(body, "heroes"), '[')
	for i, id := range heroes {
		body = appendString(append(comma(body), `{"user_id":`...), id)
		for _, name := range []string{"displayname", "avatar_url"} {
			if v, ok := textOf(members[req.Keys[i]], name); ok {
				body = append(appendKey(body, name), v...)
			}
		}
		body = append(body, '}')
	}
	return append(body, ']'), nil
}

// appendOffered appends a room that the user is invited to or has knocked on.
// spec: MSC4186 §inviteknockrejections
func (x *slidingAnswer) appendOffered(ctx context.Context, body []byte, r *slidingRoom) ([]byte, error) {
	stripped := jsontext.Value(r.now.Stripped)
	if len(stripped) == 0 {
		var err error
		if stripped, err = x.strippedState(ctx, r.part); err != nil {
			return nil, err
		}
	}
	body = append(appendKey(body, r.room.id), '{')
	body = x.appendCommon(body, r)
	name := "stripped_state"
	if x.ask.draft {
		name = "invite_state"
	}
	x.tell(r, toldRoom{required: -1, direct: r.direct})
	return append(append(appendKey(body, name), stripped...), '}'), nil
}

// appendOver appends the end of an invite or a knock: the event that ended it.
func (x *slidingAnswer) appendOver(ctx context.Context, body []byte, r *slidingRoom) ([]byte, error) {
	events := []byte(`[` + r.now.Stripped + `]`)
	if r.now.Stripped == "" {
		t := &timeline{}
		if err := x.ownLeave(ctx, r.part, t); err != nil {
			return nil, err
		}
		events = x.shown(r.part).appendEvents(nil, t.events)
	}
	body = append(appendKey(body, r.room.id), '{')
	body = x.appendCommon(body, r)
	body = append(appendKey(body, "required_state"), events...)
	body = append(appendKey(body, "timeline"), events...)
	x.tell(r, toldRoom{required: -1, direct: r.direct})
	return append(body, '}'), nil
}
