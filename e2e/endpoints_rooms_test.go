package e2e

import (
	"net/url"
	"testing"
)

// membershipOf is what a room's state says of a user.
func (u *user) membershipOf(t *testing.T, room, id string) string {
	t.Helper()
	a, err := u.try("GET", inRoom(room)+"/state/m.room.member/"+url.PathEscape(id), nil)
	if err != nil {
		t.Fatal(err)
	}
	return a.str("membership")
}

// memberships: invites, and who is put out.
func (w *town) memberships(t *testing.T) {
	room := w.alice.createRoom(t, object{"name": "parlour"})
	in, of := inRoom(room), func(id string) object { return object{"user_id": id, "reason": "so"} }
	refuseAll(t, []refusal{
		{w.bob, 403, "M_FORBIDDEN", "POST", in + "/join", object{}},
		{w.bob, 403, "M_FORBIDDEN", "POST", "/join/" + url.PathEscape(room), object{}},
		{w.bob, 403, "M_FORBIDDEN", "POST", in + "/invite", of(w.root.id)},
		{w.bob, 403, "M_FORBIDDEN", "POST", in + "/leave", object{}},
		{w.alice, 404, "M_NOT_FOUND", "POST", in + "/invite", of(nobody)},
	})
	w.alice.call(t, "POST", in+"/invite", of(w.bob.id))
	w.bob.syncUntil(t, "", "the invite", func(body object) bool {
		return find(dig(body, "rooms", "invite", room, "invite_state", "events"), "type", "m.room.name") != nil
	})
	w.bob.call(t, "POST", in+"/join", object{"reason": "asked"})
	if got := list(w.bob.call(t, "GET", "/joined_rooms", nil).body["joined_rooms"]); !holds(got, room) {
		t.Errorf("bob is in %v", got)
	}
	if got := w.alice.call(t, "GET", in+"/joined_members", nil); dig(got.body, "joined", w.bob.id) == nil {
		t.Errorf("in the room are %s", got.raw)
	}
	refuseAll(t, []refusal{
		{w.alice, 403, "M_FORBIDDEN", "POST", in + "/invite", of(w.bob.id)},
		{w.alice, 403, "M_BAD_STATE", "POST", in + "/unban", of(w.bob.id)},
		{w.bob, 403, "M_FORBIDDEN", "POST", in + "/kick", of(w.alice.id)},
		{w.bob, 403, "M_FORBIDDEN", "POST", in + "/ban", of(w.alice.id)},
		{w.bob, 400, "M_UNKNOWN", "POST", in + "/forget", object{}},
	})
	w.alice.call(t, "POST", in+"/kick", of(w.bob.id))
	if got := w.alice.membershipOf(t, room, w.bob.id); got != "leave" {
		t.Errorf("after a kick bob is %q", got)
	}
	left := w.alice.call(t, "GET", in+"/members?membership=leave", nil)
	if len(list(left.body["chunk"])) != 1 || find(left.body["chunk"], "state_key", w.bob.id) == nil {
		t.Errorf("left have %s", left.raw)
	}
	w.alice.call(t, "POST", in+"/ban", of(w.bob.id))
	w.alice.refused(t, 403, "M_FORBIDDEN", "POST", in+"/invite", of(w.bob.id))
	w.bob.call(t, "POST", in+"/forget", object{}) // the banned may
	refuseAll(t, []refusal{
		{w.bob, 403, "M_FORBIDDEN", "GET", in + "/messages?dir=b", nil},
		{w.bob, 403, "M_FORBIDDEN", "GET", in + "/members", nil},
		{w.bob, 403, "M_FORBIDDEN", "GET", in + "/joined_members", nil},
		{anonymous(w.s), 401, "M_MISSING_TOKEN", "GET", "/joined_rooms", nil},
	})
	w.alice.call(t, "POST", in+"/unban", of(w.bob.id))
	if got := w.alice.membershipOf(t, room, w.bob.id); got != "leave" {
		t.Errorf("after the ban bob is %q", got)
	}
}

