package clientapi

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/common/testwait"
)

func TestSend(t *testing.T) { sqldbtest.Each(t, testSend) }

func testSend(t *testing.T) {
	w := newWorld(t)
	room := w.create("alice", `{"preset":"public_chat"}`)
	path := "/rooms/" + room + "/send/m.room.message/"
	first := w.must("alice", "PUT", path+"1", `{"body":"hello"}`).body["event_id"]
	if again := w.must("alice", "PUT", path+"1", `{"body":"other"}`).body["event_id"]; again != first {
		t.Errorf("a retry made another event")
	}
	if other := w.must("alice", "PUT", path+"2", `{"body":"hello"}`).body["event_id"]; other == first {
		t.Errorf("another transaction made the same event")
	}
	w.must("bob", "POST", "/rooms/"+room+"/join", ``)
	if other := w.must("bob", "PUT", path+"1", `{"body":"hello"}`).body["event_id"]; other == first {
		t.Errorf("another user's transaction made the same event")
	}
}

func TestSendRefused(t *testing.T) { sqldbtest.Each(t, testSendRefused) }

func testSendRefused(t *testing.T) {
	w := newWorld(t)
	room, lenient := w.create("alice", `{}`), w.create("alice", `{"room_version":"5"}`)
	w.device("sue").Suspended = true
	in := "/rooms/" + room
	tests := []struct{ want, user, path, body string }{
		{"400 M_NOT_JSON", "alice", in + "/send/m.x/1", `{"body":`},
		{"400 M_NOT_JSON", "alice", in + "/send/m.x/1", ``},
		{"400 M_NOT_JSON", "alice", in + "/send/m.x/1", `{} {}`},
		{"400 M_NOT_JSON", "alice", in + "/send/m.x/1", "{\"a\":\"\xff\"}"},
		{"400 M_BAD_JSON", "alice", in + "/send/m.x/1", `[]`},
		{"400 M_BAD_JSON", "alice", in + "/send/m.x/1", `null`},
		{"400 M_BAD_JSON", "alice", in + "/send/m.x/1", `"x"`},
		{"400 M_BAD_JSON", "alice", in + "/send/m.x/1", `{"a":1,"a":2}`},
		{"400 M_BAD_JSON", "alice", in + "/send/m.x/1", `{"a":1.5}`},
		{"400 M_BAD_JSON", "alice", in + "/send/m.x/1", `{"a":9007199254740992}`},
		{"200", "alice", "/rooms/" + lenient + "/send/m.x/1", `{"a":1.5}`},
		{"403 M_FORBIDDEN", "alice", "/rooms/!unknown:test/send/m.x/1", `{"a":1.5}`},
		{"400 M_BAD_JSON", "alice", in + "/send/m.x/1", strings.Repeat(`{"a":`, 2000) + `1` + strings.Repeat(`}`, 2000)},
		{"413 M_TOO_LARGE", "alice", in + "/send/m.x/1", `{"a":"` + strings.Repeat("x", 70000) + `"}`},
		{"413 M_TOO_LARGE", "alice", in + "/send/" + strings.Repeat("x", 256) + "/1", `{}`},
		{"400 M_INVALID_PARAM", "alice", in + "/send/m.x/" + strings.Repeat("x", 256), `{}`},
		{"400 M_INVALID_PARAM", "alice", "/rooms/nonsense/send/m.x/1", `{}`},
		{"403 M_FORBIDDEN", "alice", "/rooms/!unknown:test/send/m.x/1", `{}`},
		{"403 M_FORBIDDEN", "bob", in + "/send/m.x/1", `{}`},
		{"403 M_USER_SUSPENDED", "sue", in + "/send/m.x/1", `{}`},
		{"400 M_MISSING_PARAM", "alice", in + "/send/m.room.redaction/1", `{}`},
		{"400 M_BAD_JSON", "alice", in + "/send/m.room.redaction/1", `{"redacts":1}`},
		{"400 M_INVALID_PARAM", "alice", in + "/send/m.room.redaction/1", `{"redacts":"x"}`},
	}
	for _, tt := range tests {
		w.expect(tt.want, tt.user, "PUT", tt.path, tt.body)
	}
}

func TestRedact(t *testing.T) { sqldbtest.Each(t, testRedact) }

