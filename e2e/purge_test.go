package e2e

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// purging is what has messages expire where a room says so.
func purging() []string {
	return []string{"DENDRITE_RETENTION_ENABLED=true", "DENDRITE_RETENTION_INTERVAL=300ms"}
}

// purges: messages expire and are deleted, an administrator deletes others, and then
// the room; whichever process is asked, they are gone.
func purges(t *testing.T, s site) {
	paul, pia := register(t, s, "paul"), register(t, s, "pia")
	room := paul.createRoom(t, object{"preset": "public_chat"})
	in := "/rooms/" + url.PathEscape(room)
	pia.join(t, room)
	old := []string{paul.send(t, room, "old0", "old"), paul.send(t, room, "old1", "old")}
	since := pia.syncOnce(t, "", "0").str("next_batch")
	policy := func(ms int) {
		paul.call(t, "PUT", in+"/state/m.room.retention", object{"max_lifetime": ms})
	}
	gone := func(id string) bool {
		a, err := pia.try("GET", in+"/event/"+url.PathEscape(id), nil)
		if err != nil {
			t.Fatal(err)
		}
		return a.status == 404
	}
	if features, ok := pia.call(t, "GET", "/_matrix/client/versions", nil).body["unstable_features"].(object); !ok || features["org.matrix.msc1763"] != true {
		t.Errorf("retention is not told of: %v", features)
	}
	paul.refused(t, 400, "M_BAD_JSON", "PUT", in+"/state/m.room.retention", object{"max_lifetime": -1})
	for deadline := time.Now().Add(time.Minute); ; {
		policy(500)
		for !gone(old[1]) { // hidden at least
			if time.Now().After(deadline) {
				t.Fatal("the message does not expire")
			}
		}
		policy(3_600_000)
		if gone(old[0]) && gone(old[1]) {
			break // also where it would not have expired
		}
	}
	var sent []string
	for n := range 6 {
		sent = append(sent, paul.send(t, room, fmt.Sprint("new", n), "new"))
	}
	if out := administer(t, s, "purge-history", room, "--before", sent[4]); !strings.Contains(out, "4 events are purged") {
		t.Errorf("dendrite-admin says %s", out)
	}
	for range 4 { // of several instances
		for _, id := range slices.Concat(old, sent[:4]) {
			pia.refused(t, 404, "M_NOT_FOUND", "GET", in+"/event/"+url.PathEscape(id), nil)
		}
		var shown []string
		for from, more := since, true; more; {
			a := pia.call(t, "GET", in+"/messages?dir=f&limit=3&from="+url.QueryEscape(from), nil)
			for _, e := range list(a.body["chunk"]) {
				if dig(e, "type") == "m.room.message" {
					shown = append(shown, dig(e, "event_id").(string))
				}
			}
			from, more = a.body["end"].(string)
		}
		if !slices.Equal(shown, sent[4:]) {
			t.Errorf("messages: %v, want %v", shown, sent[4:])
		}
	}
	if out := administer(t, s, "purge-room", room, "--force"); !strings.Contains(out, "The room is purged") {
		t.Errorf("dendrite-admin says %s", out)
	}
	for _, u := range []*user{paul, pia} {
		if got := list(u.call(t, "GET", "/joined_rooms", nil).body["joined_rooms"]); slices.Contains(got, any(room)) {
			t.Errorf("%s is in a room that was purged", u.id)
		}
	}
}