// knocks are taken and refused.
func (w *town) knocks(t *testing.T) {
	room := w.alice.createRoom(t, object{"preset": "public_chat", "initial_state": []object{
		{"type": "m.room.join_rules", "content": object{"join_rule": "knock"}}}})
	since := w.alice.syncOnce(t, "", "0").str("next_batch")
	if got := w.bob.call(t, "POST", "/knock/"+url.PathEscape(room), object{"reason": "please"}); got.str("room_id") != room {
		t.Errorf("bob knocks at %s", got.raw)
	}
	w.alice.syncUntil(t, since, "the knock", func(body object) bool {
		return dig(find(joinedRoom(body, room, "timeline", "events"), "state_key", w.bob.id), "content", "membership") == "knock"
	})
	w.bob.syncUntil(t, "", "that bob knocks", func(body object) bool { return dig(body, "rooms", "knock", room) != nil })
	w.bob.call(t, "POST", inRoom(room)+"/leave", object{})
	if got := w.alice.membershipOf(t, room, w.bob.id); got != "leave" {
		t.Errorf("bob took his knock back, and is %q", got)
	}
	closed := w.alice.createRoom(t, object{})
	refuseAll(t, []refusal{
		{w.bob, 403, "M_FORBIDDEN", "POST", "/knock/" + url.PathEscape(closed), object{}},
		{w.bob, 404, "M_NOT_FOUND", "POST", "/knock/" + url.PathEscape("#none:localhost"), object{}},
		{w.alice, 403, "M_FORBIDDEN", "POST", "/knock/" + url.PathEscape(room), object{}},
	})
}

// guests may do little, and only where they are let in.
func (w *town) guests(t *testing.T) {
	guest := anonymous(w.s)
	a := guest.call(t, "POST", "/register?kind=guest", object{})
	guest.id, guest.token = a.str("user_id"), a.str("access_token")
	if got := guest.call(t, "GET", "/account/whoami", nil); got.body["is_guest"] != true {
		t.Errorf("the guest is %s", got.raw)
	}
	may := guest.call(t, "GET", "/capabilities", nil)
	if dig(may.body, "capabilities", "m.change_password", "enabled") != false || !holds(list(dig(may.body, "capabilities", "m.profile_fields", "allowed")), "displayname") {
		t.Errorf("the guest is told that they may %s", may.raw)
	}
	open := w.alice.createRoom(t, object{"preset": "public_chat", "initial_state": []object{
		{"type": "m.room.guest_access", "content": object{"guest_access": "can_join"}}}})
	guest.join(t, open)
	if got := w.alice.call(t, "GET", inRoom(open)+"/event/"+url.PathEscape(guest.send(t, open, "g", "hello")), nil); got.str("sender") != guest.id {
		t.Errorf("alice sees %s", got.raw)
	}
	closed := w.alice.createRoom(t, object{"preset": "public_chat"})
	refuseAll(t, []refusal{
		{guest, 403, "M_GUEST_ACCESS_FORBIDDEN", "POST", "/join/" + url.PathEscape(closed), object{}},
		{guest, 403, "M_GUEST_ACCESS_FORBIDDEN", "POST", "/createRoom", object{}},
		{guest, 403, "M_GUEST_ACCESS_FORBIDDEN", "POST", inRoom(open) + "/invite", object{"user_id": w.bob.id}},
		{guest, 403, "M_GUEST_ACCESS_FORBIDDEN", "PUT", "/profile/" + url.PathEscape(guest.id) + "/avatar_url", object{"avatar_url": "mxc://x/y"}},
	})
}