func testRedact(t *testing.T) {
	w := newWorld(t)
	for _, version := range []string{"5", "12"} {
		room := w.create("alice", fmt.Sprintf(`{"room_version":%q,"preset":"public_chat"}`, version))
		in := "/rooms/" + room
		event := w.must("alice", "PUT", in+"/send/m.x/1", `{}`).body["event_id"].(string)
		one := w.must("alice", "PUT", in+"/redact/"+event+"/1", `{"reason":"r"}`).body["event_id"]
		if again := w.must("alice", "PUT", in+"/redact/"+event+"/1", `{"reason":"r"}`).body["event_id"]; again != one {
			t.Error("a retry redacted again")
		}
		two := w.must("alice", "PUT", in+"/send/m.room.redaction/2", `{"redacts":"`+event+`","reason":"r"}`).body["event_id"].(string)
		e := w.event(room, two)
		if e.Redacts() != event || strings.Contains(string(e.Content()), "redacts") != (version == "12") {
			t.Errorf("version %s: %s", version, e.JSON())
		}
	}
}

func TestSuspendedMayRedactOwn(t *testing.T) { sqldbtest.Each(t, testSuspendedMayRedactOwn) }

func testSuspendedMayRedactOwn(t *testing.T) {
	w := newWorld(t)
	in := "/rooms/" + w.create("alice", `{"preset":"public_chat"}`)
	w.must("sue", "POST", in+"/join", ``)
	own := w.must("sue", "PUT", in+"/send/m.x/1", `{}`).body["event_id"].(string)
	other := w.must("alice", "PUT", in+"/send/m.x/1", `{}`).body["event_id"].(string)
	w.device("sue").Suspended = true
	w.expect("200", "sue", "PUT", in+"/redact/"+own+"/1", `{}`)
	w.expect("200", "sue", "PUT", in+"/send/m.room.redaction/2", `{"redacts":"`+own+`"}`)
	w.expect("403 M_USER_SUSPENDED", "sue", "PUT", in+"/redact/"+other+"/3", `{}`)
	w.expect("403 M_USER_SUSPENDED", "sue", "PUT", in+"/state/m.room.name", `{}`)
	w.expect("200", "sue", "POST", in+"/leave", ``)
}

func TestReactionsOnce(t *testing.T) { sqldbtest.Each(t, testReactionsOnce) }

func testReactionsOnce(t *testing.T) {
	w := newWorld(t)
	in := "/rooms/" + w.create("alice", `{"preset":"public_chat"}`)
	w.must("bob", "POST", in+"/join", ``)
	event := w.must("alice", "PUT", in+"/send/m.x/1", `{}`).body["event_id"].(string)
	body := `{"m.relates_to":{"rel_type":"m.annotation","event_id":"` + event + `","key":"👍"}}`
	first := w.must("alice", "PUT", in+"/send/m.reaction/a", body).body["event_id"].(string)
	if again := w.must("alice", "PUT", in+"/send/m.reaction/a", body).body["event_id"]; again != first {
		t.Error("a retry made another event")
	}
	w.expect("400 M_DUPLICATE_ANNOTATION", "alice", "PUT", in+"/send/m.reaction/b", body)
	w.expect("200", "bob", "PUT", in+"/send/m.reaction/a", body)
	w.expect("200", "alice", "PUT", in+"/send/m.other/c", body)
	w.expect("200", "alice", "PUT", in+"/send/m.reaction/d", strings.Replace(body, "👍", "👎", 1))
	w.must("alice", "PUT", in+"/redact/"+first+"/e", `{}`)
	w.expect("200", "alice", "PUT", in+"/send/m.reaction/f", body)
}

// TestAnswerLost: who hears no verdict asks for it.
func TestAnswerLost(t *testing.T) { sqldbtest.Each(t, testAnswerLost) }

func testAnswerLost(t *testing.T) {
	w := newWorldWith(t, config.ClientAPI{Writer: config.Writer{AnswerTimeout: deaf}})
	// A verdict may take longer than that: then the client comes again.
	persist := func(method, path string) (a answer) {
		testwait.Until(t, method+" "+path+" is answered", func() bool {
			a = w.do("alice", method, path, `{}`)
			return a.status != http.StatusGatewayTimeout
		})
		if a.status != http.StatusOK {
			t.Fatalf("%s %s: %d %s", method, path, a.status, a.raw)
		}
		return a
	}
	room := persist("POST", "/createRoom").body["room_id"].(string)
	path := "/rooms/" + room + "/send/m.x/1"
	id := persist("PUT", path).body["event_id"]
	if again := persist("PUT", path).body["event_id"]; again != id {
		t.Error("a retry made another event")
	}
}

func TestState(t *testing.T) { sqldbtest.Each(t, testStateOf) }

