package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/matrix-org/dendrite/common/testwait"
)

// pushGateway is a push gateway that keeps what it was told, by pushkey.
type pushGateway struct {
	*httptest.Server
	mu      sync.Mutex
	told    map[string][]pushed
	rejects string // a pushkey
	away    bool
}

// pushed is a notification.
type pushed struct {
	EventID string `json:"event_id"`
	Counts  struct {
		Unread int `json:"unread"`
	} `json:"counts"`
	Devices []struct {
		Pushkey string `json:"pushkey"`
	} `json:"devices"`
}

func newPushGateway(t *testing.T) *pushGateway {
	g := &pushGateway{told: map[string][]pushed{}}
	g.Server = httptest.NewServer(g)
	t.Cleanup(g.Close)
	return g
}

// ServeHTTP implements http.Handler.
func (g *pushGateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Notification pushed `json:"notification"`
	}
	if json.NewDecoder(r.Body).Decode(&req) != nil || len(req.Notification.Devices) != 1 || r.URL.Path != "/_matrix/push/v1/notify" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	key := req.Notification.Devices[0].Pushkey
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.away:
		w.WriteHeader(http.StatusServiceUnavailable)
	case key == g.rejects:
		fmt.Fprintf(w, `{"rejected":[%q]}`, key)
	default:
		g.told[key] = append(g.told[key], req.Notification)
		fmt.Fprint(w, `{"rejected":[]}`)
	}
}

func (g *pushGateway) set(change func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change()
}

// last is what a pushkey was told last about an event, or "" for the counts.
func (g *pushGateway) last(key, event string) (pushed, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, n := range slices.Backward(g.told[key]) {
		if n.EventID == event {
			return n, true
		}
	}
	return pushed{}, false
}

// TestPush: who has a pusher is notified through its gateway, with the counts that
// syncs tell, also of what was sent while the gateway or all push-servers were away;
// a rejected pushkey, and the end of a session, end it.
func TestPush(t *testing.T) {
	env := []string{"DENDRITE_PUSH_ANY_URL=true", "DENDRITE_PUSH_ALLOW_RANGES=127.0.0.0/8"}
	inBoth(t, func(t *testing.T) { push(t, startServer(t, env...)) }, func(t *testing.T) { push(t, startCluster(t, clusterOptions{env: env})) })
}

func push(t *testing.T, s site) {
	g := newPushGateway(t)
	alice, bob := register(t, s, "alice"), register(t, s, "bob")
	room := bob.createRoom(t, object{"preset": "public_chat"})
	alice.call(t, "POST", "/rooms/"+url.PathEscape(room)+"/join", object{})
	setPusher := func(key string) {
		t.Helper()
		alice.call(t, "POST", "/pushers/set", object{"kind": "http", "app_id": "test", "pushkey": key, "app_display_name": "A", "device_display_name": "D",
			"lang": "en", "append": true, "data": object{"url": g.URL + "/_matrix/push/v1/notify", "format": "event_id_only"}})
	}
	n := 0
	say := func() string {
		t.Helper()
		n++
		return bob.call(t, "PUT", fmt.Sprintf("/rooms/%s/send/m.room.message/p%d", url.PathEscape(room), n), object{"msgtype": "m.text", "body": "hi"}).str("event_id")
	}
	told := func(key, event string, unread int) {
		t.Helper()
		var last pushed
		testwait.Until(t, key+" is told", func() (ok bool) {
			last, ok = g.last(key, event)
			return ok && (event != "" || last.Counts.Unread == unread)
		})
		if last.Counts.Unread != unread {
			t.Errorf("%s was told of %d unread messages, not %d", key, last.Counts.Unread, unread)
		}
	}
	setPusher("phone")
	setPusher("stale")
	g.set(func() { g.rejects = "stale" })
	told("phone", say(), 1)
	testwait.Until(t, "the rejected pusher is gone", func() bool {
		list, _ := alice.call(t, "GET", "/pushers", nil).body["pushers"].([]any)
		return len(list) == 1
	})
	second := say()
	told("phone", second, 2)
	alice.call(t, "POST", "/rooms/"+url.PathEscape(room)+"/receipt/m.read/"+url.PathEscape(second), object{})
	told("phone", "", 0)

	g.set(func() { g.away = true })
	third := say()
	restartRole(t, s, "push-server")
	g.set(func() { g.away = false })
	told("phone", third, 1)
	told("phone", say(), 2)

	alice.refused(t, 400, "M_INVALID_PARAM", "POST", "/pushers/set", object{"kind": "pigeon", "app_id": "test", "pushkey": "x", "app_display_name": "A",
		"device_display_name": "D", "lang": "en", "data": object{}})
	alice.call(t, "POST", "/pushers/set", object{"kind": nil, "app_id": "test", "pushkey": "phone"})
	if list, _ := alice.call(t, "GET", "/pushers", nil).body["pushers"].([]any); len(list) != 0 {
		t.Errorf("after the removal: %v", list)
	}
	notifications(t, s, alice, bob)
}

// notifications: who has no pusher either finds what has notified it, with what the
// rules said then, also of another instance and after a restart.
func notifications(t *testing.T, s site, alice, bob *user) {
	room := bob.createRoom(t, object{"preset": "public_chat"})
	in := "/rooms/" + url.PathEscape(room)
	alice.join(t, room)
	loud := bob.send(t, room, "n1", "loud")
	mute := "/pushrules/global/override/" + url.PathEscape(room)
	alice.call(t, "PUT", mute, object{"conditions": []object{{"kind": "event_match", "key": "room_id", "pattern": room}}, "actions": []string{}})
	bob.send(t, room, "n2", "muted")
	alice.call(t, "DELETE", mute, nil)
	named := bob.call(t, "PUT", in+"/send/m.room.message/n3", object{"msgtype": "m.text", "body": "you", "m.mentions": object{"user_ids": []string{alice.id}}}).str("event_id")
	expect := func(what, query string, want ...string) (next string) {
		t.Helper()
		for range 2 { // of any instance
			a := alice.call(t, "GET", "/notifications?"+query, nil)
			var got []string
			for _, n := range list(a.body["notifications"]) {
				if dig(n, "room_id") == room {
					got = append(got, fmt.Sprint(dig(n, "event", "event_id"), " ", len(list(dig(n, "actions"))), " ", dig(n, "read")))
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: %v, not %v", what, got, want)
			}
			next = a.str("next_token")
		}
		return next
	}
	expect("unread", "limit=50", named+" 3 false", loud+" 2 false")
	expect("highlights", "only=highlight&limit=50", named+" 3 false")
	alice.call(t, "POST", in+"/receipt/m.read/"+url.PathEscape(loud), object{"thread_id": "main"})
	restartRole(t, s, "sync-api")
	next := expect("a page", "limit=1", named+" 3 false")
	expect("the next page", "limit=1&from="+url.QueryEscape(next), loud+" 2 true")
	bob.call(t, "PUT", in+"/redact/"+url.PathEscape(named)+"/n4", object{})
	expect("redacted", "limit=50", loud+" 2 true")
	alice.refused(t, 400, "M_INVALID_PARAM", "GET", "/notifications?only=quiet", nil)
}

// restartRole kills all instances of a role, or the one server, and starts them again.
func restartRole(t *testing.T, s site, role string) {
	t.Helper()
	switch s := s.(type) {
	case *server:
		s.kill(syscall.SIGKILL)
		s.start()
	case *cluster:
		for _, p := range s.reachable(role) {
			p.end(syscall.SIGKILL)
		}
		for _, p := range s.reachable(role) {
			s.restart(p)
		}
	default:
		t.Fatal("no such site")
	}
}