// state of a room, and redactions.
func (w *town) state(t *testing.T) {
	room := w.alice.createRoom(t, object{"preset": "public_chat"})
	in := inRoom(room)
	w.bob.join(t, room)
	set := w.alice.call(t, "PUT", in+"/state/m.room.topic/", object{"topic": "cakes"}).str("event_id")
	if got := w.bob.call(t, "GET", in+"/state/m.room.topic/", nil); got.str("topic") != "cakes" {
		t.Errorf("bob sees %s", got.raw)
	}
	if got := w.bob.call(t, "GET", in+"/state/m.room.topic/?format=event", nil); got.str("event_id") != set {
		t.Errorf("bob sees %s", got.raw)
	}
	w.alice.call(t, "PUT", in+"/state/org.example.shelf/top", object{"n": 1})
	if got := w.bob.call(t, "GET", in+"/state/org.example.shelf/top", nil); got.body["n"] != 1.0 {
		t.Errorf("bob sees %s", got.raw)
	}
	var all []any
	if err := unmarshal(w.bob.call(t, "GET", in+"/state", nil).raw, &all); err != nil || find(all, "type", "org.example.shelf") == nil {
		t.Errorf("the state is %v, %v", all, err)
	}
	sent := w.alice.send(t, room, "s1", "regret")
	redact := in + "/redact/" + url.PathEscape(sent) + "/"
	w.bob.refused(t, 403, "M_FORBIDDEN", "PUT", redact+"b1", object{})
	redaction := w.alice.call(t, "PUT", redact+"a1", object{"reason": "no"}).str("event_id")
	if again := w.alice.call(t, "PUT", redact+"a1", object{"reason": "no"}).str("event_id"); again != redaction {
		t.Errorf("the same redaction again is %s, not %s", again, redaction)
	}
	if got := w.bob.call(t, "GET", in+"/event/"+url.PathEscape(sent), nil); dig(got.body, "content", "body") != nil || dig(got.body, "unsigned", "redacted_because", "event_id") != redaction {
		t.Errorf("after the redaction bob sees %s", got.raw)
	}
	outsider := w.account(t, "peeker", false)
	refuseAll(t, []refusal{
		{w.bob, 403, "M_FORBIDDEN", "PUT", in + "/state/m.room.topic/", object{"topic": "pies"}},
		{w.bob, 404, "M_NOT_FOUND", "GET", in + "/state/org.example.shelf/bottom", nil},
		{outsider, 403, "M_FORBIDDEN", "GET", in + "/state", nil},
		{outsider, 403, "M_FORBIDDEN", "GET", in + "/state/m.room.topic/", nil},
		{w.alice, 400, "M_BAD_ALIAS", "PUT", in + "/state/m.room.canonical_alias/", object{"alias": "#none:localhost"}},
		{w.alice, 400, "M_BAD_JSON", "PUT", in + "/state/org.example.shelf/top", []int{1}},
	})
}

// aliases of rooms.
func (w *town) aliases(t *testing.T) {
	room := w.alice.createRoom(t, object{"preset": "public_chat"})
	const alias = "#cake:localhost"
	path := "/directory/room/" + url.PathEscape(alias)
	w.alice.call(t, "PUT", path, object{"room_id": room})
	if got := w.bob.call(t, "GET", path, nil); got.str("room_id") != room || !holds(list(got.body["servers"]), "localhost") {
		t.Errorf("bob finds %s", got.raw)
	}
	if got := w.bob.call(t, "POST", "/join/"+url.PathEscape(alias), object{}); got.str("room_id") != room {
		t.Errorf("bob joins %s", got.raw)
	}
	if got := w.bob.call(t, "GET", inRoom(room)+"/aliases", nil); !holds(list(got.body["aliases"]), alias) {
		t.Errorf("the aliases are %s", got.raw)
	}
	outsider := w.account(t, "stranger", false)
	refuseAll(t, []refusal{
		{w.bob, 409, "M_UNKNOWN", "PUT", path, object{"room_id": room}},
		{w.bob, 400, "M_INVALID_PARAM", "PUT", "/directory/room/cake", object{"room_id": room}},
		{w.bob, 400, "M_INVALID_PARAM", "GET", "/directory/room/cake", nil},
		{w.bob, 403, "M_FORBIDDEN", "DELETE", path, nil},
		{outsider, 403, "M_FORBIDDEN", "GET", inRoom(room) + "/aliases", nil},
		{w.bob, 400, "M_INVALID_PARAM", "GET", "/rooms/nonsense/aliases", nil},
	})
	w.alice.call(t, "DELETE", path, nil)
	refuseAll(t, []refusal{
		{w.bob, 404, "M_NOT_FOUND", "GET", path, nil},
		{w.alice, 404, "M_NOT_FOUND", "DELETE", path, nil},
	})
}