func testStateOf(t *testing.T) {
	w := newWorld(t)
	room := w.create("alice", `{"preset":"public_chat"}`)
	in := "/rooms/" + room
	for _, form := range []string{"/state/m.room.topic", "/state/m.room.topic/"} {
		topic := "T" + form
		w.expect("200", "alice", "PUT", in+form, `{"topic":"`+topic+`"}`)
		for _, read := range []string{"/state/m.room.topic", "/state/m.room.topic/"} {
			if a := w.must("alice", "GET", in+read, ""); a.body["topic"] != topic {
				t.Errorf("%s: %s", read, a.raw)
			}
		}
	}
	w.expect("200", "alice", "PUT", in+"/state/x.y/a%2Fb%20c", `{"k":1}`)
	if a := w.must("alice", "GET", in+"/state/x.y/a%2Fb%20c?format=event", ""); a.body["state_key"] != "a/b c" || a.body["sender"] != "@alice:test" {
		t.Errorf("%s", a.raw)
	}
	w.expect("404 M_NOT_FOUND", "alice", "GET", in+"/state/x.y/other", "")
	w.expect("400 M_INVALID_PARAM", "alice", "GET", in+"/state/x.y/other?format=xml", "")
	w.expect("403 M_FORBIDDEN", "bob", "GET", in+"/state/x.y/other", "")
	w.expect("403 M_FORBIDDEN", "bob", "GET", in+"/state", "")
	w.expect("403 M_FORBIDDEN", "bob", "GET", "/rooms/!unknown:test/state", "")
	w.expect("403 M_FORBIDDEN", "bob", "PUT", in+"/state/m.room.topic", `{}`)
	// Joining by state, twice: one event.
	id := w.must("bob", "PUT", in+"/state/m.room.member/@bob:test", `{"membership":"join"}`).body["event_id"]
	if again := w.must("bob", "PUT", in+"/state/m.room.member/@bob:test", `{"membership":"join"}`).body["event_id"]; again != id {
		t.Error("the same membership made another event")
	}
	w.expect("400 M_INVALID_PARAM", "bob", "PUT", in+"/state/m.room.member/nobody", `{"membership":"join"}`)
	w.expect("400 M_BAD_JSON", "bob", "PUT", in+"/state/m.room.member/@bob:test", `{"membership":1}`)
	w.expect("404 M_NOT_FOUND", "alice", "PUT", in+"/state/m.room.member/@nobody:test", `{"membership":"invite"}`)
	list := w.must("bob", "GET", in+"/state", "")
	if !strings.HasPrefix(list.raw, `[{"content":`) {
		t.Errorf("%.100s", list.raw)
	}
}

func TestWhoMayRead(t *testing.T) { sqldbtest.Each(t, testWhoMayRead) }

func testWhoMayRead(t *testing.T) {
	w := newWorld(t)
	room := w.create("alice", `{"preset":"public_chat"}`)
	in := "/rooms/" + room
	w.must("bob", "POST", in+"/join", ``)
	w.must("alice", "PUT", in+"/state/m.room.topic", `{"topic":"before"}`)
	w.must("alice", "POST", in+"/kick", `{"user_id":"@bob:test"}`)
	w.must("alice", "POST", in+"/ban", `{"user_id":"@bob:test"}`)
	w.must("alice", "POST", in+"/ban", `{"user_id":"@dan:test"}`)
	w.must("alice", "PUT", in+"/state/m.room.topic", `{"topic":"after"}`)
	if a := w.must("bob", "GET", in+"/state/m.room.topic", ""); a.body["topic"] != "before" {
		t.Errorf("who was kicked sees %s", a.raw)
	}
	w.expect("403 M_FORBIDDEN", "bob", "GET", in+"/aliases", "")
	w.expect("403 M_FORBIDDEN", "bob", "GET", in+"/joined_members", "")
	w.expect("403 M_FORBIDDEN", "dan", "GET", in+"/state/m.room.topic", "")
	w.must("alice", "PUT", in+"/state/m.room.history_visibility", `{"history_visibility":"world_readable"}`)
	if a := w.must("dan", "GET", in+"/state/m.room.topic", ""); a.body["topic"] != "after" {
		t.Errorf("a world-readable room shows %s", a.raw)
	}
	w.expect("200", "carol", "GET", in+"/members", "")
	w.expect("200", "carol", "GET", in+"/aliases", "")
}

func TestMembers(t *testing.T) { sqldbtest.Each(t, testMembers) }

