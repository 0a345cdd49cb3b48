package clientapi

import (
	"fmt"
	"strings"
	"testing"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	directory "github.com/matrix-org/dendrite/directoryapi/api"
)

func TestCreateRoomAnswers(t *testing.T) { sqldbtest.Each(t, testCreateRoomAnswers) }

func testCreateRoomAnswers(t *testing.T) {
	w := newWorldWith(t, config.ClientAPI{MaxInvitesPerCreate: 2, MaxInitialState: 1})
	w.setData("@blocked:test", "", "m.invite_permission_config", `{"default_action":"block"}`)
	w.device("sue").Suspended = true
	w.create("alice", `{"room_alias_name":"taken"}`)
	tests := []struct{ want, user, body string }{
		{"400 M_NOT_JSON", "alice", ``},
		{"400 M_BAD_JSON", "alice", `[]`},
		{"400 M_BAD_JSON", "alice", `{"invite":"@bob:test"}`},
		{"400 M_UNSUPPORTED_ROOM_VERSION", "alice", `{"room_version":"99"}`},
		{"400 M_INVALID_PARAM", "alice", `{"visibility":"secret"}`},
		{"400 M_INVALID_PARAM", "alice", `{"room_alias_name":"a:b"}`},
		{"400 M_INVALID_PARAM", "alice", `{"room_alias_name":"` + strings.Repeat("x", 255) + `"}`},
		{"400 M_ROOM_IN_USE", "alice", `{"room_alias_name":"taken"}`},
		{"400 M_INVALID_PARAM", "alice", `{"invite":["@a:test","@b:test","@c:test"]}`},
		{"400 M_INVALID_PARAM", "alice", `{"invite":["bob"]}`},
		{"404 M_NOT_FOUND", "alice", `{"invite":["@nobody:test"]}`},
		{"403 M_INVITE_BLOCKED", "alice", `{"invite":["@blocked:test"]}`},
		{"403 M_SERVER_NOT_TRUSTED", "alice", `{"invite_3pid":[{"medium":"email","address":"a@b","id_server":"x","id_access_token":"y"}]}`},
		{"400 M_INVALID_PARAM", "alice", `{"initial_state":[{"type":"a","content":{}},{"type":"b","content":{}}]}`},
		{"400 M_INVALID_ROOM_STATE", "alice", `{"power_level_content_override":{"users":{"@alice:test":100}}}`},
		{"403 M_USER_SUSPENDED", "sue", `{}`},
		{"200", "alice", `{"invite":["@alice:test","@bob:test"],"is_direct":true}`},
	}
	for _, tt := range tests {
		w.expect(tt.want, tt.user, "POST", "/createRoom", tt.body)
	}
}

// TestCreateRoomAllOrNothing: a room that is refused leaves nothing behind.
func TestCreateRoomAllOrNothing(t *testing.T) { sqldbtest.Each(t, testCreateRoomAllOrNothing) }

func testCreateRoomAllOrNothing(t *testing.T) {
	w := newWorld(t)
	body := `{"room_alias_name":"pub","visibility":"public","name":"N","room_version":"11",
		"power_level_content_override":{"events":{"m.room.name":200}}}`
	w.expect("400 M_INVALID_ROOM_STATE", "alice", "POST", "/createRoom", body)
	w.expect("404 M_NOT_FOUND", "alice", "GET", "/directory/room/%23pub:test", "")
	if n := w.heads(); n != 0 {
		t.Errorf("%d events", n)
	}
	room := w.create("bob", `{"room_alias_name":"pub","visibility":"public","name":"N"}`)
	if a := w.must("", "GET", "/directory/room/%23pub:test", ""); a.body["room_id"] != room {
		t.Errorf("alias: %s", a.raw)
	}
	w.must("bob", "GET", "/joined_rooms", "") // waits for the view
	list := w.must("", "GET", "/publicRooms", "").body
	if chunk := list["chunk"].([]any); len(chunk) != 1 || chunk[0].(map[string]any)["room_id"] != room {
		t.Errorf("public rooms: %v", list)
	}
}