// directory of published rooms.
func (w *town) directory(t *testing.T) {
	room := w.alice.createRoom(t, object{"preset": "public_chat", "name": "The Cake Shop", "topic": "cakes of all kinds"})
	path := "/directory/list/room/" + url.PathEscape(room)
	listed := func(a *answer) bool { return find(a.body["chunk"], "room_id", room) != nil }
	if got := w.bob.call(t, "GET", path, nil); got.str("visibility") != "private" {
		t.Errorf("a new room is %s", got.raw)
	}
	w.bob.refused(t, 403, "M_FORBIDDEN", "PUT", path, object{"visibility": "public"})
	w.alice.call(t, "PUT", path, object{"visibility": "public"})
	if got := w.bob.call(t, "GET", path, nil); got.str("visibility") != "public" {
		t.Errorf("the room is %s", got.raw)
	}
	if got := w.bob.call(t, "GET", "/publicRooms?limit=100", nil); !listed(got) {
		t.Errorf("published are %s", got.raw)
	}
	for term, found := range map[string]bool{"cake": true, "pie": false} {
		if got := w.bob.call(t, "POST", "/publicRooms", object{"filter": object{"generic_search_term": term}}); listed(got) != found {
			t.Errorf("who looks for %s finds %s", term, got.raw)
		}
	}
	if got := w.bob.call(t, "GET", clientV1+"/room_summary/"+url.PathEscape(room), nil); got.str("name") != "The Cake Shop" || got.body["num_joined_members"] != 1.0 {
		t.Errorf("the room is %s", got.raw)
	}
	w.alice.call(t, "PUT", path, object{"visibility": "private"})
	if got := w.bob.call(t, "GET", "/publicRooms", nil); listed(got) {
		t.Errorf("published are %s", got.raw)
	}
	hidden := w.alice.createRoom(t, object{})
	refuseAll(t, []refusal{
		{w.bob, 404, "M_NOT_FOUND", "GET", "/directory/list/room/!none", nil},
		{w.alice, 404, "M_NOT_FOUND", "PUT", "/directory/list/room/!none", object{}},
		{w.bob, 404, "M_NOT_FOUND", "GET", clientV1 + "/room_summary/" + url.PathEscape(hidden), nil},
		{w.bob, 400, "M_INVALID_PARAM", "GET", "/publicRooms?limit=many", nil},
		{w.bob, 400, "M_BAD_JSON", "POST", "/publicRooms", object{"filter": 1}},
		{anonymous(w.s), 401, "M_MISSING_TOKEN", "POST", "/publicRooms", object{}},
		{anonymous(w.s), 401, "M_MISSING_TOKEN", "POST", "/user_directory/search", object{"search_term": "x"}},
		{w.bob, 400, "M_MISSING_PARAM", "POST", "/user_directory/search", object{}},
	})
}

// spaces, and what is between users.
func (w *town) spaces(t *testing.T) {
	hidden := w.alice.createRoom(t, object{"creation_content": object{"type": "m.space"}})
	refuseAll(t, []refusal{
		{w.bob, 403, "M_FORBIDDEN", "GET", clientV1 + inRoom(hidden) + "/hierarchy", nil},
		{w.alice, 400, "M_INVALID_PARAM", "GET", clientV1 + inRoom(hidden) + "/hierarchy?from=nonsense", nil},
		{w.bob, 400, "M_INVALID_PARAM", "GET", clientV1 + "/mutual_rooms?user_id=" + url.QueryEscape(w.bob.id), nil},
	})
}

