package e2e

import (
	"fmt"
	"net/http/httptrace"
	"net/url"
	"strings"
	"syscall"
	"testing"
)

// TestBadInput sends what no client should, and expects the spec's errcode each
// time, and that what was there before is there afterwards.
func TestBadInput(t *testing.T) {
	everywhere(t, false, badInput)
}

func badInput(t *testing.T, s site) {
	alice, eve := register(t, s, "alice"), register(t, s, "eve")
	room := alice.createRoom(t, object{"preset": "private_chat", "name": "a room"})
	first := alice.send(t, room, "t0", "hello")
	r := "/rooms/" + url.PathEscape(room)
	deep := strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000)
	tests := []struct {
		name, method, path string
		body               any
		status             int
		errcode            string
	}{
		{"not JSON", "PUT", r + "/send/m.room.message/a1", `{"body":`, 400, "M_NOT_JSON"},
		{"not UTF-8", "PUT", r + "/send/m.room.message/a2", []byte("{\"body\":\"\xff\xfe\"}"), 400, "M_NOT_JSON"},
		{"two values", "PUT", r + "/send/m.room.message/a3", `{}{}`, 400, "M_NOT_JSON"},
		{"an array", "PUT", r + "/send/m.room.message/a4", `[]`, 400, "M_BAD_JSON"},
		{"a float", "PUT", r + "/send/m.room.message/a5", `{"n":1.5}`, 400, "M_BAD_JSON"},
		{"a huge integer", "PUT", r + "/send/m.room.message/a6", `{"n":9007199254740993}`, 400, "M_BAD_JSON"},
		{"too deep", "PUT", r + "/send/m.room.message/a7", deep, 400, "M_BAD_JSON"},
		{"too large for an event", "PUT", r + "/send/m.room.message/a8", object{"body": strings.Repeat("x", 70000)}, 413, "M_TOO_LARGE"},
		{"too large a body", "PUT", r + "/send/m.room.message/a9", object{"body": strings.Repeat("x", 5<<20)}, 413, "M_TOO_LARGE"},
		{"a long type", "PUT", r + "/send/" + strings.Repeat("t", 256) + "/a10", `{}`, 413, "M_TOO_LARGE"},
		{"an unknown room", "PUT", "/rooms/!nowhere:localhost/send/m.room.message/a11", `{}`, 403, "M_FORBIDDEN"},
		{"a strange room ID", "PUT", "/rooms/nonsense/send/m.room.message/a12", `{}`, 400, "M_INVALID_PARAM"},
		{"a second create event", "PUT", r + "/state/m.room.create", `{"room_version":"12"}`, 403, "M_FORBIDDEN"},
		{"someone else's member event", "PUT", r + "/state/m.room.member/" + url.PathEscape(eve.id), `{"membership":"join"}`, 403, "M_FORBIDDEN"},
		{"power levels of strings", "PUT", r + "/state/m.room.power_levels", `{"users":{"@a:b":"100"}}`, 403, "M_FORBIDDEN"},
		{"redacting nothing", "PUT", r + "/redact/$nothing/a13", `{"reason":1}`, 400, "M_BAD_JSON"},
		{"membership of wrong type", "POST", r + "/invite", `{"user_id":7}`, 400, "M_BAD_JSON"},
		{"no user to invite", "POST", r + "/invite", `{}`, 400, "M_MISSING_PARAM"},
		{"createRoom of wrong types", "POST", "/createRoom", `{"invite":"@a:b"}`, 400, "M_BAD_JSON"},
		{"an unknown room version", "POST", "/createRoom", `{"room_version":"99"}`, 400, "M_UNSUPPORTED_ROOM_VERSION"},
		{"a forged since", "GET", "/sync?since=s9_forged", nil, 400, "M_INVALID_PARAM"},
		{"a since of garbage", "GET", "/sync?since=%00%ff%fe", nil, 400, "M_INVALID_PARAM"},
		{"a timeout that is none", "GET", "/sync?timeout=soon", nil, 400, "M_INVALID_PARAM"},
		{"a filter that is none", "GET", "/sync?filter=%7B%22room%22%3A7%7D", nil, 400, "M_BAD_JSON"},
		{"messages from nowhere", "GET", r + "/messages?dir=b&from=nowhere", nil, 400, "M_INVALID_PARAM"},
		{"messages of no direction", "GET", r + "/messages?dir=x", nil, 400, "M_INVALID_PARAM"},
		{"an unknown event", "GET", r + "/event/$unknown", nil, 404, "M_NOT_FOUND"},
		{"an unknown alias", "GET", "/directory/room/" + url.PathEscape("#none:localhost"), nil, 404, "M_NOT_FOUND"},
		{"an unknown endpoint", "GET", "/nothing/here", nil, 404, "M_UNRECOGNIZED"},
		{"a wrong method", "DELETE", "/createRoom", nil, 405, "M_UNRECOGNIZED"},
		{"a user name of nonsense", "POST", "/register", object{"username": "Ünicode!", "password": "x", "auth": object{"type": "m.login.dummy"}}, 400, "M_INVALID_USERNAME"},
		{"a name that is taken", "POST", "/register", object{"username": "alice", "password": "x", "auth": object{"type": "m.login.dummy"}}, 400, "M_USER_IN_USE"},
		{"a wrong password", "POST", "/login", object{"type": "m.login.password", "password": "no", "identifier": object{"type": "m.id.user", "user": "alice"}}, 403, "M_FORBIDDEN"},
		{"an unknown login", "POST", "/login", object{"type": "m.login.magic"}, 400, "M_UNKNOWN"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			alice.refused(t, test.status, test.errcode, test.method, test.path, test.body)
		})
	}

	t.Run("tokens", func(t *testing.T) {
		nobody := anonymous(s)
		nobody.refused(t, 401, "M_MISSING_TOKEN", "GET", "/account/whoami", nil)
		for _, token := range []string{"garbage", strings.Repeat("x", 5000), alice.token + "x"} {
			nobody.token = token
			nobody.refused(t, 401, "M_UNKNOWN_TOKEN", "GET", "/sync", nil)
		}
	})
	t.Run("what is not set up", func(t *testing.T) {
		for _, path := range []string{"/.well-known/matrix/client", "/.well-known/matrix/support", "/.well-known/matrix/policy_server", "/voip/turnServer"} {
			alice.refused(t, 404, "M_NOT_FOUND", "GET", path, nil)
		}
		alice.refused(t, 403, "M_FORBIDDEN", "GET", clientV1+"/register/m.login.registration_token/validity?token=x", nil)
	})
	t.Run("strangers", func(t *testing.T) {
		eve.refused(t, 403, "M_FORBIDDEN", "PUT", r+"/send/m.room.message/e1", object{"body": "hi"})
		eve.refused(t, 403, "M_FORBIDDEN", "GET", r+"/messages?dir=b", nil)
		eve.refused(t, 403, "M_FORBIDDEN", "GET", r+"/state", nil)
		eve.refused(t, 404, "M_NOT_FOUND", "GET", r+"/event/"+first, nil)
		eve.refused(t, 403, "M_FORBIDDEN", "POST", "/join/"+url.PathEscape(room), object{})
	})
	t.Run("nothing is lost", func(t *testing.T) {
		alice.send(t, room, "t1", "still here")
		chunk := list(alice.call(t, "GET", r+"/messages?dir=b&limit=2", nil).body["chunk"])
		if len(chunk) != 2 || dig(chunk[0], "content", "body") != "still here" || dig(chunk[1], "event_id") != first {
			t.Fatalf("the room's end is %v", chunk)
		}
	})
}

