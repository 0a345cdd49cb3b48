package clientapi

import (
	"sync"
	"testing"

	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	directory "github.com/matrix-org/dendrite/directoryapi/api"
)

func TestInviteJoinLeave(t *testing.T) { sqldbtest.Each(t, testInviteJoinLeave) }

func testInviteJoinLeave(t *testing.T) {
	w := newWorld(t)
	room := w.create("alice", `{}`)
	in := "/rooms/" + room
	w.expect("403 M_FORBIDDEN", "bob", "POST", in+"/join", `{}`)
	w.expect("200", "alice", "POST", in+"/invite", `{"user_id":"@bob:test","reason":"come"}`)
	w.expect("200", "alice", "POST", in+"/invite", `{"user_id":"@bob:test","reason":"come"}`)
	w.expect("200", "bob", "POST", in+"/join", ``)
	again := w.expect("200", "bob", "POST", "/join/"+room, `{}`)
	if again.body["room_id"] != room {
		t.Errorf("joined %v", again.body)
	}
	w.expect("403 M_FORBIDDEN", "alice", "POST", in+"/invite", `{"user_id":"@bob:test"}`)
	w.expect("200", "bob", "POST", in+"/leave", ``)
	w.expect("200", "bob", "POST", in+"/leave", `{}`)
	w.expect("403 M_FORBIDDEN", "carol", "POST", in+"/leave", `{}`)
	w.expect("200", "alice", "POST", in+"/invite", `{"user_id":"@dan:test"}`)
	w.expect("200", "dan", "POST", in+"/leave", `{}`) // rejects
	w.expect("403 M_FORBIDDEN", "dan", "POST", in+"/join", `{}`)
}

// TestLeaveTwiceAtOnce: a request whose repetition overtakes its verdict is not
// refused for what itself has done.
func TestLeaveTwiceAtOnce(t *testing.T) { sqldbtest.Each(t, testLeaveTwiceAtOnce) }

func testLeaveTwiceAtOnce(t *testing.T) {
	w := newWorld(t)
	in := "/rooms/" + w.create("alice", `{"preset":"public_chat"}`)
	w.must("bob", "POST", in+"/join", `{}`)
	var leaving sync.WaitGroup
	for range 8 {
		leaving.Go(func() {
			if a := w.do("bob", "POST", in+"/leave", `{"reason":"late"}`); a.status != 200 {
				t.Errorf("left with %d %s", a.status, a.raw)
			}
		})
	}
	leaving.Wait()
}

func TestKickBanUnban(t *testing.T) { sqldbtest.Each(t, testKickBanUnban) }

func testKickBanUnban(t *testing.T) {
	w := newWorld(t)
	room := w.create("alice", `{"preset":"public_chat"}`)
	in := "/rooms/" + room
	w.must("bob", "POST", in+"/join", `{}`)
	w.must("carol", "POST", in+"/join", `{}`)
	w.expect("403 M_FORBIDDEN", "bob", "POST", in+"/kick", `{"user_id":"@carol:test"}`)
	w.expect("200", "alice", "POST", in+"/kick", `{"user_id":"@bob:test"}`)
	w.expect("403 M_FORBIDDEN", "alice", "POST", in+"/kick", `{"user_id":"@bob:test"}`)
	w.expect("200", "bob", "POST", in+"/join", `{}`)
	w.expect("403 M_BAD_STATE", "alice", "POST", in+"/unban", `{"user_id":"@bob:test"}`)
	w.expect("200", "alice", "POST", in+"/ban", `{"user_id":"@bob:test","reason":"spam"}`)
	w.expect("403 M_FORBIDDEN", "bob", "POST", in+"/join", `{}`)
	w.expect("403 M_FORBIDDEN", "alice", "POST", in+"/kick", `{"user_id":"@bob:test"}`)
	w.expect("200", "alice", "POST", in+"/unban", `{"user_id":"@bob:test"}`)
	w.expect("200", "bob", "POST", in+"/join", `{}`)
}

