package e2e

import (
	"fmt"
	"net/url"
	"slices"
	"testing"
)

// TestSearch: who searches finds, by their newest words, the messages that he may
// see and has been told of, wherever he asks, also after all search-servers died;
// and nothing else.
func TestSearch(t *testing.T) {
	inBoth(t, func(t *testing.T) {
		search(t, startServer(t))
		searchIsOff(t, startServer(t, "DENDRITE_SEARCH_ENABLED=false"))
	}, func(t *testing.T) { search(t, startCluster(t, clusterOptions{})) })
}

// searching is what stands in room_events of a search, and what is found by it.
func (u *user) searching(t testing.TB, next string, body object) (ids []string, room object) {
	t.Helper()
	path := "/search"
	if next != "" {
		path += "?next_batch=" + url.QueryEscape(next)
	}
	a := u.call(t, "POST", path, object{"search_categories": object{"room_events": body}})
	room, _ = dig(a.body, "search_categories", "room_events").(object)
	results, _ := room["results"].([]any)
	for _, r := range results {
		id, _ := dig(r, "result", "event_id").(string)
		ids = append(ids, id)
	}
	return ids, room
}

// finds expects what a search finds, newest first.
func (u *user) finds(t testing.TB, term string, want ...string) {
	t.Helper()
	got, room := u.searching(t, "", object{"search_term": term, "order_by": "recent"})
	if !slices.Equal(got, want) || room["count"] != float64(len(want)) {
		t.Errorf("%s finds %v (%v) by %q, not %v", u.id, got, room["count"], term, want)
	}
}

func search(t *testing.T, s site) {
	alice, bob, carol := register(t, s, "alice"), register(t, s, "bob"), register(t, s, "carol")
	room := alice.createRoom(t, object{"preset": "public_chat", "name": "The Observatory"})
	path := "/rooms/" + url.PathEscape(room)
	bob.join(t, room)
	martians := alice.send(t, room, "m1", "Martians and men")
	tokyo := bob.send(t, room, "m2", "明日は東京に martians")
	for _, u := range []*user{alice, bob} {
		u.finds(t, "MARTIANS", tokyo, martians)
		u.finds(t, "martians men", martians)
		u.finds(t, "東京", tokyo)
		u.finds(t, "martian")
	}
	if ids, _ := bob.searching(t, "", object{"search_term": "observatory", "keys": []string{"content.name"}}); len(ids) != 1 {
		t.Errorf("the room's name: %v", ids)
	}

	// Edits and redactions.
	edit := alice.call(t, "PUT", path+"/send/m.room.message/e1", object{"msgtype": "m.text", "body": "* Venusians and men",
		"m.new_content": object{"msgtype": "m.text", "body": "Venusians and men"}, "m.relates_to": object{"rel_type": "m.replace", "event_id": martians}}).str("event_id")
	bob.finds(t, "martians", tokyo)
	bob.finds(t, "venusians", martians)
	_, shown := bob.searching(t, "", object{"search_term": "venusians"})
	if got := dig(shown["results"].([]any)[0], "result", "unsigned", "m.relations", "m.replace", "event_id"); got != edit {
		t.Errorf("the edit is not shown with its message: %v", shown)
	}
	alice.call(t, "PUT", path+"/redact/"+url.PathEscape(edit)+"/r1", object{})
	bob.finds(t, "venusians")
	bob.finds(t, "martians", tokyo, martians)
	bob.call(t, "PUT", path+"/redact/"+url.PathEscape(tokyo)+"/r2", object{})
	alice.finds(t, "martians", martians)

	searchVisibility(t, alice, bob, carol, room)
	searchPages(t, s, alice, bob)
	searchRefusals(t, s, alice)
}