func TestSameRoomTwice(t *testing.T) { sqldbtest.Each(t, testSameRoomTwice) }

func testSameRoomTwice(t *testing.T) {
	w := newWorld(t)
	seen := map[string]bool{}
	for range 10 { // within a millisecond, some of them
		seen[w.create("alice", `{}`)] = true
	}
	if len(seen) != 10 {
		t.Errorf("%d rooms", len(seen))
	}
}

func TestAliases(t *testing.T) { sqldbtest.Each(t, testAliases) }

func testAliases(t *testing.T) {
	w := newWorld(t)
	room, other := w.create("alice", `{"preset":"public_chat"}`), w.create("alice", `{}`)
	w.must("bob", "POST", "/rooms/"+room+"/join", ``)
	w.device("root").IsAdmin = true
	w.device("sue").Suspended = true
	path := func(name string) string { return "/directory/room/%23" + name + ":test" }
	body := fmt.Sprintf(`{"room_id":%q}`, room)
	steps := []struct{ want, user, method, path, body string }{
		{"200", "alice", "PUT", path("a"), body},
		{"409 M_UNKNOWN", "alice", "PUT", path("a"), body},
		{"409 M_UNKNOWN", "alice", "PUT", path("a"), fmt.Sprintf(`{"room_id":%q}`, other)},
		{"200", "bob", "PUT", path("b"), body},
		{"403 M_FORBIDDEN", "carol", "PUT", path("c"), body},
		{"403 M_USER_SUSPENDED", "sue", "PUT", path("c"), body},
		{"403 M_FORBIDDEN", "alice", "PUT", path("c"), `{"room_id":"!unknown:test"}`},
		{"400 M_INVALID_PARAM", "alice", "PUT", path("c"), `{"room_id":"nonsense"}`},
		{"400 M_MISSING_PARAM", "alice", "PUT", path("c"), `{}`},
		{"400 M_INVALID_PARAM", "alice", "PUT", "/directory/room/%23a:away", body},
		{"400 M_INVALID_PARAM", "alice", "PUT", "/directory/room/nonsense", body},
		{"400 M_INVALID_PARAM", "", "GET", "/directory/room/nonsense", ``},
		{"404 M_NOT_FOUND", "", "GET", path("unknown"), ``},
		{"200", "", "GET", path("a"), ``},
		{"403 M_FORBIDDEN", "carol", "GET", "/rooms/" + room + "/aliases", ``},
		{"403 M_FORBIDDEN", "carol", "GET", "/rooms/!unknown:test/aliases", ``},
		{"200", "root", "GET", "/rooms/" + room + "/aliases", ``},
		{"403 M_FORBIDDEN", "bob", "DELETE", path("a"), ``},
		{"404 M_NOT_FOUND", "alice", "DELETE", path("unknown"), ``},
	}
	for _, s := range steps {
		w.expect(s.want, s.user, s.method, s.path, s.body)
	}
	if a := w.must("alice", "GET", "/rooms/"+room+"/aliases", ""); a.raw != `{"aliases":["#a:test","#b:test"]}` {
		t.Error(a.raw)
	}
	state := "/rooms/" + room + "/state/m.room.canonical_alias"
	w.expect("400 M_BAD_ALIAS", "alice", "PUT", state, `{"alias":"#unknown:test"}`)
	w.expect("400 M_INVALID_PARAM", "alice", "PUT", state, `{"alias":"nonsense"}`)
	w.expect("400 M_BAD_ALIAS", "alice", "PUT", state, `{"alias":"#a:away"}`)
	w.expect("400 M_BAD_JSON", "alice", "PUT", state, `{"alt_aliases":"#a:test"}`)
	w.expect("200", "alice", "PUT", state, `{"alias":"#a:test","alt_aliases":["#b:test"]}`)
	w.expect("200", "bob", "DELETE", path("b"), ``)                                         // his own; the event is not his to change
	w.expect("200", "alice", "PUT", state, `{"alias":"#a:test","alt_aliases":["#b:test"]}`) // was there before
	w.expect("200", "alice", "DELETE", path("a"), ``)
	if a := w.must("alice", "GET", state, ""); a.body["alias"] != nil {
		t.Errorf("the event still names it: %s", a.raw)
	}
	w.must("bob", "PUT", path("d"), body)
	w.expect("200", "root", "DELETE", path("d"), ``)
}