func TestMembershipsRefused(t *testing.T) { sqldbtest.Each(t, testMembershipsRefused) }

func testMembershipsRefused(t *testing.T) {
	w := newWorld(t)
	room := w.create("alice", `{}`)
	w.setData("@blocked:test", "", "m.invite_permission_config", `{"default_action":"block"}`)
	w.setData("@picky:test", "", "org.matrix.msc4155.invite_permission_config", `{"blocked_users":["@al*:test"],"ignored_users":["@bob:test"]}`)
	w.device("sue").Suspended = true
	in := "/rooms/" + room
	tests := []struct{ want, user, path, body string }{
		{"400 M_NOT_JSON", "alice", in + "/invite", `{"user_id"`},
		{"400 M_MISSING_PARAM", "alice", in + "/invite", `{}`},
		{"400 M_BAD_JSON", "alice", in + "/invite", `{"user_id":1}`},
		{"400 M_INVALID_PARAM", "alice", in + "/invite", `{"user_id":"bob"}`},
		{"403 M_SERVER_NOT_TRUSTED", "alice", in + "/invite", `{"id_server":"x","id_access_token":"y","medium":"email","address":"a@b"}`},
		{"404 M_NOT_FOUND", "alice", in + "/invite", `{"user_id":"@nobody:test"}`},
		{"403 M_FORBIDDEN", "alice", in + "/invite", `{"user_id":"@far:away"}`},
		{"403 M_INVITE_BLOCKED", "alice", in + "/invite", `{"user_id":"@blocked:test"}`},
		{"403 M_INVITE_BLOCKED", "alice", in + "/invite", `{"user_id":"@picky:test"}`},
		{"403 M_INVITE_BLOCKED", "alice", "/createRoom", `{"invite":["@picky:test"]}`},
		{"200", "bob", "/createRoom", `{"invite":["@picky:test"]}`},
		{"403 M_FORBIDDEN", "bob", in + "/invite", `{"user_id":"@carol:test"}`},
		{"403 M_USER_SUSPENDED", "sue", in + "/invite", `{"user_id":"@carol:test"}`},
		{"403 M_USER_SUSPENDED", "sue", in + "/join", `{}`},
		{"403 M_USER_SUSPENDED", "sue", "/knock/" + room, `{}`},
		{"403 M_USER_SUSPENDED", "sue", in + "/ban", `{"user_id":"@carol:test"}`},
		{"400 M_INVALID_PARAM", "alice", "/rooms/nonsense/join", `{}`},
		{"400 M_INVALID_PARAM", "alice", "/join/nonsense", `{}`},
		{"404 M_NOT_FOUND", "alice", "/join/!unknown:test", `{}`},
		{"404 M_NOT_FOUND", "alice", "/join/%23unknown:test", `{}`},
		{"404 M_NOT_FOUND", "alice", "/join/%23unknown:away", `{}`},
		{"400 M_INVALID_PARAM", "alice", "/join/%23unknown", `{}`},
		{"404 M_NOT_FOUND", "alice", "/knock/!unknown:test", `{}`},
		{"403 M_FORBIDDEN", "bob", "/knock/" + room, `{}`},
		{"403 M_FORBIDDEN", "alice", "/rooms/!unknown:test/invite", `{"user_id":"@bob:test"}`},
		{"404 M_NOT_FOUND", "alice", "/rooms/!unknown:test/leave", `{}`},
		{"400 M_BAD_JSON", "bob", in + "/join", `{"third_party_signed":{"sender":"@alice:test","mxid":"@bob:test"}}`},
		{"403 M_FORBIDDEN", "bob", in + "/join", `{"third_party_signed":{"sender":"@alice:test","mxid":"@carol:test","token":"t","signatures":{}}}`},
		{"403 M_FORBIDDEN", "bob", in + "/join", `{"third_party_signed":{"sender":"@alice:test","mxid":"@bob:test","token":"t","signatures":{}}}`},
	}
	for _, tt := range tests {
		w.expect(tt.want, tt.user, "POST", tt.path, tt.body)
	}
	w.expect("403 M_INVITE_BLOCKED", "alice", "PUT", in+"/state/m.room.member/@picky:test", `{"membership":"invite"}`)
}

