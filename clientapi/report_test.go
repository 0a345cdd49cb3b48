package clientapi

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/common/testwait"
	userapi "github.com/matrix-org/dendrite/userapi/api"
	"github.com/matrix-org/dendrite/userapi/storage"
)

// reports are what administrators are shown.
func (w *fullWorld) reports(all bool) []userapi.Report {
	w.t.Helper()
	list, err := w.store().Reports(w.t.Context(), all, 100)
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

// store is the user-api's database, as dendrite-admin opens it.
func (w *fullWorld) store() *storage.Database {
	w.t.Helper()
	store, err := storage.New(w.t.Context(), w.userDB, userapi.UserOutputPartitions)
	if err != nil {
		w.t.Fatal(err)
	}
	return store
}

func TestReports(t *testing.T) { sqldbtest.Each(t, testReports) }

func testReports(t *testing.T) {
	w := newFullWorld(t, Deps{})
	w.register(false, "alice", "bob", "carol")
	room := w.create("alice", `{"preset":"private_chat","invite":["@bob:test"]}`)
	event := w.must("alice", "PUT", "/rooms/"+room+"/send/m.room.message/1", `{"body":"bad"}`).body["event_id"].(string)
	w.must("bob", "POST", "/rooms/"+room+"/join", `{}`)
	hidden := w.create("alice", `{"preset":"private_chat"}`)
	secret := w.must("alice", "PUT", "/rooms/"+hidden+"/send/m.room.message/1", `{"body":"bad"}`).body["event_id"].(string)
	report := func(want, user, path, body string) {
		t.Helper()
		w.expect(want, user, "POST", path, body)
		now := time.Now().UnixMilli() // by which reports are ordered
		testwait.Until(t, "the next millisecond", func() bool { return time.Now().UnixMilli() > now })
	}
	at := "/rooms/" + room + "/report"

	report("200", "bob", at+"/"+event, `{"reason":"it is bad","score":-100}`)
	report("200", "bob", at+"/"+event, `{}`)
	report("404 M_NOT_FOUND", "bob", at+"/$nothing", `{"reason":"x"}`)
	report("404 M_NOT_FOUND", "bob", at+"/"+secret, `{"reason":"x"}`)
	report("404 M_NOT_FOUND", "carol", at+"/"+event, `{"reason":"x"}`) // is not in the room
	report("404 M_NOT_FOUND", "carol", "/rooms/!no:test/report/"+event, `{"reason":"x"}`)
	report("400 M_BAD_JSON", "bob", at+"/"+event, `{"reason":5}`)
	report("413 M_TOO_LARGE", "bob", at+"/"+event, `{"reason":"`+strings.Repeat("x", maxReportReason+1)+`"}`)
	report("401 M_MISSING_TOKEN", "", at+"/"+event, `{}`)

	// Of rooms and users strangers are not told whether they are there.
	report("200", "carol", at, `{"reason":"a\u0000b"}`)
	report("200", "carol", "/rooms/!no:test/report", `{"reason":""}`)
	report("200", "carol", "/users/@bob:test/report", `{"reason":"spam"}`)
	report("200", "carol", "/users/@nobody:test/report", `{"reason":"spam"}`)
	report("400 M_MISSING_PARAM", "carol", at, `{}`)
	report("400 M_INVALID_PARAM", "carol", "/users/bob/report", `{"reason":""}`)
	report("400 M_NOT_JSON", "carol", at, ``)

	w.restart()
	list := w.reports(false)
	var got []string
	for _, r := range list {
		got = append(got, fmt.Sprint(r.Kind, r.Reporter, r.RoomID, r.EventID, r.UserID, r.Reason))
	}
	want := []string{
		fmt.Sprint("user", "@carol:test", "", "", "@bob:test", "spam"),
		fmt.Sprint("room", "@carol:test", room, "", "", "ab"),
		fmt.Sprint("event", "@bob:test", room, event, "@alice:test", ""),
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the reports are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if ok, err := w.store().ResolveReport(t.Context(), list[0].ID, "warned", 1); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if ok, err := w.store().ResolveReport(t.Context(), "nothing", "", 1); ok || err != nil {
		t.Error(ok, err)
	}
	if open, all := w.reports(false), w.reports(true); len(open) != 2 || len(all) != 3 || all[0].Note != "warned" {
		t.Errorf("with one resolved: %v, %v", open, all)
	}
	report("200", "carol", "/users/@bob:test/report", `{"reason":"again"}`)
	if open, all := w.reports(false), w.reports(true); len(open) != 3 || len(all) != 3 || open[0].Reason != "again" {
		t.Errorf("reported again: %v, %v", open, all)
	}
}

func TestLockAndSuspend(t *testing.T) { sqldbtest.Each(t, testLockAndSuspend) }

func testLockAndSuspend(t *testing.T) {
	w := newFullWorld(t, Deps{})
	w.register(true, "root", "deputy")
	w.register(false, "alice", "bob")
	room := w.create("alice", `{"preset":"public_chat"}`)
	own := w.must("alice", "PUT", "/rooms/"+room+"/send/m.room.message/1", `{"body":"mine"}`).body["event_id"].(string)
	w.must("bob", "POST", "/rooms/"+room+"/join", `{}`)
	const lock, suspend = "/_matrix/client/v1/admin/lock/", "/_matrix/client/v1/admin/suspend/"
	for _, path := range []string{lock, suspend} {
		body := map[string]string{lock: `{"locked":true}`, suspend: `{"suspended":true}`}[path]
		w.expect("403 M_FORBIDDEN", "bob", "PUT", path+"@alice:test", body)
		w.expect("403 M_FORBIDDEN", "bob", "GET", path+"@nobody:test", "")
		w.expect("403 M_FORBIDDEN", "root", "PUT", path+"@root:test", body)
		w.expect("403 M_FORBIDDEN", "root", "PUT", path+"@deputy:test", body)
		w.expect("403 M_FORBIDDEN", "root", "GET", path+"@deputy:test", "")
		w.expect("404 M_NOT_FOUND", "root", "PUT", path+"@nobody:test", body)
		w.expect("404 M_NOT_FOUND", "root", "GET", path+"@nobody:test", "")
		w.expect("400 M_INVALID_PARAM", "root", "PUT", path+"@alice:elsewhere", body)
		w.expect("400 M_INVALID_PARAM", "root", "GET", path+"alice", "")
		w.expect("400 M_MISSING_PARAM", "root", "PUT", path+"@alice:test", `{}`)
		w.expect("401 M_MISSING_TOKEN", "", "PUT", path+"@alice:test", body)
	}
	if a := w.expect("200", "root", "PUT", suspend+"@alice:test", `{"suspended":true}`); a.raw != `{"suspended":true}` {
		t.Error(a.raw)
	}
	w.restart()
	w.expect("403 M_USER_SUSPENDED", "alice", "PUT", "/rooms/"+room+"/send/m.room.message/2", `{"body":"more"}`)
	w.expect("403 M_USER_SUSPENDED", "alice", "PUT", "/profile/@alice:test/displayname", `{"displayname":"A"}`)
	w.expect("200", "alice", "PUT", "/rooms/"+room+"/redact/"+own+"/1", `{}`)
	w.expect("200", "alice", "GET", "/rooms/"+room+"/members", "")
	w.expect("200", "alice", "POST", "/users/@bob:test/report", `{"reason":""}`)
	w.expect("200", "", "POST", "/login", `{"type":"m.login.password","identifier":{"type":"m.id.user","user":"alice"},"password":"secret"}`)
	if a := w.must("root", "GET", suspend+"@alice:test", ""); a.raw != `{"suspended":true}` {
		t.Error(a.raw)
	}
	w.must("root", "PUT", suspend+"@alice:test", `{"suspended":false}`)
	w.expect("200", "alice", "PUT", "/rooms/"+room+"/send/m.room.message/2", `{"body":"more"}`)

	w.must("root", "PUT", lock+"@alice:test", `{"locked":true}`)
	for _, user := range []struct{ method, path, body string }{
		{"GET", "/rooms/" + room + "/members", ""}, {"PUT", "/rooms/" + room + "/send/m.room.message/3", "{}"}, {"GET", "/_matrix/client/v1/room_summary/" + room, ""},
	} {
		if a := w.expect("401 M_USER_LOCKED", "alice", user.method, user.path, user.body); a.body["soft_logout"] != true {
			t.Error(a.raw)
		}
	}
	in := `{"type":"m.login.password","identifier":{"type":"m.id.user","user":"alice"},"password":"`
	if a := w.expect("401 M_USER_LOCKED", "", "POST", "/login", in+`secret"}`); a.body["soft_logout"] != true {
		t.Error(a.raw)
	}
	w.expect("403 M_FORBIDDEN", "", "POST", "/login", in+`wrong"}`)
	if a := w.must("root", "GET", lock+"@alice:test", ""); a.raw != `{"locked":true}` {
		t.Error(a.raw)
	}
	w.must("root", "PUT", lock+"@alice:test", `{"locked":false}`)
	w.expect("200", "alice", "GET", "/rooms/"+room+"/members", "") // the session is what it was
	w.must("root", "PUT", lock+"@alice:test", `{"locked":true}`)
	w.expect("200", "alice", "POST", "/logout", "")
	w.expect("401 M_UNKNOWN_TOKEN", "alice", "GET", "/account/whoami", "")
}

func TestModerationIsTold(t *testing.T) { sqldbtest.Each(t, testModerationIsTold) }

func testModerationIsTold(t *testing.T) {
	w := newFullWorld(t, Deps{})
	w.register(true, "root")
	w.register(false, "alice", "bob")
	capable := func(user string) any {
		return w.must(user, "GET", "/capabilities", "").body["capabilities"].(map[string]any)["m.account_moderation"]
	}
	if got := capable("root"); fmt.Sprint(got) != "map[lock:true suspend:true]" {
		t.Errorf("root may %v", got)
	}
	if got := capable("alice"); got != nil {
		t.Errorf("alice may %v", got)
	}
	const whois = "/admin/whois/"
	for _, user := range []string{"alice", "root"} {
		a := w.must(user, "GET", whois+"@alice:test", "")
		device := a.body["devices"].(map[string]any)["D-alice"].(map[string]any)
		if !strings.Contains(fmt.Sprint(device), "ip:192.0.2.7") || a.body["user_id"] != "@alice:test" {
			t.Errorf("%s sees %s", user, a.raw)
		}
	}
	w.expect("403 M_FORBIDDEN", "bob", "GET", whois+"@alice:test", "")
	w.expect("404 M_NOT_FOUND", "root", "GET", whois+"@nobody:test", "")
	w.expect("400 M_INVALID_PARAM", "root", "GET", whois+"@alice:elsewhere", "")
}
