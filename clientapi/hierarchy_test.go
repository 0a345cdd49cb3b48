package clientapi

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
)

// space makes a space, or a room, with a name.
func (w *world) space(user, name, rest string) string {
	w.t.Helper()
	return w.create(user, fmt.Sprintf(`{"name":%q,"preset":"public_chat","creation_content":{"type":"m.space"}%s}`, name, rest))
}

// child puts a room into a space.
func (w *world) child(user, space, room, content string) {
	w.t.Helper()
	w.must(user, "PUT", "/rooms/"+space+"/state/m.space.child/"+url.PathEscape(room), content)
}

// names walks through all pages of a hierarchy and returns the rooms' names.
func (w *world) names(user, space, query string) (names []string, pages int) {
	w.t.Helper()
	from := ""
	for pages < 50 {
		a := w.must(user, "GET", "/_matrix/client/v1/rooms/"+space+"/hierarchy?"+query+from, "")
		pages++
		for _, r := range a.body["rooms"].([]any) {
			names = append(names, r.(map[string]any)["name"].(string))
		}
		next, more := a.body["next_batch"].(string)
		if !more {
			return names, pages
		}
		from = "&from=" + url.QueryEscape(next)
	}
	w.t.Fatalf("there is no end: %v", names)
	return nil, 0
}

const via = `"via":["test"]`

// tree is a space with spaces and rooms in it, one of them twice, and a loop.
type tree struct{ top, left, right, deep, secret, shared, plain string }

func (w *world) tree() (t tree) {
	t.top, t.left, t.right, t.deep = w.space("alice", "top", ""), w.space("alice", "left", ""), w.space("alice", "right", ""), w.space("alice", "deep", "")
	t.plain = w.create("alice", `{"name":"plain","preset":"public_chat"}`)
	t.secret = w.create("alice", `{"name":"secret","preset":"private_chat"}`)
	t.shared = w.create("alice", `{"name":"shared","initial_state":[{"type":"m.room.join_rules","content":{"join_rule":"restricted",
		"allow":[{"type":"m.room_membership","room_id":"`+t.top+`"}]}}]}`)
	w.child("alice", t.top, t.secret, `{`+via+`}`)
	w.child("alice", t.top, t.right, `{`+via+`,"order":"b","suggested":true}`)
	w.child("alice", t.top, t.left, `{`+via+`,"order":"a"}`)
	w.child("alice", t.top, "!unknown:test", `{`+via+`,"order":"0"}`)
	w.child("alice", t.left, t.deep, `{`+via+`,"order":"x"}`)
	w.child("alice", t.left, t.top, `{`+via+`}`) // a loop
	w.child("alice", t.deep, t.plain, `{`+via+`}`)
	w.child("alice", t.right, t.shared, `{`+via+`,"suggested":true,"order":"\u00e9"}`) // not a valid order
	w.child("alice", t.right, t.plain, `{`+via+`,"order":"1"}`)
	w.child("alice", t.right, t.secret, `{"via":[]}`) // was removed
	return t
}

func TestHierarchy(t *testing.T) { sqldbtest.Each(t, testHierarchy) }

func testHierarchy(t *testing.T) {
	w := newWorld(t)
	tr := w.tree()
	want := func(user, query, names string) {
		t.Helper()
		if got, _ := w.names(user, tr.top, query); strings.Join(got, " ") != names {
			t.Errorf("%s sees with %q %v, want %s", user, query, got, names)
		}
	}
	want("alice", "", "top left deep plain right shared secret")
	want("bob", "", "top left deep plain right")
	want("bob", "suggested_only=true", "top right")
	want("bob", "max_depth=0", "top")
	want("bob", "max_depth=1", "top left right")
	want("bob", "max_depth=2", "top left deep right plain")
	w.must("bob", "POST", "/rooms/"+tr.top+"/join", `{}`)
	want("bob", "", "top left deep plain right shared")
	want("bob", "suggested_only=true&max_depth=9", "top right shared")
	// Page by page it is the same, and a room that goes meanwhile hides no other.
	for _, limit := range []string{"limit=1", "limit=2", "limit=3", "limit=1000"} {
		want("bob", limit, "top left deep plain right shared")
	}
	w.must("alice", "PUT", "/rooms/"+tr.secret+"/state/m.room.join_rules", `{"join_rule":"knock"}`)
	want("bob", "", "top left deep plain right shared secret")
	w.must("alice", "POST", "/rooms/"+tr.plain+"/ban", `{"user_id":"@bob:test"}`)
	want("bob", "", "top left deep right shared secret")
	w.must("alice", "PUT", "/rooms/"+tr.plain+"/state/m.room.history_visibility", `{"history_visibility":"world_readable"}`)
	want("bob", "", "top left deep plain right shared secret")
	w.must("alice", "PUT", "/rooms/"+tr.top+"/state/m.space.child/"+url.PathEscape(tr.right), `{}`)
	want("bob", "", "top left deep plain secret")
}