func testMembers(t *testing.T) {
	w := newWorld(t)
	room := w.create("alice", `{"preset":"public_chat"}`)
	in := "/rooms/" + room
	before := w.must("alice", "PUT", in+"/send/m.x/1", `{}`).body["event_id"].(string)
	w.must("bob", "POST", in+"/join", ``)
	w.must("carol", "POST", in+"/join", ``)
	w.must("carol", "POST", in+"/leave", ``)
	for query, want := range map[string]int{
		"": 3, "?membership=join": 2, "?membership=leave": 1, "?not_membership=leave": 2, "?membership=leave&not_membership=leave": 3, "?at=" + before: 1,
	} {
		a := w.must("alice", "GET", in+"/members"+query, "")
		if got := len(a.body["chunk"].([]any)); got != want {
			t.Errorf("%s: %d members", query, got)
		}
	}
	w.expect("403 M_FORBIDDEN", "dan", "GET", in+"/members?at="+before, "")
	w.expect("400 M_INVALID_PARAM", "alice", "GET", in+"/members?membership=x", "")
	w.expect("400 M_INVALID_PARAM", "alice", "GET", in+"/members?at=x", "")
	w.expect("403 M_FORBIDDEN", "dan", "GET", in+"/members", "")
	joined := w.must("alice", "GET", in+"/joined_members", "").body["joined"].(map[string]any)
	if len(joined) != 2 || joined["@bob:test"].(map[string]any)["avatar_url"] != nil {
		t.Errorf("joined %v", joined)
	}
}

// TestMembersAt: the members of an earlier time are those that the requester
// may see: who was not there yet and may not see the history sees those that
// were there when they joined, who has left those of the leave.
func TestMembersAt(t *testing.T) { sqldbtest.Each(t, testMembersAt) }

func testMembersAt(t *testing.T) {
	for visibility, want := range map[string]struct{ early, invited, late int }{
		"world_readable": {1, 3, 4}, "shared": {1, 3, 4}, "invited": {4, 3, 4}, "joined": {4, 4, 4},
	} {
		t.Run(visibility, func(t *testing.T) {
			w := newWorld(t)
			room := w.create("alice", `{"preset":"public_chat","initial_state":[{"type":"m.room.history_visibility","content":{"history_visibility":"`+visibility+`"}}]}`)
			in := "/rooms/" + room
			note := func(n string) string {
				return w.must("alice", "PUT", in+"/send/m.x/"+n, `{}`).body["event_id"].(string)
			}
			early := note("1")
			w.must("dan", "POST", in+"/join", ``)
			w.must("alice", "POST", in+"/invite", `{"user_id":"@bob:test"}`)
			invited := note("2")
			w.must("eve", "POST", in+"/join", ``)
			w.must("bob", "POST", in+"/join", ``)
			late := note("3")
			w.must("fay", "POST", in+"/join", ``)
			for range 2 { // joined, then left
				for at, n := range map[string]int{early: want.early, invited: want.invited, late: want.late} {
					a := w.must("bob", "GET", in+"/members?at="+at, "")
					if got := len(a.body["chunk"].([]any)); got != n {
						t.Errorf("at %s: %d members, want %d", at, got, n)
					}
				}
				w.do("bob", "POST", in+"/leave", ``)
			}
			w.must("gus", "POST", in+"/join", ``)
			if a := w.must("bob", "GET", in+"/members?at="+note("4"), ""); len(a.body["chunk"].([]any)) != 5 {
				t.Errorf("after the leave: %s", a.raw)
			}
			w.expect(map[bool]string{true: "200", false: "403 M_FORBIDDEN"}[visibility == "world_readable"], "zoe", "GET", in+"/members?at="+early, "")
			w.must("alice", "PUT", in+"/state/m.room.history_visibility", `{"history_visibility":"world_readable"}`)
			w.expect(map[bool]string{true: "200", false: "403 M_FORBIDDEN"}[visibility == "world_readable"], "zoe", "GET", in+"/members?at="+early, "")
		})
	}
}

func TestThreadRoots(t *testing.T) { sqldbtest.Each(t, testThreadRoots) }

func testThreadRoots(t *testing.T) {
	w := newWorld(t)
	in := "/rooms/" + w.create("alice", `{}`)
	n := 0
	send := func(want, relates string) string {
		t.Helper()
		n++
		id, _ := w.expect(want, "alice", "PUT", fmt.Sprintf("%s/send/m.room.message/%d", in, n), `{"body":"m.thread"`+relates+`}`).body["event_id"].(string)
		return id
	}
	to := func(typ, id string) string {
		return `,"m.new_content":{},"m.relates_to":{"rel_type":"` + typ + `","event_id":"` + id + `"}`
	}
	root := send("200", ``)
	reply := send("200", `,"m.relates_to":{"m.in_reply_to":{"event_id":"`+root+`"}}`)
	child := send("200", to("m.thread", root))
	edit := send("200", to("m.replace", root))
	send("200", to("m.thread", reply))
	send("200", to("m.thread", "$unknown"))
	send("400 M_UNKNOWN", to("m.thread", child))
	send("400 M_UNKNOWN", to("m.thread", edit))
	send("200", to("m.reference", child))
	w.expect("403 M_FORBIDDEN", "bob", "PUT", in+"/send/m.room.message/x", `{"body":"x"`+to("m.thread", root)+`}`)
}