func TestKnock(t *testing.T) { sqldbtest.Each(t, testKnock) }

func testKnock(t *testing.T) {
	w := newWorld(t)
	room := w.create("alice", `{"initial_state":[{"type":"m.room.join_rules","content":{"join_rule":"knock"}}]}`)
	for range 2 {
		if a := w.expect("200", "bob", "POST", "/knock/"+room, `{"reason":"please"}`); a.body["room_id"] != room {
			t.Errorf("%v", a.body)
		}
	}
	w.expect("200", "alice", "POST", "/rooms/"+room+"/invite", `{"user_id":"@bob:test"}`)
	w.expect("200", "bob", "POST", "/rooms/"+room+"/join", ``)
}

func TestRestrictedJoin(t *testing.T) { sqldbtest.Each(t, testRestrictedJoin) }

func testRestrictedJoin(t *testing.T) {
	w := newWorld(t)
	club := w.create("alice", `{"preset":"public_chat"}`)
	w.must("bob", "POST", "/join/"+club, ``)
	w.must("dan", "POST", "/join/"+club, ``)
	room := w.create("alice", `{"initial_state":[{"type":"m.room.join_rules","content":{"join_rule":"restricted",
		"allow":[{"type":"m.room_membership","room_id":"`+club+`"}]}}]}`)
	w.expect("200", "bob", "POST", "/join/"+room, `{}`)
	member := w.must("alice", "GET", "/rooms/"+room+"/state/m.room.member/@bob:test", "")
	if member.body["join_authorised_via_users_server"] != "@alice:test" || member.body["displayname"] != "B" {
		t.Errorf("member %s", member.raw)
	}
	w.expect("200", "dan", "PUT", "/rooms/"+room+"/state/m.room.member/@dan:test", `{"membership":"join"}`)
	w.expect("403 M_FORBIDDEN", "carol", "POST", "/join/"+room, `{}`)
	w.must("alice", "POST", "/rooms/"+room+"/invite", `{"user_id":"@carol:test"}`)
	w.expect("200", "carol", "POST", "/join/"+room, `{}`)
}

func TestGuests(t *testing.T) { sqldbtest.Each(t, testGuests) }

func testGuests(t *testing.T) {
	w := newWorld(t)
	w.device("guest").IsGuest = true
	closed := w.create("alice", `{"preset":"public_chat"}`)
	open := w.create("alice", `{"preset":"public_chat","initial_state":[{"type":"m.room.guest_access","content":{"guest_access":"can_join"}}]}`)
	w.expect("403 M_GUEST_ACCESS_FORBIDDEN", "guest", "POST", "/rooms/"+closed+"/join", `{}`)
	w.expect("403 M_GUEST_ACCESS_FORBIDDEN", "guest", "PUT", "/rooms/"+closed+"/state/m.room.member/@guest:test", `{"membership":"join"}`)
	w.expect("403 M_GUEST_ACCESS_FORBIDDEN", "guest", "PUT", "/rooms/"+closed+"/state/m.room.member/@guest:test",
		`{"membership":"join","join_authorised_via_users_server":"@alice:test"}`)
	w.expect("200", "guest", "POST", "/rooms/"+open+"/join", `{}`)
}

// TestGuestsLeave: where guest access ends, those who are guests leave and the
// others stay, whoever looks and however often.
func TestGuestsLeave(t *testing.T) { sqldbtest.Each(t, testGuestsLeave) }