func TestPublishing(t *testing.T) { sqldbtest.Each(t, testPublishing) }

func testPublishing(t *testing.T) {
	w := newWorld(t)
	room := w.create("alice", `{"preset":"public_chat","name":"Cheese","topic":"Tasty","creation_content":{"type":"m.space"}}`)
	w.must("bob", "POST", "/rooms/"+room+"/join", ``)
	list := "/directory/list/room/" + room
	steps := []struct{ want, user, method, path, body string }{
		{"200", "", "GET", list, ``},
		{"404 M_NOT_FOUND", "", "GET", "/directory/list/room/!unknown:test", ``},
		{"404 M_NOT_FOUND", "alice", "PUT", "/directory/list/room/!unknown:test", `{}`},
		{"403 M_FORBIDDEN", "bob", "PUT", list, `{"visibility":"public"}`},
		{"403 M_FORBIDDEN", "carol", "PUT", list, `{}`},
		{"400 M_INVALID_PARAM", "alice", "PUT", list, `{"visibility":"x"}`},
		{"200", "alice", "PUT", list, `{}`},
	}
	for _, s := range steps {
		w.expect(s.want, s.user, s.method, s.path, s.body)
	}
	if a := w.must("", "GET", list, ""); a.body["visibility"] != "public" {
		t.Error(a.raw)
	}
	w.must("bob", "GET", "/joined_rooms", "") // waits for the view
	for body, want := range map[string]int{
		``: 1, `{}`: 1, `{"filter":{"generic_search_term":"CHEESE"}}`: 1, `{"filter":{"generic_search_term":"x"}}`: 0,
		`{"filter":{"room_types":["m.space"]}}`: 1, `{"filter":{"room_types":[null]}}`: 0, `{"filter":{"room_types":[null,"m.space"]}}`: 1,
		`{"limit":0}`: 0, `{"third_party_instance_id":"irc"}`: 0, `{"include_all_networks":true}`: 1,
	} {
		a := w.must("bob", "POST", "/publicRooms", body)
		chunk := a.body["chunk"].([]any)
		if len(chunk) != want {
			t.Errorf("%s: %s", body, a.raw)
			continue
		}
		if want == 0 {
			continue
		}
		r := chunk[0].(map[string]any)
		if r["name"] != "Cheese" || r["topic"] != "Tasty" || r["num_joined_members"] != 2.0 || r["room_type"] != "m.space" || r["join_rule"] != "public" ||
			r["world_readable"] != false || r["guest_can_join"] != false {
			t.Errorf("%v", r)
		}
	}
	w.expect("400 M_INVALID_PARAM", "bob", "POST", "/publicRooms", `{"limit":-1}`)
	w.expect("400 M_BAD_JSON", "bob", "POST", "/publicRooms", `{"limit":"x"}`)
	w.expect("400 M_INVALID_PARAM", "bob", "POST", "/publicRooms", `{"since":"x"}`)
	w.expect("400 M_INVALID_PARAM", "bob", "POST", "/publicRooms", `{"third_party_instance_id":"irc","include_all_networks":true}`)
	w.expect("400 M_INVALID_PARAM", "", "GET", "/publicRooms?limit=x", ``)
	w.expect("404 M_NOT_FOUND", "", "GET", "/publicRooms?server=away", ``)
	w.expect("200", "", "GET", "/publicRooms?server=test&limit=1", ``)
	w.must("alice", "PUT", list, `{"visibility":"private"}`)
	if a := w.must("", "GET", "/publicRooms", ""); a.raw != `{"chunk":[],"total_room_count_estimate":0}` {
		t.Error(a.raw)
	}
}

