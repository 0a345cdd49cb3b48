package e2e

import (
	"fmt"
	"net/url"
	"testing"

	"github.com/matrix-org/dendrite/common/testwait"
)

// slidingSync: two users talk, one of them by sliding sync, each of whose requests
// may reach another process.
func slidingSync(t *testing.T, s site) {
	anna, bert := register(t, s, "anna"), register(t, s, "bert")
	if features, ok := anna.call(t, "GET", "/_matrix/client/versions", nil).body["unstable_features"].(object); !ok || features["org.matrix.simplified_msc3575"] != true {
		t.Errorf("sliding sync is not told of: %v", features)
	}
	const path = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
	ask := object{"lists": object{"all": object{"ranges": [][]int{{0, 19}}, "timeline_limit": 5, "required_state": [][]string{{"m.room.create", ""}, {"m.room.member", "$LAZY"}}}},
		"extensions": object{"account_data": object{"enabled": true}, "receipts": object{"enabled": true}}}
	room := anna.createRoom(t, object{"preset": "private_chat", "name": "sliding", "invite": []string{bert.id}})
	first := bert.call(t, "POST", path, ask)
	if dig(first.body, "rooms", room, "membership") != "invite" || len(list(dig(first.body, "rooms", room, "invite_state"))) == 0 || dig(first.body, "lists", "all", "count") != 1.0 {
		t.Fatalf("invited: %s", first.raw)
	}
	bert.join(t, room)
	pos := first.str("pos")
	next := bert.call(t, "POST", path+"?timeout=10000&pos="+url.QueryEscape(pos), ask)
	if in := dig(next.body, "rooms", room); dig(in, "initial") != true || dig(in, "name") != "sliding" || dig(in, "joined_count") != 2.0 {
		t.Fatalf("joined: %s", next.raw)
	}
	for i := range 5 {
		pos = next.str("pos")
		body := fmt.Sprint("message ", i)
		anna.call(t, "PUT", "/rooms/"+url.PathEscape(room)+"/send/m.room.message/"+fmt.Sprint(i), object{"msgtype": "m.text", "body": body})
		for range 2 { // an answer that was lost is asked for again, of whom it may be
			next = bert.call(t, "POST", path+"?timeout=10000&pos="+url.QueryEscape(pos), ask)
			events := list(dig(next.body, "rooms", room, "timeline"))
			if len(events) != 1 || dig(events[0], "content", "body") != body || dig(next.body, "rooms", room, "num_live") != 1.0 {
				t.Fatalf("%s: %s", body, next.raw)
			}
		}
	}
	anna.refused(t, 400, "M_UNKNOWN_POS", "POST", path+"?pos="+url.QueryEscape(pos), ask)
	threads(t, anna, bert, room, path)
}

// threads: one user subscribes to a thread and leaves it; any process tells so, and
// counts accordingly.
func threads(t *testing.T, anna, bert *user, room, path string) {
	const unstable, extension = "/_matrix/client/unstable", "io.element.msc4308.thread_subscriptions"
	ask := object{"lists": object{"all": object{"ranges": [][]int{{0, 19}}, "timeline_limit": 1}}, "extensions": object{extension: object{"enabled": true}}}
	root, n := anna.send(t, room, "root", "root"), 0
	reply := func() string {
		t.Helper()
		n++
		return anna.call(t, "PUT", fmt.Sprintf("/rooms/%s/send/m.room.message/reply%d", url.PathEscape(room), n),
			object{"msgtype": "m.text", "body": "reply", "m.relates_to": object{"rel_type": "m.thread", "event_id": root}}).str("event_id")
	}
	at := unstable + "/io.element.msc4306/rooms/" + url.PathEscape(room) + "/thread/" + url.PathEscape(root) + "/subscription"
	first := bert.call(t, "POST", path, ask)
	bert.refused(t, 404, "M_NOT_FOUND", "GET", at, nil)
	old := reply()
	bert.call(t, "PUT", at, object{"automatic": old})
	told := func(after *answer) *answer { // the next answer that speaks of subscriptions, before or after the reply's
		t.Helper()
		for {
			after = bert.call(t, "POST", path+"?timeout=10000&pos="+url.QueryEscape(after.str("pos")), ask)
			if dig(after.body, "extensions", extension) != nil {
				return after
			}
			if dig(after.body, "rooms", room) == nil {
				t.Fatalf("nothing is told: %s", after.raw)
			}
		}
	}
	next := told(first)
	if dig(next.body, "extensions", extension, "subscribed", room, root, "automatic") != true || dig(bert.call(t, "GET", at, nil).body, "automatic") != true {
		t.Errorf("subscribed: %s", next.raw)
	}
	bert.call(t, "DELETE", at, nil)
	bert.refused(t, 409, "IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION", "PUT", at, object{"automatic": old})
	next = told(next)
	if dig(next.body, "extensions", extension, "unsubscribed", room, root) == nil {
		t.Errorf("unsubscribed: %s", next.raw)
	}
	if all := bert.call(t, "GET", unstable+"/io.element.msc4308/thread_subscriptions?dir=b", nil); dig(all.body, "unsubscribed", room, root, "bump_stamp") == nil {
		t.Errorf("all: %s", all.raw)
	}
	unread := func(what string, want float64) {
		t.Helper()
		bert.call(t, "POST", "/rooms/"+url.PathEscape(room)+"/receipt/m.read/"+url.PathEscape(anna.send(t, room, what, what)), object{})
		reply()
		for range 2 {
			if got := dig(bert.syncOnce(t, "", "0").body, "rooms", "join", room, "unread_notifications", "notification_count"); got != want {
				t.Errorf("%s: %v messages are unread, not %v", what, got, want)
			}
		}
	}
	updates := object{"lists": object{"all": object{"ranges": [][]int{{0, 19}}, "timeline_limit": 1}},
		"extensions": object{"io.element.msc4360.threads": object{"enabled": true, "include_roots": true}}}
	last := reply()
	var news *answer
	testwait.Until(t, "the thread has news", func() bool { // of an instance that has them
		news = bert.call(t, "POST", path+"?pos="+url.QueryEscape(first.str("pos")), updates)
		return dig(news.body, "extensions", "io.element.msc4360.threads", "updates", room, root, "thread_root", "unsigned", "m.relations", "m.thread", "latest_event", "event_id") == last
	})
	paged := bert.call(t, "GET", unstable+"/io.element.msc4360/thread_updates?dir=b&limit=1&to="+url.QueryEscape(first.str("pos")), nil)
	if dig(paged.body, "chunk", room, root, "prev_batch") == nil || dig(paged.body, "chunk", room, root, "thread_root", "event_id") != root {
		t.Errorf("threads with news, as a page: %s", paged.raw)
	}
	unread("left", 0)
	bert.call(t, "PUT", at, object{})
	unread("returned", 1)
}