func testGuestsLeave(t *testing.T) {
	w := newWorld(t)
	w.device("guest").IsGuest = true
	const open = `{"preset":"public_chat","initial_state":[{"type":"m.room.guest_access","content":{"guest_access":"can_join"}}]}`
	forbidden, removed, again, other := w.create("alice", open), w.create("alice", open), w.create("alice", open), w.create("alice", open)
	for _, room := range []string{forbidden, removed, again, other} {
		w.must("bob", "POST", "/rooms/"+room+"/join", `{}`)
		w.must("guest", "POST", "/rooms/"+room+"/join", `{}`)
	}
	access := func(room, content string) {
		w.must("alice", "PUT", "/rooms/"+room+"/state/m.room.guest_access", content)
	}
	access(forbidden, `{"guest_access":"forbidden"}`)
	access(removed, `{}`)
	access(again, `{"guest_access":"forbidden"}`)
	access(again, `{"guest_access":"can_join"}`)
	access(other, `{"guest_access":"can_join","x":1}`)
	w.must("alice", "GET", "/joined_rooms", ``) // the directory has it all
	for range 2 {
		if err := w.server.withdrawGuests(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.must("alice", "GET", "/joined_rooms", ``)
		for room, want := range map[string]string{forbidden: "leave", removed: "leave", again: "join", other: "join"} {
			for user, want := range map[string]string{"@guest:test": want, "@bob:test": "join"} {
				a := w.must("alice", "GET", "/rooms/"+room+"/state/m.room.member/"+user, ``)
				if a.body["membership"] != want {
					t.Errorf("%s in %s: %s", user, room, a.raw)
				}
			}
		}
	}
	res, err := directory.QueryGuestRooms.Call(t.Context(), w.caller, &directory.GuestRoomsRequest{Limit: 10})
	if err != nil || len(res.Rooms) != 0 {
		t.Errorf("still to be looked at: %+v, %v", res, err)
	}
	access(forbidden, `{"guest_access":"can_join"}`)
	w.expect("200", "guest", "POST", "/rooms/"+forbidden+"/join", `{}`)
}

func TestForget(t *testing.T) { sqldbtest.Each(t, testForget) }

func testForget(t *testing.T) {
	w := newWorld(t)
	room := w.create("alice", `{"preset":"public_chat"}`)
	in := "/rooms/" + room
	w.expect("400 M_UNKNOWN", "bob", "POST", in+"/forget", `{}`)
	w.must("bob", "POST", in+"/join", ``)
	w.expect("400 M_UNKNOWN", "bob", "POST", in+"/forget", `{}`)
	w.must("bob", "POST", in+"/leave", ``)
	w.expect("200", "bob", "GET", in+"/state", ``)
	w.expect("200", "bob", "POST", in+"/forget", `{}`)
	w.expect("403 M_FORBIDDEN", "bob", "GET", in+"/state", ``)
	w.must("bob", "POST", in+"/join", ``)
	w.must("bob", "POST", in+"/leave", ``)
	w.expect("200", "bob", "GET", in+"/state", ``)
	w.expect("404 M_NOT_FOUND", "bob", "POST", "/rooms/!unknown:test/forget", `{}`)
}

func TestJoinedRooms(t *testing.T) { sqldbtest.Each(t, testJoinedRooms) }

func testJoinedRooms(t *testing.T) {
	w := newWorld(t)
	first := w.create("alice", `{}`)
	for range 5 { // what was acknowledged shows
		room := w.create("alice", `{}`)
		list := w.must("alice", "GET", "/joined_rooms", "").body["joined_rooms"].([]any)
		found := false
		for _, id := range list {
			found = found || id == room
		}
		if !found {
			t.Errorf("%s is not in %v", room, list)
		}
		w.must("alice", "POST", "/rooms/"+room+"/leave", ``)
	}
	list := w.must("alice", "GET", "/joined_rooms", "").body["joined_rooms"].([]any)
	if len(list) != 1 || list[0] != first {
		t.Errorf("rooms %v", list)
	}
	if a := w.must("bob", "GET", "/joined_rooms", ""); a.raw != `{"joined_rooms":[]}` {
		t.Error(a.raw)
	}
}