func TestDirectoryForAdministrators(t *testing.T) { sqldbtest.Each(t, testDirectoryForAdministrators) }

func testDirectoryForAdministrators(t *testing.T) {
	w := newWorldWith(t, config.ClientAPI{DirectoryRequiresAdmin: true, PublicRoomsRequireAuth: true})
	room := w.create("alice", `{"preset":"public_chat"}`)
	w.device("root").IsAdmin = true
	list := "/directory/list/room/" + room
	w.expect("403 M_FORBIDDEN", "alice", "PUT", list, `{}`)
	w.expect("403 M_FORBIDDEN", "alice", "POST", "/createRoom", `{"visibility":"public"}`)
	w.expect("200", "root", "PUT", list, `{}`)
	w.expect("200", "alice", "PUT", list, `{"visibility":"private"}`)
	w.expect("401 M_MISSING_TOKEN", "", "GET", "/publicRooms", ``)
}

func TestUpgrade(t *testing.T) { sqldbtest.Each(t, testUpgrade) }

func testUpgrade(t *testing.T) {
	w := newWorld(t)
	for _, versions := range [][2]string{{"10", "12"}, {"12", "12"}, {"12", "11"}} {
		name := versions[0] + "to" + versions[1]
		old := w.create("alice", fmt.Sprintf(`{"room_version":%q,"preset":"public_chat","room_alias_name":%q,"visibility":"public","name":"N","topic":"T",
			"creation_content":{"type":"m.space","m.federate":false}}`, versions[0], name))
		w.must("bob", "POST", "/rooms/"+old+"/join", ``)
		w.setData("@bob:test", old, "m.tag", `{"tags":{"m.favourite":{}}}`)
		w.setData("@alice:test", old, "m.tag", `{"tags":{"m.lowpriority":{}}}`)
		w.setData("@bob:test", "", "m.direct", fmt.Sprintf(`{"@alice:test":[%q]}`, old))
		w.expect("403 M_FORBIDDEN", "bob", "POST", "/rooms/"+old+"/upgrade", `{"new_version":"12"}`)
		a := w.must("alice", "POST", "/rooms/"+old+"/upgrade", fmt.Sprintf(`{"new_version":%q,"additional_creators":["@dan:test"]}`, versions[1]))
		replacement := a.body["replacement_room"].(string)
		create := w.must("alice", "GET", "/rooms/"+replacement+"/state/m.room.create", "").body
		predecessor := create["predecessor"].(map[string]any)
		if create["room_version"] != versions[1] || create["type"] != "m.space" || create["m.federate"] != false || predecessor["room_id"] != old ||
			(predecessor["event_id"] != nil) != (versions[1] != "12") || (create["additional_creators"] != nil) != (versions[1] == "12") {
			t.Errorf("%s: create %v", name, create)
		}
		if b := w.must("alice", "GET", "/rooms/"+replacement+"/state/m.room.name", ""); b.body["name"] != "N" {
			t.Errorf("%s: name %s", name, b.raw)
		}
		if b := w.must("alice", "GET", "/rooms/"+replacement+"/state/m.room.canonical_alias", ""); b.body["alias"] != "#"+name+":test" {
			t.Errorf("%s: alias %s", name, b.raw)
		}
		if b := w.must("alice", "GET", "/rooms/"+old+"/state/m.room.tombstone", ""); b.body["replacement_room"] != replacement {
			t.Errorf("%s: tombstone %s", name, b.raw)
		}
		if b := w.must("", "GET", "/directory/room/%23"+name+":test", ""); b.body["room_id"] != replacement {
			t.Errorf("%s: alias points to %s", name, b.raw)
		}
		for room, want := range map[string]string{old: "private", replacement: "public"} {
			if b := w.must("", "GET", "/directory/list/room/"+room, ""); b.body["visibility"] != want {
				t.Errorf("%s: %s is %s", name, room, b.raw)
			}
		}
		w.expect("403 M_FORBIDDEN", "bob", "PUT", "/rooms/"+old+"/send/m.x/1", `{}`) // nobody talks on
		w.must("bob", "POST", "/rooms/"+replacement+"/join", ``)
		if w.data["@bob:test|"+replacement+"|m.tag"] == nil || !strings.Contains(string(w.data["@bob:test||m.direct"]), replacement) {
			t.Errorf("%s: tags were not carried over", name)
		}
		for _, user := range []string{"@alice:test", "@bob:test"} {
			if w.data[user+"|"+replacement+"|m.tag"] == nil || string(w.data[user+"|"+replacement+"|rules of"]) != old {
				t.Errorf("%s: what %s had set was not carried over", name, user)
			}
		}
		claims := w.create("alice", fmt.Sprintf(`{"preset":"public_chat","creation_content":{"predecessor":{"room_id":%q}}}`, old))
		w.must("bob", "POST", "/rooms/"+claims+"/join", ``)
		if w.data["@bob:test|"+claims+"|m.tag"] != nil || w.data["@bob:test|"+claims+"|rules of"] != nil {
			t.Errorf("%s: a room that only claims to be the replacement got what was set", name)
		}
	}
	room := w.create("alice", `{}`)
	for body, want := range map[string]string{
		`{"new_version":"99"}`: "400 M_UNSUPPORTED_ROOM_VERSION", `{}`: "400 M_MISSING_PARAM", `[]`: "400 M_BAD_JSON",
		`{"new_version":"12","additional_creators":["x"]}`: "400 M_INVALID_PARAM",
	} {
		w.expect(want, "alice", "POST", "/rooms/"+room+"/upgrade", body)
	}
	w.expect("404 M_NOT_FOUND", "alice", "POST", "/rooms/!unknown:test/upgrade", `{"new_version":"12"}`)
}

