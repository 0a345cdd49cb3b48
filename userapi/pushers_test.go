package userapi

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/userapi/api"
)

const bob = "@bob:test"

func (w *world) putPusher(s *Server, user, device, app, key string, more bool) (*api.WriteResponse, error) {
	return s.putPusher(w.t.Context(), &api.PutPusherRequest{UserID: user, Append: more, Pusher: api.Pusher{
		DeviceID: device, Kind: "http", AppID: app, Pushkey: key, AppName: "A", DeviceName: "D", Lang: "en", Data: jsontext.Value(`{"url":"u"}`),
	}})
}

// pushkeys lists a user's pushers as they are stored.
func (w *world) pushkeys(s *Server, user string) string {
	w.t.Helper()
	res, err := s.queryPushers(w.t.Context(), &api.PushersRequest{UserID: user})
	w.check(err)
	var keys []string
	for _, p := range res.Pushers {
		keys = append(keys, p.AppID+"/"+p.Pushkey)
	}
	return strings.Join(keys, " ")
}

// TestPushers: pushers are rows that end with the session that made them, and
// whose last change is what user.output tells.
func TestPushers(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		s := w.server()
		stop := w.run(s)
		w.signUp(s, alice)
		w.signUp(s, bob)
		if _, err := logIn(w, s, alice, "p", "E"); err != nil {
			t.Fatal(err)
		}
		put := func(user, device, app, key string, more bool) {
			t.Helper()
			_, err := w.putPusher(s, user, device, app, key, more)
			w.check(err)
		}
		expect := func(what, a, b string) {
			t.Helper()
			if gotA, gotB := w.pushkeys(s, alice), w.pushkeys(s, bob); gotA != a || gotB != b {
				t.Errorf("%s: %q and %q, not %q and %q", what, gotA, gotB, a, b)
			}
		}
		put(alice, "D", "app", "1", false)
		put(alice, "E", "app", "2", false)
		put(bob, "D", "app", "1", true)
		expect("appended", "app/1 app/2", "app/1")
		put(bob, "D", "app", "2", false)
		expect("not appended", "app/1", "app/1 app/2")
		put(bob, "D", "app", "1", false)
		expect("changed, not appended", "", "app/1 app/2")
		before, err := s.queryPushers(t.Context(), &api.PushersRequest{UserID: bob})
		w.check(err)
		put(bob, "D", "app", "1", false)
		after, err := s.queryPushers(t.Context(), &api.PushersRequest{UserID: bob})
		w.check(err)
		if before.Pushers[0].ID != after.Pushers[0].ID || before.Pushers[0].ID == before.Pushers[1].ID {
			t.Errorf("IDs of pushers: %+v, then %+v", before, after)
		}
		put(alice, "E", "app", "3", false)
		_, err = s.deleteDevices(t.Context(), &api.DeleteDevicesRequest{UserID: alice, DeviceIDs: []string{"E"}})
		w.check(err)
		expect("logged out", "", "app/1 app/2")
		if _, err := logIn(w, s, bob, "p", "D"); err != nil {
			t.Fatal(err)
		}
		expect("logged in anew", "", "")
		put(alice, "D", "app", "4", false)
		put(alice, "D", "app", "5", false)
		_, err = s.setPassword(t.Context(), &api.SetPasswordRequest{UserID: alice, Password: "p", LogoutOthers: true, KeepDevice: "D"})
		w.check(err)
		expect("password changed by their session", "app/4 app/5", "")
		_, err = s.dropPusher(t.Context(), &api.DropPusherRequest{UserID: alice, AppID: "app", Pushkey: "4", ID: "of another"})
		w.check(err)
		expect("another one's ID", "app/4 app/5", "")
		last, err := s.dropPusher(t.Context(), &api.DropPusherRequest{UserID: alice, AppID: "app", Pushkey: "4"})
		w.check(err)
		expect("removed", "app/5", "")
		if _, err := w.putPusher(s, alice, "gone", "app", "6", false); !matrixerror.Is(err, "M_UNKNOWN_TOKEN") {
			t.Errorf("a pusher of no session: %v", err)
		}
		told := w.publishedUpTo(last.Seq)
		var list []api.Pusher
		if c := told[len(told)-1]; c.Kind != api.ChangePushers || json.Unmarshal(c.Content, &list) != nil || len(list) != 1 || list[0].Pushkey != "5" {
			t.Errorf("told: %+v", c)
		}
		page, err := s.queryPushed(t.Context(), &api.PushedRequest{Limit: 10})
		w.check(err)
		if len(page.Users) != 1 || page.Users[0].UserID != alice || len(page.Users[0].Pushers) != 1 || len(page.Users[0].Data[api.TypePushRules]) == 0 {
			t.Errorf("%+v", page)
		}
		stop()
	})
}

// TestPushersTakeTurns: when several users set the same key at once, one has it.
func TestPushersTakeTurns(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		s := w.server()
		users := []string{alice, bob, "@carol:test", "@dave:test"}
		for _, user := range users {
			w.signUp(s, user)
		}
		for i := range 5 {
			var wg sync.WaitGroup
			for _, user := range users {
				wg.Go(func() {
					_, err := w.putPusher(s, user, "D", "app", fmt.Sprint(i), false)
					w.check(err)
				})
			}
			wg.Wait()
			var owners []string
			for _, user := range users {
				if slices.Contains(strings.Fields(w.pushkeys(s, user)), fmt.Sprint("app/", i)) {
					owners = append(owners, user)
				}
			}
			if len(owners) != 1 {
				t.Errorf("key %d is of %v", i, owners)
			}
		}
	})
}