// upgrade of a room moves what the specification says.
func (w *town) upgrade(t *testing.T) {
	room := w.alice.createRoom(t, object{"preset": "public_chat", "name": "old walls", "room_version": "10"})
	const alias = "#walls:localhost"
	w.alice.call(t, "PUT", "/directory/room/"+url.PathEscape(alias), object{"room_id": room})
	w.alice.call(t, "PUT", inRoom(room)+"/state/m.room.canonical_alias/", object{"alias": alias})
	w.alice.call(t, "PUT", ofUser(w.alice.id)+inRoom(room)+"/tags/u.home", object{"order": 0.5})
	w.bob.join(t, room)
	refuseAll(t, []refusal{
		{w.bob, 403, "M_FORBIDDEN", "POST", inRoom(room) + "/upgrade", object{"new_version": "11"}},
		{w.alice, 400, "M_UNSUPPORTED_ROOM_VERSION", "POST", inRoom(room) + "/upgrade", object{"new_version": "none"}},
		{w.alice, 400, "M_MISSING_PARAM", "POST", inRoom(room) + "/upgrade", object{}},
	})
	next := w.alice.call(t, "POST", inRoom(room)+"/upgrade", object{"new_version": "11"}).str("replacement_room")
	if got := w.bob.call(t, "GET", inRoom(room)+"/state/m.room.tombstone/", nil); got.str("replacement_room") != next {
		t.Errorf("the old room ends with %s", got.raw)
	}
	if got := w.bob.call(t, "GET", "/directory/room/"+url.PathEscape(alias), nil); got.str("room_id") != next {
		t.Errorf("the alias leads to %s", got.raw)
	}
	w.bob.join(t, next)
	if got := w.bob.call(t, "GET", inRoom(next)+"/state/m.room.create/", nil); dig(got.body, "predecessor", "room_id") != room || got.str("room_version") != "11" {
		t.Errorf("the new room begins with %s", got.raw)
	}
	if got := w.bob.call(t, "GET", inRoom(next)+"/state/m.room.name/", nil); got.str("name") != "old walls" {
		t.Errorf("the new room is called %s", got.raw)
	}
	until(t, "alice's tag is moved", func() bool {
		return dig(w.alice.call(t, "GET", ofUser(w.alice.id)+inRoom(next)+"/tags", nil).body, "tags", "u.home") != nil
	})
	w.bob.refused(t, 403, "M_FORBIDDEN", "PUT", inRoom(room)+"/send/m.room.message/u", object{"body": "x"})
}

// reports of events, rooms and users.
func (w *town) reports(t *testing.T) {
	room := w.alice.createRoom(t, object{"preset": "public_chat"})
	event := w.alice.send(t, room, "rep", "spam")
	w.bob.join(t, room)
	w.bob.call(t, "POST", inRoom(room)+"/report/"+url.PathEscape(event), object{"reason": "spam", "score": -100})
	w.bob.call(t, "POST", inRoom(room)+"/report", object{"reason": "spam"})
	w.bob.call(t, "POST", "/users/"+url.PathEscape(w.alice.id)+"/report", object{"reason": "spam"})
	refuseAll(t, []refusal{
		{w.bob, 404, "M_NOT_FOUND", "POST", inRoom(room) + "/report/$none", object{}},
		{w.bob, 400, "M_MISSING_PARAM", "POST", inRoom(room) + "/report", object{}},
		{w.bob, 400, "M_MISSING_PARAM", "POST", "/users/" + url.PathEscape(w.alice.id) + "/report", object{}},
		{w.bob, 400, "M_BAD_JSON", "POST", inRoom(room) + "/report", object{"reason": 1}},
	})
}
