package userapi

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/eventlog/eventlogtest"
	"github.com/matrix-org/dendrite/common/testwait"
	"github.com/matrix-org/dendrite/userapi/api"
)

// together runs instances that share the partitions between them.
func (w *world) together(n int) (all []*Server, stops []func()) {
	w.t.Helper()
	w.deps.Log, w.deps.LeaseTTL = eventlogtest.Shared{Log: w.log}, 400*time.Millisecond
	for range n {
		s := w.server()
		all, stops = append(all, s), append(stops, w.run(s))
	}
	testwait.Until(w.t, "the partitions are not shared", func() bool {
		return !slices.ContainsFunc(all, func(s *Server) bool { return len(s.leases.Held()) != api.UserOutputPartitions/n })
	})
	return all, stops
}

// TestSessionsEndEverywhere: once it was acknowledged that a session has ended,
// no instance takes its token, which all of them knew; other tokens stay good.
func TestSessionsEndEverywhere(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		all, _ := w.together(2)
		verify := func(i int, token string) string {
			_, err := all[i].verifyToken(t.Context(), &api.VerifyTokenRequest{Token: token})
			return code(err)
		}
		kept := w.signUp(all[0], alice)
		for i, end := range []struct {
			name string
			do   func(s *Server, session *api.Session) error
		}{
			{"logout", func(s *Server, session *api.Session) error {
				_, err := s.deleteDevices(t.Context(), &api.DeleteDevicesRequest{UserID: alice, DeviceIDs: []string{session.DeviceID}})
				return err
			}},
			{"password", func(s *Server, session *api.Session) error {
				_, err := s.setPassword(t.Context(), &api.SetPasswordRequest{UserID: alice, Password: "p", LogoutOthers: true, KeepDevice: "D"})
				return err
			}},
			{"login again", func(s *Server, session *api.Session) error {
				_, err := logIn(w, s, alice, "p", session.DeviceID)
				return err
			}},
		} {
			for j := range all {
				session, err := logIn(w, all[j], alice, "p", fmt.Sprintf("E%d%d", i, j))
				w.check(err)
				for k := range all {
					if got := verify(k, session.AccessToken) + verify(k, kept.AccessToken); got != "" {
						t.Fatalf("%s: a good token: %s", end.name, got)
					}
				}
				w.check(end.do(all[1-j], session))
				for k := range all {
					if got := verify(k, session.AccessToken); got != "M_UNKNOWN_TOKEN" {
						t.Errorf("%s at %d: instance %d takes the token: %s", end.name, 1-j, k, got)
					}
				}
			}
		}
		_, err := all[0].deactivate(t.Context(), &api.DeactivateRequest{UserID: alice})
		w.check(err)
		for k := range all {
			if got := verify(k, kept.AccessToken); got != "M_UNKNOWN_TOKEN" {
				t.Errorf("deactivated: instance %d takes the token: %s", k, got)
			}
		}
	})
}

// TestTokensAreNotTrustedBlindly: an instance that cannot look whose sessions
// have ended looks each token up.
func TestTokensAreNotTrustedBlindly(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		w.deps.Log = eventlogtest.Shared{Log: w.log}
		a, b := w.server(), w.server() // neither runs
		session := w.signUp(a, alice)
		for _, s := range []*Server{a, b} {
			if _, err := s.verifyToken(t.Context(), &api.VerifyTokenRequest{Token: session.AccessToken}); err != nil {
				t.Fatal(err)
			}
		}
		_, err := a.deleteDevices(t.Context(), &api.DeleteDevicesRequest{UserID: alice, All: true})
		w.check(err)
		if _, err := b.verifyToken(t.Context(), &api.VerifyTokenRequest{Token: session.AccessToken}); code(err) != "M_UNKNOWN_TOKEN" {
			t.Errorf("the token is taken: %v", err)
		}
	})
}