func TestHierarchyAnswer(t *testing.T) { sqldbtest.Each(t, testHierarchyAnswer) }

func testHierarchyAnswer(t *testing.T) {
	w := newWorld(t)
	tr := w.tree()
	w.must("bob", "POST", "/rooms/"+tr.top+"/join", `{}`)
	rooms := w.must("bob", "GET", "/_matrix/client/v1/rooms/"+tr.right+"/hierarchy", "").body["rooms"].([]any)
	first, last := rooms[0].(map[string]any), rooms[2].(map[string]any)
	if first["room_type"] != "m.space" || first["num_joined_members"] != 1.0 || first["join_rule"] != "public" || first["membership"] != nil {
		t.Errorf("the first room is %v", first)
	}
	if allowed := last["allowed_room_ids"].([]any); !slices.Equal(allowed, []any{tr.top}) || len(last["children_state"].([]any)) != 0 {
		t.Errorf("the restricted room is %v", last)
	}
	children := first["children_state"].([]any)
	if len(children) != 2 {
		t.Fatalf("children: %v", children)
	}
	child := children[0].(map[string]any)
	if child["state_key"] != tr.plain || child["type"] != "m.space.child" || child["sender"] != "@alice:test" || child["origin_server_ts"].(float64) < 1 ||
		child["content"].(map[string]any)["order"] != "1" || len(child) != 5 {
		t.Errorf("the first child is %v", child)
	}
}

func TestHierarchyRefusals(t *testing.T) { sqldbtest.Each(t, testHierarchyRefusals) }

func testHierarchyRefusals(t *testing.T) {
	w := newWorld(t)
	tr := w.tree()
	at := "/_matrix/client/v1/rooms/" + tr.top + "/hierarchy"
	next := w.must("bob", "GET", at+"?limit=1&max_depth=3", "").body["next_batch"].(string)
	other := w.must("bob", "GET", "/_matrix/client/v1/rooms/"+tr.left+"/hierarchy?limit=1&max_depth=3", "").body["next_batch"].(string)
	w.device("gus").IsGuest = true
	for _, tt := range []struct{ want, user, path string }{
		{"403 M_FORBIDDEN", "bob", "/_matrix/client/v1/rooms/!no:test/hierarchy"},
		{"403 M_FORBIDDEN", "bob", "/_matrix/client/v1/rooms/" + tr.secret + "/hierarchy"},
		{"400 M_INVALID_PARAM", "bob", "/_matrix/client/v1/rooms/nothing/hierarchy"},
		{"400 M_INVALID_PARAM", "bob", at + "?limit=0"},
		{"400 M_INVALID_PARAM", "bob", at + "?max_depth=-1"},
		{"400 M_INVALID_PARAM", "bob", at + "?suggested_only=yes"},
		{"400 M_INVALID_PARAM", "bob", at + "?from=e30"},
		{"400 M_INVALID_PARAM", "bob", at + "?max_depth=4&from=" + next},
		{"400 M_INVALID_PARAM", "bob", at + "?suggested_only=true&from=" + next},
		{"400 M_INVALID_PARAM", "bob", at + "?from=" + other},
		{"200", "bob", at + "?from=" + next},
		{"401 M_MISSING_TOKEN", "", at},
		{"403 M_GUEST_ACCESS_FORBIDDEN", "gus", at},
	} {
		w.expect(tt.want, tt.user, "GET", tt.path, "")
	}
	// The room where a page ended may be gone by the next one.
	next = w.must("alice", "GET", at+"?limit=3", "").body["next_batch"].(string)
	w.child("alice", tr.left, tr.deep, `{}`)
	a := w.must("alice", "GET", at+"?from="+next, "")
	var names []string
	for _, r := range a.body["rooms"].([]any) {
		names = append(names, r.(map[string]any)["name"].(string))
	}
	if !slices.Contains(names, "shared") || !slices.Contains(names, "secret") {
		t.Errorf("after a room has gone: %v", names)
	}
}