// TestSignals: SIGTERM ends the process by itself, and a data folder in use is
// refused to a second one.
func TestSignals(t *testing.T) {
	s := startServer(t)
	u := register(t, s, "alice")
	room := u.createRoom(t, object{})
	id := u.send(t, room, "a", "before")

	second := newServer(t)
	second.data = s.data
	if err := second.tryStart(); err == nil {
		t.Error("a second server started on a data folder in use")
	} else if !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second start says: %v", err)
	}

	// A long poll is answered early, with a token that goes on where it was.
	since := u.syncOnce(t, "", "0").str("next_batch")
	polled := make(chan *answer, 1)
	asked := make(chan struct{})
	go func() {
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { close(asked) }})
		a, err := u.tryIn(ctx, "GET", "/sync?timeout=50000&since="+url.QueryEscape(since), nil)
		if err != nil {
			t.Error(err)
		}
		polled <- a
	}()
	<-asked
	u.syncOnce(t, since, "100") // which came to the server after it
	s.kill(syscall.SIGTERM)
	a := <-polled
	if a == nil || a.status != 200 {
		t.Fatalf("a long poll during the stop was answered %v", a)
	}
	s.start()
	later := u.send(t, room, "b", "after")
	got := u.syncOnce(t, a.str("next_batch"), "10000")
	events := list(dig(got.body, "rooms", "join", room, "timeline", "events"))
	if len(events) != 1 || dig(events[0], "event_id") != later {
		t.Fatalf("after the restart, sync gives %v", events)
	}
	if again := u.send(t, room, "a", "before"); again != id {
		t.Fatalf("a retry across the restart made %s, was %s", again, id)
	}
	if again := u.send(t, room, fmt.Sprint("a"), "something else"); again != id {
		t.Fatalf("the same transaction made %s, was %s", again, id)
	}
}