// TestUpgradeTakenUp: an upgrade that was interrupted after any step goes on
// with the same new room.
func TestUpgradeTakenUp(t *testing.T) { sqldbtest.Each(t, testUpgradeTakenUp) }

func testUpgradeTakenUp(t *testing.T) {
	w := newWorld(t)
	old := w.create("alice", `{"room_alias_name":"a"}`)
	up, err := w.server.beginUpgrade(t.Context(), w.device("alice"), old, "12", nil)
	if err != nil {
		t.Fatal(err)
	}
	first, err := w.server.upgradeSteps(t.Context(), up)
	if err != nil {
		t.Fatal(err)
	}
	events := w.heads()
	w.must("alice", "PUT", "/rooms/"+old+"/state/m.room.name", `{"name":"changed meanwhile"}`)
	a := w.must("alice", "POST", "/rooms/"+old+"/upgrade", `{"new_version":"12"}`)
	if a.body["replacement_room"] != first || w.heads() != events+1 {
		t.Errorf("%s, not %s; %d more events", a.raw, first, w.heads()-events-1)
	}
	res, err := directory.QueryUpgrades.Call(t.Context(), w.caller, &directory.UpgradesRequest{Before: 1 << 60})
	if err != nil || len(res.Upgrades) != 0 {
		t.Errorf("left behind: %+v, %v", res, err)
	}
}

// TestRoomSummary: whoever could join, read or knock, or is asked in, is told
// what a room is, and nobody else that there is one.
func TestRoomSummary(t *testing.T) { sqldbtest.Each(t, testRoomSummary) }