// searchVisibility: a later joiner finds what is shared and not what was said among
// members, who has left nothing of since, and a stranger nothing.
func searchVisibility(t *testing.T, alice, bob, carol *user, room string) {
	t.Helper()
	path := "/rooms/" + url.PathEscape(room)
	shared := alice.send(t, room, "v1", "comet of old")
	alice.call(t, "PUT", path+"/state/m.room.history_visibility", object{"history_visibility": "joined"})
	hidden := alice.send(t, room, "v2", "comet among members")
	carol.finds(t, "comet")
	carol.join(t, room)
	seen := alice.send(t, room, "v3", "comet for carol")
	carol.finds(t, "comet", seen, shared)
	bob.finds(t, "comet", seen, hidden, shared)
	bob.call(t, "POST", path+"/leave", object{})
	since := alice.send(t, room, "v4", "comet since")
	bob.finds(t, "comet", seen, hidden, shared)
	carol.finds(t, "comet", since, seen, shared)
	bob.call(t, "POST", path+"/forget", object{})
}

// searchPages: pages, groups and what is around results, also after a restart.
func searchPages(t *testing.T, s site, alice, bob *user) {
	t.Helper()
	room := alice.createRoom(t, object{"preset": "public_chat"})
	bob.join(t, room)
	var ids []string
	for i := range 5 {
		ids = slices.Insert(ids, 0, []*user{alice, bob}[i%2].send(t, room, fmt.Sprint("p", i), fmt.Sprint("meteor ", i)))
	}
	body := object{"search_term": "meteor", "order_by": "recent", "filter": object{"limit": 2, "rooms": []string{room}},
		"groupings": object{"group_by": []object{{"key": "sender"}}}, "event_context": object{"before_limit": 1, "after_limit": 1, "include_profile": true}, "include_state": true}
	first, shown := alice.searching(t, "", body)
	if !slices.Equal(first, ids[:2]) || shown["count"] != 5.0 || dig(shown, "state", room) == nil {
		t.Fatalf("the first page: %v", shown)
	}
	around := dig(shown["results"].([]any)[1], "context")
	if got := dig(around.(object)["events_before"].([]any)[0], "event_id"); got != ids[2] {
		t.Errorf("before the second result: %v", around)
	}
	if dig(around, "profile_info", alice.id, "displayname") == nil {
		t.Errorf("profiles: %v", around)
	}
	page := alice.call(t, "GET", "/rooms/"+url.PathEscape(room)+"/messages?dir=b&limit=1&from="+url.QueryEscape(around.(object)["start"].(string)), nil)
	if got := dig(page.body["chunk"].([]any)[0], "event_id"); got != ids[3] {
		t.Errorf("from the start of the context on: %v", page.body)
	}
	restartRole(t, s, "search-server")
	newer := alice.send(t, room, "p5", "meteor 5")
	second, rest := alice.searching(t, shown["next_batch"].(string), body)
	third, end := alice.searching(t, rest["next_batch"].(string), body)
	if got := slices.Concat(second, third); !slices.Equal(got, ids[2:]) || end["next_batch"] != nil {
		t.Errorf("the other pages: %v", got)
	}
	bobs, _ := alice.searching(t, dig(shown, "groups", "sender", bob.id, "next_batch").(string), body)
	if !slices.Equal(bobs, ids[3:4]) {
		t.Errorf("the next page of bob's messages: %v", bobs)
	}
	alice.finds(t, "meteor", slices.Insert(ids, 0, newer)...)
}

func searchRefusals(t *testing.T, s site, alice *user) {
	t.Helper()
	ask := func(body any) object { return object{"search_categories": object{"room_events": body}} }
	anonymous(s).refused(t, 401, "M_MISSING_TOKEN", "POST", "/search", ask(object{"search_term": "x"}))
	alice.refused(t, 400, "M_NOT_JSON", "POST", "/search", `{`)
	alice.refused(t, 400, "M_BAD_JSON", "POST", "/search", ask(object{"search_term": 3}))
	alice.refused(t, 400, "M_MISSING_PARAM", "POST", "/search", ask(object{}))
	alice.refused(t, 400, "M_INVALID_PARAM", "POST", "/search", ask(object{"search_term": "x", "order_by": "size"}))
	alice.refused(t, 400, "M_INVALID_PARAM", "POST", "/search?next_batch=x", ask(object{"search_term": "x"}))
	alice.refused(t, 405, "M_UNRECOGNIZED", "GET", "/search", nil)
}

func searchIsOff(t *testing.T, s site) {
	u := register(t, s, "alice")
	u.refused(t, 404, "M_UNRECOGNIZED", "POST", "/search", object{"search_categories": object{"room_events": object{"search_term": "x"}}})
}
