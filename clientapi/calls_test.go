package clientapi

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
)

func TestCalls(t *testing.T) {
	w := newFullWorld(t, Deps{
		Global: config.Global{WellKnownClientBaseURL: "https://m.example.org"},
		Config: config.ClientAPI{Calls: config.Calls{TURNURIs: []string{"turn:t.example.org"}, TURNSecret: "shared", TURNLifetime: time.Hour,
			LiveKitServiceURLs: []string{"https://l.example.org/jwt"}}},
	})
	w.register(false, "alice")
	w.expect("401 M_MISSING_TOKEN", "", "GET", "/voip/turnServer", "")
	a := w.must("alice", "GET", "/voip/turnServer", "")
	name := a.body["username"].(string)
	until, user, _ := strings.Cut(name, ":")
	mac := hmac.New(sha1.New, []byte("shared"))
	mac.Write([]byte(name))
	if user != "@alice:test" || len(until) != 10 || a.body["password"] != base64.StdEncoding.EncodeToString(mac.Sum(nil)) ||
		a.body["ttl"] != 3600.0 || fmt.Sprint(a.body["uris"]) != "[turn:t.example.org]" {
		t.Error(a.raw)
	}
	const transports = `[{"type":"livekit","livekit_service_url":"https://l.example.org/jwt"}]`
	w.expect("401 M_MISSING_TOKEN", "", "GET", unstable+"/org.matrix.msc4143/rtc/transports", "")
	if a := w.must("alice", "GET", unstable+"/org.matrix.msc4143/rtc/transports", ""); a.raw != `{"rtc_transports":`+transports+`}` {
		t.Error(a.raw)
	}
	if a := w.must("", "GET", "/_matrix/client/versions", ""); !strings.Contains(a.raw, `"org.matrix.msc4143":true`) {
		t.Error(a.raw)
	}
	value, err := w.server.getWellKnownClient(nil)
	if err != nil || fmt.Sprint(value) != "{{https://m.example.org} [{livekit https://l.example.org/jwt}]}" {
		t.Error(value, err)
	}
}

func TestNoCalls(t *testing.T) {
	w := newFullWorld(t, Deps{})
	w.register(false, "alice")
	w.expect("404 M_NOT_FOUND", "alice", "GET", "/voip/turnServer", "")
	if a := w.must("alice", "GET", unstable+"/org.matrix.msc4143/rtc/transports", ""); a.raw != `{"rtc_transports":[]}` {
		t.Error(a.raw)
	}
	fixed := turnCredentials(config.Calls{TURNUsername: "u", TURNPassword: "p", TURNLifetime: time.Minute}, "@a:test", time.Now())
	if fixed.Username != "u" || fixed.Password != "p" || fixed.TTL != 60 {
		t.Errorf("%+v", fixed)
	}
}

func TestMutualRooms(t *testing.T) { sqldbtest.Each(t, testMutualRooms) }

func testMutualRooms(t *testing.T) {
	w := newWorld(t)
	both, left := w.create("alice", `{"preset":"public_chat"}`), w.create("alice", `{"preset":"public_chat"}`)
	w.create("alice", `{"invite":["@bob:test"]}`)
	w.must("bob", "POST", "/rooms/"+both+"/join", `{}`)
	w.must("bob", "POST", "/rooms/"+left+"/join", `{}`)
	w.must("bob", "POST", "/rooms/"+left+"/leave", `{}`)
	const path = "/_matrix/client/v1/mutual_rooms"
	for _, ask := range [][2]string{{"alice", "@bob:test"}, {"bob", "@alice:test"}} {
		if a := w.must(ask[0], "GET", path+"?user_id="+ask[1], ""); a.raw != `{"joined":["`+both+`"],"count":1}` {
			t.Errorf("%v: %s", ask, a.raw)
		}
	}
	if a := w.must("alice", "GET", path+"?user_id=@nobody:test", ""); a.raw != `{"joined":[],"count":0}` {
		t.Error(a.raw)
	}
	after := base64.RawURLEncoding.EncodeToString([]byte(both))
	if a := w.must("alice", "GET", path+"?user_id=@bob:test&from="+after, ""); a.raw != `{"joined":[],"count":1}` {
		t.Error(a.raw)
	}
	w.expect("400 M_MISSING_PARAM", "alice", "GET", path, "")
	w.expect("400 M_INVALID_PARAM", "alice", "GET", path+"?user_id=bob", "")
	w.expect("400 M_INVALID_PARAM", "alice", "GET", path+"?user_id=@alice:test", "")
	w.expect("400 M_INVALID_PARAM", "alice", "GET", path+"?user_id=@bob:test&from=e30", "")
	w.expect("401 M_MISSING_TOKEN", "", "GET", path+"?user_id=@bob:test", "")
}

func TestProfileFields(t *testing.T) { sqldbtest.Each(t, testProfileFields) }

func testProfileFields(t *testing.T) {
	w := newFullWorld(t, Deps{})
	w.register(false, "alice", "bob")
	room := w.create("alice", `{"preset":"public_chat"}`)
	const at = "/profile/@alice:test/"
	w.must("alice", "PUT", at+"m.tz", `{"m.tz":"Europe/Berlin"}`)
	w.must("alice", "PUT", at+"org.example.pets_2", `{"org.example.pets_2":{"cats":[1,null]}}`)
	w.must("alice", "PUT", at+"org.example.nothing", `{"org.example.nothing":null}`)
	w.must("alice", "PUT", at+"displayname?org.matrix.msc4069.propagate=false", `{"displayname":"Quiet"}`)
	w.restart()
	a := w.must("", "GET", "/profile/@alice:test", "")
	if got := fmt.Sprint(a.body); got != "map[displayname:Quiet m.tz:Europe/Berlin org.example.nothing:<nil> org.example.pets_2:map[cats:[1 <nil>]]]" {
		t.Error(a.raw)
	}
	// The next change is told to rooms, and nothing of the quiet one was before.
	member := func() any {
		return w.must("alice", "GET", "/rooms/"+room+"/state/m.room.member/@alice:test", "").body["displayname"]
	}
	if member() != "alice" {
		t.Errorf("the quiet change is told: %v", member())
	}
	w.must("alice", "PUT", at+"avatar_url", `{"avatar_url":"mxc://test/a"}`)
	for member() != "Quiet" {
		if t.Context().Err() != nil {
			t.Fatal("the change is not told")
		}
	}
	w.must("alice", "DELETE", at+"m.tz", "")
	w.expect("404 M_NOT_FOUND", "bob", "GET", at+"m.tz", "")
	for _, tt := range [][3]string{
		{"400 M_INVALID_PARAM", "Upper.case", `{"Upper.case":1}`},
		{"400 M_INVALID_PARAM", "plain", `{"plain":1}`},
		{"400 M_INVALID_PARAM", "org.9x", `{"org.9x":1}`},
		{"400 M_KEY_TOO_LARGE", "a." + strings.Repeat("x", 255), `{}`},
		{"400 M_BAD_JSON", "m.tz", `{"m.tz":1}`},
		{"400 M_MISSING_PARAM", "m.tz", `{}`},
		{"400 M_PROFILE_TOO_LARGE", "org.example.big", `{"org.example.big":"` + strings.Repeat("x", 66000) + `"}`},
		{"400 M_INVALID_PARAM", "displayname?org.matrix.msc4069.propagate=maybe", `{"displayname":"x"}`},
	} {
		w.expect(tt[0], "alice", "PUT", at+tt[1], tt[2])
	}
	w.expect("403 M_FORBIDDEN", "bob", "PUT", at+"m.tz", `{"m.tz":"UTC"}`)
}
