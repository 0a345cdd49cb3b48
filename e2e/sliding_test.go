package e2e

import (
	"fmt"
	"net/url"
	"testing"
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
}
