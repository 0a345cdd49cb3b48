package clientapi

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

// olderRooms answers as a room server of v0.1.0 does, which knows nothing of
// conditions and clients' forms.
type olderRooms struct{ rpc.Caller }

func (o olderRooms) Invoke(ctx context.Context, c rpc.Call) (any, error) {
	if req, ok := c.Request.(*roomapi.StateRequest); ok {
		known := *req
		known.Client, known.IfJoined = nil, ""
		c.Request = &known
	}
	return o.Caller.Invoke(ctx, c)
}

// countedRooms counts the calls.
type countedRooms struct {
	rpc.Caller
	calls int
}

func (c *countedRooms) Invoke(ctx context.Context, call rpc.Call) (any, error) {
	c.calls++
	return c.Caller.Invoke(ctx, call)
}

// edgeOver is the edge of a server like the world's, which calls others so.
func (w *world) edgeOver(caller rpc.Caller) http.Handler {
	w.t.Helper()
	like := *w.server
	like.caller = caller
	edge, err := httpapi.NewRouter(httpapi.Options{Authenticator: w, Logger: quiet()}, like.roomEndpoints())
	if err != nil {
		w.t.Fatal(err)
	}
	return edge
}

var ages = regexp.MustCompile(`"age":[0-9]+`)

// shownState is an answer without what differs from one time to another: ages,
// and the order of events.
func shownState(t *testing.T, a answer) string {
	t.Helper()
	raw := ages.ReplaceAllString(a.raw, `"age":0`)
	before, list, ok := strings.Cut(raw, "[{")
	if a.status != 200 || !ok {
		return raw
	}
	list, after, _ := strings.Cut("[{"+list, "}]")
	var events []jsontext.Value
	if err := json.Unmarshal([]byte(list+"}]"), &events); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	slices.SortFunc(events, func(x, y jsontext.Value) int { return strings.Compare(string(x), string(y)) })
	for _, e := range events {
		before += string(e) + "\n"
	}
	return before + after
}

// TestStateOfOlderRoomServer: what is read of state is the same, whether the room
// server makes it ready for the client or is of a release that cannot.
func TestStateOfOlderRoomServer(t *testing.T) { sqldbtest.Each(t, testStateOfOlderRoomServer) }

func testStateOfOlderRoomServer(t *testing.T) {
	w := newWorld(t)
	room := w.create("alice", `{"preset":"public_chat"}`)
	in := "/rooms/" + room
	w.must("bob", "POST", in+"/join", ``)
	w.must("carol", "POST", in+"/join", ``)
	topic := w.must("alice", "PUT", in+"/state/m.room.topic", `{"topic":"secret"}`).body["event_id"].(string)
	w.must("alice", "PUT", in+"/redact/"+topic+"/1", `{"reason":"x"}`)
	w.must("bob", "POST", in+"/leave", ``)
	w.must("alice", "PUT", in+"/state/m.x/later", `{"k":1}`)
	newer, older := w.edge, w.edgeOver(olderRooms{w.caller})
	for _, user := range []string{"alice", "carol", "bob", "stranger"} {
		for _, path := range []string{
			"/state", "/members", "/members?membership=leave", "/members?membership=ban", "/members?at=" + topic, "/members?at=x",
			"/state/m.room.topic", "/state/m.room.topic?format=event", "/state/m.x/later?format=event", "/state/m.x/never", "/state/m.x/never?format=event",
		} {
			w.edge = newer
			got := w.do(user, "GET", in+path, "")
			w.edge = older
			want := w.do(user, "GET", in+path, "")
			if shownState(t, got) != shownState(t, want) || got.status != want.status {
				t.Errorf("%s reads %s:\ngot  %s\nwant %s", user, path, got.raw, want.raw)
			}
		}
	}
	w.edge = newer
	if a := w.must("alice", "GET", in+"/state/m.room.topic?format=event", ""); !strings.Contains(a.raw, `"redacted_because":{`) || strings.Contains(a.raw, "secret") {
		t.Errorf("a redacted event shows %s", a.raw)
	}
	if a := w.must("bob", "GET", in+"/state", ""); strings.Contains(a.raw, "later") || !strings.Contains(a.raw, `"m.room.topic"`) {
		t.Errorf("who left sees %s", a.raw)
	}
}

// TestOneQuestionForState: a member's read of state costs one call.
func TestOneQuestionForState(t *testing.T) {
	w := newWorld(t)
	room := w.create("alice", `{"preset":"public_chat"}`)
	counted := &countedRooms{Caller: w.caller}
	w.edge = w.edgeOver(counted)
	for _, path := range []string{"/state", "/members?not_membership=leave", "/state/m.room.create", "/state/m.room.create?format=event"} {
		counted.calls = 0
		w.must("alice", "GET", "/rooms/"+room+path, "")
		if counted.calls != 1 {
			t.Errorf("%s: %d calls", path, counted.calls)
		}
	}
}

// TestJoinByProfileOfToken: a join takes the profile that came with the token, and
// asks for it where none came.
func TestJoinByProfileOfToken(t *testing.T) {
	w := newWorld(t)
	room := w.create("alice", `{"preset":"public_chat"}`)
	counted := &countedRooms{Caller: w.caller}
	w.edge = w.edgeOver(counted)
	w.device("bob").Profile = &httpapi.Profile{DisplayName: "Told", AvatarURL: "mxc://a/b"}
	for _, c := range []struct {
		user, want string
		calls      int
	}{
		{"bob", "Told mxc://a/b", 1}, // the terms
		{"carol", "C <nil>", 2},      // and the profile
	} {
		counted.calls = 0
		w.must(c.user, "POST", "/join/"+room, "")
		if counted.calls != c.calls {
			t.Errorf("%s: %d calls", c.user, counted.calls)
		}
		content := w.must("alice", "GET", "/rooms/"+room+"/state/m.room.member/@"+c.user+":test", "").body
		if got := fmt.Sprint(content["displayname"], " ", content["avatar_url"]); got != c.want {
			t.Errorf("%s joined as %s, want %s", c.user, got, c.want)
		}
	}
}