func testRoomSummary(t *testing.T) {
	w := newWorld(t)
	open := w.create("alice", `{"preset":"public_chat","name":"Open","room_alias_name":"open","creation_content":{"type":"m.space"}}`)
	w.must("bob", "POST", "/rooms/"+open+"/join", ``)
	with := func(typ, content string) string {
		return w.create("alice", `{"initial_state":[{"type":"`+typ+`","state_key":"","content":`+content+`}]}`)
	}
	private, readable := with("m.room.encryption", `{"algorithm":"m.megolm.v1.aes-sha2"}`), with("m.room.history_visibility", `{"history_visibility":"world_readable"}`)
	knock := with("m.room.join_rules", `{"join_rule":"knock"}`)
	restricted := with("m.room.join_rules", `{"join_rule":"restricted","allow":[{"type":"m.room_membership","room_id":"`+open+`"}]}`)
	w.must("alice", "POST", "/rooms/"+private+"/invite", `{"user_id":"@dan:test"}`)
	w.must("alice", "GET", "/joined_rooms", ``) // the directory has it all
	for _, c := range []struct{ user, room, want, membership string }{
		{"", open, "200", ""}, {"", "%23open:test", "200", ""}, {"carol", open, "200", ""}, {"bob", open, "200", "join"},
		{"", private, "404 M_NOT_FOUND", ""}, {"bob", private, "404 M_NOT_FOUND", ""}, {"dan", private, "200", "invite"}, {"alice", private, "200", "join"},
		{"", readable, "200", ""}, {"", knock, "200", ""}, {"", restricted, "404 M_NOT_FOUND", ""}, {"carol", restricted, "404 M_NOT_FOUND", ""}, {"bob", restricted, "200", ""},
		{"bob", "!none:test", "404 M_NOT_FOUND", ""}, {"bob", "%23none:test", "404 M_NOT_FOUND", ""}, {"bob", "x", "400 M_INVALID_PARAM", ""},
	} {
		a := w.expect(c.want, c.user, "GET", "/_matrix/client/v1/room_summary/"+c.room, ``)
		if got, _ := a.body["membership"].(string); got != c.membership {
			t.Errorf("%s of %s: membership %q", c.room, c.user, got)
		}
	}
	a := w.must("bob", "GET", "/_matrix/client/v1/room_summary/"+open, ``).body
	if a["name"] != "Open" || a["room_type"] != "m.space" || a["num_joined_members"] != 2.0 || a["canonical_alias"] != "#open:test" || a["room_id"] != open ||
		a["join_rule"] != "public" || a["guest_can_join"] != false || a["world_readable"] != false || a["room_version"] != "12" {
		t.Errorf("%v", a)
	}
	if a := w.must("dan", "GET", "/_matrix/client/v1/room_summary/"+private, ``).body; a["encryption"] != "m.megolm.v1.aes-sha2" {
		t.Errorf("%v", a)
	}
	const draft = "/_matrix/client/unstable/im.nheko.summary"
	for _, path := range []string{draft + "/summary/%s", draft + "/rooms/%s/summary"} {
		if a := w.must("dan", "GET", fmt.Sprintf(path, private), ``).body; a["im.nheko.summary.encryption"] != "m.megolm.v1.aes-sha2" ||
			a["im.nheko.summary.room_version"] != "12" || a["room_id"] != private || a["membership"] != "invite" {
			t.Errorf("%v", a)
		}
		w.expect("404 M_NOT_FOUND", "bob", "GET", fmt.Sprintf(path, private), ``)
	}
	if a := w.must("bob", "GET", "/_matrix/client/v1/room_summary/"+restricted, ``).body; fmt.Sprint(a["allowed_room_ids"]) != "["+open+"]" {
		t.Errorf("%v", a)
	}
}

// TestSeenAtOnce: what a client was told has happened, it sees in the directory too.
func TestSeenAtOnce(t *testing.T) { sqldbtest.Each(t, testSeenAtOnce) }

func testSeenAtOnce(t *testing.T) {
	w := newWorld(t)
	for range 30 {
		room := w.create("alice", `{"preset":"public_chat","visibility":"public","name":"New"}`)
		if a := w.must("bob", "GET", "/_matrix/client/v1/room_summary/"+room, ""); a.body["name"] != "New" {
			t.Errorf("the summary: %s", a.raw)
		}
		room = w.create("alice", `{"preset":"public_chat","visibility":"public","name":"New"}`)
		if a := w.must("bob", "GET", "/publicRooms", ""); !strings.Contains(a.raw, room) {
			t.Errorf("%s is not in the directory: %s", room, a.raw)
		}
	}
}