// TestTypingElsewhere: what is said of typing at any instance takes effect in
// its order, and who types still ends when the instance that knew it is gone.
func TestTypingElsewhere(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		all, stops := w.together(2)
		last := func() string {
			told := records[api.Ephemeral](w, api.TopicEphemeral, 0)
			for _, e := range slices.Backward(told) {
				if e.Typing != nil {
					return strings.Join(e.Typing.UserIDs, " ")
				}
			}
			return ""
		}
		say := func(i int, user string, typing bool) {
			_, err := all[i].setTyping(t.Context(), &api.SetTypingRequest{UserID: user, RoomID: "!r", Typing: typing, TimeoutMS: 60_000})
			w.check(err)
		}
		say(0, "@a", true)
		say(1, "@b", true)
		testwait.Until(w.t, "both type", func() bool { return last() == "@a @b" })
		for i := range 20 {
			say(i%2, "@a", i%2 == 0)
		}
		testwait.Until(w.t, "one has stopped", func() bool { return last() == "@b" })
		owner := 0
		if all[1].ours("!r") {
			owner = 1
		}
		testwait.Until(w.t, "the other has heard", func() bool {
			s := all[1-owner]
			s.typing.mu.Lock()
			defer s.typing.mu.Unlock()
			return s.typing.heard["!r"] != nil && len(s.typing.heard["!r"].UserIDs) == 1
		})
		stops[owner]()
		testwait.Until(w.t, "the other has taken over", func() bool {
			s := all[1-owner]
			s.typing.mu.Lock()
			defer s.typing.mu.Unlock()
			return s.typing.rooms["!r"] != nil
		})
		w.advance(61 * time.Second)
		testwait.Until(w.t, "what ran out has ended", func() bool { return last() == "" })
	})
}

// TestTypingHeardLate: what the former keeper of a room told last may be heard only
// after the room was taken over; what an instance told itself is no news.
func TestTypingHeardLate(t *testing.T) {
	typing := newTyping()
	who := func() string { return strings.Join(slices.Sorted(maps.Keys(typing.rooms["!r"])), " ") }
	tell := func(users ...string) *api.Typing {
		return &api.Typing{RoomID: "!r", UserIDs: users, Until: make([]int64, len(users))}
	}
	typing.takeOver(func(string) bool { return true })
	for _, step := range []struct {
		told   *api.Typing
		offset int64
		own    int64 // the offset of what was told last by this instance, since the last step; 0 for nothing
		ours   bool
		want   string
	}{
		{tell("@a"), 3, 0, false, ""},
		{tell("@a", "@b"), 4, 0, true, "@a @b"},
		{tell("@c"), 5, 6, true, "@a @b"}, // older than our own word
		{tell("@a", "@b"), 6, 0, true, "@a @b"},
		{tell("@b"), 7, 0, true, "@b"},
		{tell(), 8, 0, true, ""},
	} {
		if step.own > 0 {
			typing.told["!r"] = step.own
		}
		if typing.hear(step.told, step.offset, step.ours); who() != step.want {
			t.Errorf("at %d: %q type, want %q", step.offset, who(), step.want)
		}
	}
	if len(typing.told)+len(typing.rooms)+len(typing.heard) != 0 {
		t.Errorf("what is over is kept: %+v", typing)
	}
}

// TestLeaseInDoubt: who types and who is here is not forgotten while a lease is not
// renewed, nor is it told; it is forgotten when the lease is lost.
func TestLeaseInDoubt(t *testing.T) {
	kept, surely := true, false
	keeps := func(string) (bool, bool) { return kept, surely }
	now := time.Unix(1_000_000, 0)
	typing, here := newTyping(), newPresences()
	typing.set("!r", "@a", now)
	here.update("@a", api.Presence{Presence: offline}, now, func(l *live) { l.choose(online, "", now, 0) })
	now = now.Add(time.Hour)
	if due, idle := typing.due(now, keeps), here.idle(now, keeps); len(due)+len(idle) != 0 {
		t.Errorf("in doubt %v and %v are told", due, idle)
	}
	surely = true
	if due, idle := typing.due(now, keeps), here.idle(now, keeps); len(due) != 1 || len(idle) != 1 {
		t.Errorf("of one room and one user, %v and %v are told", due, idle)
	}
	kept, surely = false, false
	typing.due(now, keeps)
	here.idle(now, keeps)
	if len(typing.rooms)+len(here.users) != 0 {
		t.Errorf("what another instance keeps is here still: %v, %v", typing.rooms, here.users)
	}
}

// TestPresenceAtOnce: whoever asks any instance gets the presence that was set
// at any other, as soon as that was acknowledged.
func TestPresenceAtOnce(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		all, _ := w.together(2)
		w.signUp(all[0], alice)
		for i := range 10 {
			status := fmt.Sprint("status ", i)
			_, err := all[i%2].setPresence(t.Context(), &api.SetPresenceRequest{UserID: alice, Presence: unavailable, StatusMsg: status})
			w.check(err)
			for _, s := range all {
				res, err := s.queryPresence(t.Context(), &api.PresenceRequest{UserIDs: []string{alice}})
				if err != nil || len(res.Presence) != 1 || res.Presence[0].StatusMsg != status || res.Presence[0].Presence != unavailable {
					t.Fatalf("%d: %+v, %v", i, res, err)
				}
			}
		}
	})
}

