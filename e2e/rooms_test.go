package e2e

import (
	"crypto/hmac"
	"crypto/sha1" // the protocol's choice
	"encoding/hex"
	"net/url"
	"strings"
	"testing"
	"time"
)

// TestRooms: what clients do with rooms beyond talking in them, and what
// administrators do about it, where other processes have to know of it; messages
// that expire or are purged; and sliding sync.
func TestRooms(t *testing.T) {
	const secret = "a secret of the tests"
	env := append(purging(), "DENDRITE_REGISTRATION_SHARED_SECRET="+secret)
	inBoth(t, func(t *testing.T) { roomsAndSliding(t, startServer(t, env...), secret) },
		func(t *testing.T) { roomsAndSliding(t, startCluster(t, clusterOptions{env: env}), secret) })
}

func roomsAndSliding(t *testing.T, s site, secret string) {
	rooms(t, s, secret)
	slidingSync(t, s)
	purges(t, s)
}

// administrator makes an account of one, with the shared secret.
func administrator(t *testing.T, s site, name, secret string) *user {
	t.Helper()
	return bySecret(t, s, name, secret, true)
}

// bySecret makes an account with the shared secret.
func bySecret(t *testing.T, s site, name, secret string, admin bool) *user {
	t.Helper()
	u := anonymous(s)
	rank := "notadmin"
	if admin {
		rank = "admin"
	}
	const path = "/_synapse/admin/v1/register"
	nonce := u.call(t, "GET", path, nil).str("nonce")
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write([]byte(strings.Join([]string{nonce, name, "correct horse", rank}, "\x00")))
	a := u.call(t, "POST", path, object{"nonce": nonce, "username": name, "password": "correct horse", "admin": admin, "mac": hex.EncodeToString(mac.Sum(nil))})
	u.id, u.token, u.device = a.str("user_id"), a.str("access_token"), a.str("device_id")
	return u
}

func rooms(t *testing.T, s site, secret string) {
	root, alice, bob := administrator(t, s, "root", secret), register(t, s, "alice"), register(t, s, "bob")
	const v1, unstable = "/_matrix/client/v1", "/_matrix/client/unstable"

	space := alice.createRoom(t, object{"preset": "public_chat", "creation_content": object{"type": "m.space"}})
	room := alice.createRoom(t, object{"preset": "public_chat", "name": "inside"})
	in := "/rooms/" + url.PathEscape(room)
	alice.call(t, "PUT", "/rooms/"+url.PathEscape(space)+"/state/m.space.child/"+url.PathEscape(room), object{"via": []string{"localhost"}})
	bob.join(t, room)
	if got := list(bob.call(t, "GET", v1+"/rooms/"+url.PathEscape(space)+"/hierarchy", nil).body["rooms"]); len(got) != 2 || dig(got[1], "name") != "inside" {
		t.Errorf("the space has %v", got)
	}
	if got := list(bob.call(t, "GET", v1+"/mutual_rooms?user_id="+url.QueryEscape(alice.id), nil).body["joined"]); len(got) != 1 || got[0] != room {
		t.Errorf("bob shares %v with alice", got)
	}
	alice.call(t, "PUT", "/profile/"+url.PathEscape(alice.id)+"/displayname", object{"displayname": "Ålice the First"})
	if got := list(bob.call(t, "POST", "/user_directory/search", object{"search_term": "first alice"}).body["results"]); len(got) != 1 || dig(got[0], "user_id") != alice.id {
		t.Errorf("bob finds %v", got)
	}

	delayed := unstable + "/org.matrix.msc4140"
	id := bob.call(t, "PUT", delayed+in+"/delayed_event/m.room.message/1", object{"delay_ms": 200, "content": object{"body": "late"}}).str("delay_id")
	late, since := "", alice.syncOnce(t, "", "0").str("next_batch")
	for limit := time.Now().Add(30 * time.Second); late == ""; {
		if time.Now().After(limit) {
			t.Fatal("the delayed event is not sent")
		}
		since = alice.syncOnce(t, since, "500").str("next_batch")
		late = bob.call(t, "GET", delayed+"/delayed_events/"+id, nil).str("event_id")
	}
	if got := alice.call(t, "GET", in+"/event/"+url.PathEscape(late), nil); dig(got.body, "content", "body") != "late" {
		t.Errorf("alice sees %s", got.raw)
	}
	for _, path := range []string{"/event/" + url.PathEscape(late), "/messages?dir=b&limit=1"} {
		if got := bob.call(t, "GET", in+path, nil); !strings.Contains(string(got.raw), `"org.matrix.msc4140.delay_id":"`+id+`"`) {
			t.Errorf("bob does not know the event again that was delayed: %s", got.raw)
		}
		if got := alice.call(t, "GET", in+path, nil); strings.Contains(string(got.raw), "delay_id") {
			t.Errorf("alice is told that bob's event was delayed: %s", got.raw)
		}
	}
	alice.call(t, "POST", in+"/report/"+url.PathEscape(late), object{"reason": "too late"})
	alice.refused(t, 404, "M_NOT_FOUND", "POST", in+"/report/$nothing", object{})

	// An account that is locked or suspended is so for every process at once.
	root.call(t, "PUT", v1+"/admin/suspend/"+url.PathEscape(bob.id), object{"suspended": true})
	for range 4 {
		bob.refused(t, 403, "M_USER_SUSPENDED", "PUT", in+"/send/m.room.message/s", object{"body": "x"})
	}
	root.call(t, "PUT", v1+"/admin/lock/"+url.PathEscape(bob.id), object{"locked": true})
	for range 4 {
		bob.refused(t, 401, "M_USER_LOCKED", "GET", "/sync?timeout=0", nil)
		bob.refused(t, 401, "M_USER_LOCKED", "GET", in+"/members", nil)
	}
	root.call(t, "PUT", v1+"/admin/lock/"+url.PathEscape(bob.id), object{"locked": false})
	root.call(t, "PUT", v1+"/admin/suspend/"+url.PathEscape(bob.id), object{"suspended": false})
	for range 4 {
		bob.call(t, "GET", in+"/members", nil)
	}
	alice.refused(t, 403, "M_FORBIDDEN", "PUT", v1+"/admin/lock/"+url.PathEscape(bob.id), object{"locked": true})
}