// TestPublishedWhenTold: who has the partition publishes a change as soon as it
// is told, wherever it was made, without looking by itself.
func TestPublishedWhenTold(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		w.deps.Log, w.deps.LeaseTTL = eventlogtest.Shared{Log: w.log}, 400*time.Millisecond
		all := []*Server{w.server(), w.server()}
		for _, s := range all {
			s.pollEvery = time.Hour
			w.run(s)
		}
		testwait.Until(w.t, "the partitions are not shared", func() bool { return len(all[0].leases.Held()) == 2 && len(all[1].leases.Held()) == 2 })
		p := eventlog.PartitionFor(alice, api.UserOutputPartitions)
		for i := range 10 {
			res := w.putData(all[i%2], alice, "t", fmt.Sprintf(`{"n":%d}`, i))
			testwait.Until(w.t, "not published", func() bool { return int64(len(records[api.UserChange](w, api.TopicUserOutput, p))) >= res.Seq })
		}
	})
}

// TestTokensAreKnownFor: what is said of a token counts elsewhere no longer than
// here, where there are instances that may end its session, and no longer than it.
func TestTokensAreKnownFor(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		alone := w.server()
		session := w.signUp(alone, alice)
		verify := func(s *Server) int64 {
			res, err := s.verifyToken(t.Context(), &api.VerifyTokenRequest{Token: session.AccessToken})
			w.check(err)
			return res.KnownFor
		}
		for range 2 { // read, then known
			if got := verify(alone); got != 0 {
				t.Errorf("alone: %d ms", got)
			}
		}
		all, _ := w.together(2)
		for range 2 {
			for _, s := range all {
				testwait.Until(t, "it is not certain for any time", func() bool { return verify(s) > 0 })
				if got := verify(s); got > knownFor.Milliseconds() {
					t.Errorf("together: %d ms", got)
				}
			}
		}
		now := time.Now()
		token := &cachedToken{until: now.Add(time.Minute), expiresTS: now.UnixMilli() + 20}
		if got := token.lasts(now); got > 20 {
			t.Errorf("a token that ends in 20 ms: %d ms", got)
		}
		if got := token.lasts(now.Add(time.Second)); got != 0 {
			t.Errorf("a token that has ended: %d ms", got)
		}
	})
}

// TestWrongPasswordsEverywhere: instances count together.
func TestWrongPasswordsEverywhere(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		w.deps.WrongPasswords = config.Rate{PerSecond: 0.01, Burst: 4}
		all, _ := w.together(2)
		w.signUp(all[0], alice)
		for i, want := range []string{"M_FORBIDDEN", "M_FORBIDDEN", "M_FORBIDDEN", "M_FORBIDDEN", "M_LIMIT_EXCEEDED", "M_LIMIT_EXCEEDED"} {
			if _, err := logIn(w, all[i%2], alice, "wrong", ""); code(err) != want {
				t.Errorf("attempt %d: %v", i, err)
			}
		}
	})
}

// TestChangesAtOnce: changes of one document at several instances at the same
// time all have their effect, and tokens for one registration make one.
func TestChangesAtOnce(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		all, _ := w.together(2)
		w.signUp(all[0], alice)
		w.check(all[0].db.PutRegistrationToken(t.Context(), "once", 1, 0))
		var mu sync.Mutex
		registered := 0
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				s := all[i%2]
				_, err := s.putTag(t.Context(), &api.PutTagRequest{UserID: alice, RoomID: "!r", Tag: fmt.Sprint("u.", i), Content: jsontext.Value(`{}`)})
				w.check(err)
				_, err = s.register(t.Context(), &api.RegisterRequest{UserID: fmt.Sprintf("@u%d:test", i), RegistrationToken: "once"})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					registered++
				} else if code(err) != "M_FORBIDDEN" {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if registered != 1 {
			t.Errorf("%d were registered", registered)
		}
		res, err := all[1].queryAccountData(t.Context(), &api.AccountDataRequest{UserID: alice, RoomIDs: []string{"!r"}})
		w.check(err)
		if n := strings.Count(string(res.Data["!r"][typeTag]), `"u.`); n != 20 {
			t.Errorf("%d tags are left of 20", n)
		}
	})
}
