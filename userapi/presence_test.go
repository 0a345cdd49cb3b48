package userapi

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/eventlog/eventlogtest"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/common/testwait"
	"github.com/matrix-org/dendrite/userapi/api"
)

// hear has the server take in what was reported.
func (w *world) hear(s *Server, a api.Activity) {
	w.t.Helper()
	a.UserID, a.TS = alice, w.now().UnixMilli()
	reporter := api.NewReporter(w.log)
	w.check(reporter.Report(w.t.Context(), a))
	partition := eventlog.PartitionFor(alice, api.ActivityPartitions)
	start, end, err := w.log.Bounds(w.t.Context(), api.TopicUserActivity, partition)
	w.check(err)
	list, err := w.log.Read(w.t.Context(), api.TopicUserActivity, partition, max(start, end-1), 1<<20)
	w.check(err)
	w.check(s.applyActivity(w.t.Context(), list))
	w.check(s.settle(w.t.Context()))
}

// told lists the presence that others were told, each as a letter.
func (w *world) told() (out string) {
	for _, e := range records[api.Ephemeral](w, api.TopicEphemeral, 0) {
		if p := e.Presence; p != nil {
			out += p.Presence[:2]
			if p.CurrentlyActive != (p.Presence == online) {
				out += "!"
			}
			out += p.StatusMsg + " "
		}
	}
	return strings.TrimSpace(out)
}

// TestPresence: what a user's devices do, and what others are told of it.
func TestPresence(t *testing.T) {
	type step struct {
		wait time.Duration // before; devices go on with /sync all the time
		act  string        // a device, what it says: sync…, act, put…
		want string        // what others were told so far
	}
	const min = time.Minute
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"idle", []step{{0, "D sync", "on"}, {4 * min, "", "on"}, {2 * min, "", "on un"}, {20 * min, "", "on un"}, {0, "D act", "on un on"}, {6 * min, "", "on un on un"}}},
		{"gone", []step{{0, "D sync", "on"}, {0, "D stop", "on"}, {4 * min, "", "on of"}, {0, "D sync", "on of on"}}},
		{"idle, then gone", []step{{0, "D sync", "on"}, {6 * min, "", "on un"}, {0, "D stop", "on un"}, {4 * min, "", "on un of"}}},
		{"hidden", []step{{0, "D sync offline", ""}, {0, "D act", ""}, {0, "E sync", "on"}, {0, "E stop", "on"}, {4 * min, "", "on of"}}},
		{"two devices", []step{{0, "D sync unavailable", "un"}, {0, "E sync", "un on"}, {0, "D sync unavailable", "un on"}, {0, "E stop", "un on"}, {4 * min, "", "un on un"}}},
		{"back at the keyboard", []step{{0, "D sync", "on"}, {0, "D sync unavailable", "on un"}, {0, "D sync online", "on un on"}}},
		{"chosen", []step{{0, "D sync", "on"}, {0, "put unavailable", "on un"}, {min, "", "on un"}, {0, "D act", "on un on"}, {0, "put offline", "on un on of"},
			{0, "D act", "on un on of"}, {min, "", "on un on of"}, {0, "put online", "on un on of on"}}},
		{"status", []step{{0, "put online hi", "onhi"}, {0, "put online hi", "onhi"}, {0, "put online ho", "onhi onho"}, {4 * min, "", "onhi onho ofho"}, {0, "D sync", "onhi onho ofho onho"}}},
		{"writes only", []step{{0, "D act", "on"}, {4 * min, "", "on of"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			engines(t, func(t *testing.T, w *world) {
				s := w.server()
				syncing := map[string]string{}
				for _, st := range c.steps {
					for waited := time.Duration(0); waited < st.wait; waited += 30 * time.Second {
						w.advance(30 * time.Second)
						for device, presence := range syncing {
							w.hear(s, api.Activity{DeviceID: device, Syncing: true, Presence: presence})
						}
						w.check(s.expireNow(t.Context()))
					}
					words := append(strings.Fields(st.act), "", "", "")
					say := words[2]
					switch {
					case words[0] == "put":
						_, err := s.setPresence(t.Context(), &api.SetPresenceRequest{UserID: alice, Presence: words[1], StatusMsg: say})
						w.check(err)
					case words[1] == "sync":
						syncing[words[0]] = say
						w.hear(s, api.Activity{DeviceID: words[0], Syncing: true, Presence: say})
					case words[1] == "act":
						w.hear(s, api.Activity{DeviceID: words[0], Active: true})
					case words[1] == "stop":
						delete(syncing, words[0])
					}
					if got := w.told(); got != st.want {
						t.Fatalf("after %v %q others know %q, want %q", st.wait, st.act, got, st.want)
					}
				}
			})
		})
	}
}

// TestLastActive: doing something moves it, /sync alone does not, and whoever
// asks gets it up to date.
func TestLastActive(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		s := w.server()
		w.signUp(s, alice)
		query := func() api.Presence {
			res, err := s.queryPresence(t.Context(), &api.PresenceRequest{UserIDs: []string{alice, "@nobody:test"}})
			if err != nil || len(res.Presence) != 1 {
				t.Fatal(res, err)
			}
			return res.Presence[0]
		}
		w.advance(time.Second)
		w.hear(s, api.Activity{DeviceID: "D", Syncing: true, IP: "10.0.0.7"})
		began := w.now().UnixMilli()
		w.advance(time.Minute)
		w.hear(s, api.Activity{DeviceID: "D", Syncing: true})
		if p := query(); p.LastActiveTS != began || p.Presence != online || !p.CurrentlyActive {
			t.Errorf("after syncing: %+v", p)
		}
		w.hear(s, api.Activity{DeviceID: "D", Active: true})
		if p := query(); p.LastActiveTS != began+time.Minute.Milliseconds() {
			t.Errorf("after writing: %+v", p)
		}
		res, err := s.queryDevices(t.Context(), &api.DevicesRequest{UserID: alice})
		if err != nil || res.Devices[0].LastSeenTS != w.now().UnixMilli() || res.Devices[0].LastSeenIP != "10.0.0.7" {
			t.Error(res, err)
		}
		// Another start goes on with what was told.
		next := w.server()
		w.check(next.recall(t.Context(), eventlog.PartitionFor(alice, api.UserOutputPartitions)))
		s = next
		if p := query(); p.Presence != online {
			t.Errorf("after a restart: %+v", p)
		}
		w.advance(4 * time.Minute)
		w.check(s.expireNow(t.Context()))
		if p := query(); p.Presence != offline || p.CurrentlyActive || w.told() != "on of" {
			t.Errorf("after a restart, and nobody came: %+v, %s", p, w.told())
		}
	})
}

// TestPresenceElsewhere: of two instances one keeps a user's presence, whichever
// was asked to change it.
func TestPresenceElsewhere(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		w.deps = Deps{Log: eventlogtest.Shared{Log: w.log}, LeaseTTL: 400 * time.Millisecond}
		a, b := w.server(), w.server()
		w.run(a)
		w.run(b)
		testwait.Until(w.t, "nobody has the user", func() bool { return a.ours(alice) != b.ours(alice) && len(a.leases.Held()) == len(b.leases.Held()) })
		for i, s := range []*Server{a, b} {
			status := []string{"one", "two"}[i]
			_, err := s.setPresence(t.Context(), &api.SetPresenceRequest{UserID: alice, Presence: online, StatusMsg: status})
			w.check(err)
			testwait.Until(w.t, "the status is not told", func() bool { return strings.HasSuffix(w.told(), status) })
		}
		if w.told() != "onone ontwo" {
			t.Error(w.told())
		}
	})
}

// TestTyping: who types is told once, until it ends or runs out.
func TestTyping(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		s := w.server()
		told := func() (out []string) {
			for _, e := range records[api.Ephemeral](w, api.TopicEphemeral, 0) {
				out = append(out, e.Typing.RoomID+":"+strings.Join(e.Typing.UserIDs, ","))
			}
			return out
		}
		for _, c := range []struct {
			user, room string
			typing     bool
			timeout    time.Duration
			wait       time.Duration
			want       string // the last that was told, and how much that is
			n          int
		}{
			{"@b", "!r", true, 30 * time.Second, 0, "!r:@b", 1},
			{"@a", "!r", true, 60 * time.Second, 0, "!r:@a,@b", 2},
			{"@a", "!r", true, 90 * time.Second, 0, "!r:@a,@b", 2},
			{"@a", "!q", true, time.Hour, 0, "!q:@a", 3},
			{"@c", "!r", false, 0, 0, "!q:@a", 3},
			{"@a", "!q", false, 0, 0, "!q:", 4},
			{"@c", "!q", true, -time.Hour, time.Second, "!q:", 6},
			{"@c", "!q", false, 0, 31 * time.Second, "!r:@a", 7},
			{"@c", "!q", false, 0, 91 * time.Second, "!r:", 8},
			{"@a", "!q", true, time.Hour, maxTyping + time.Second, "!q:", 10},
		} {
			_, err := s.setTyping(t.Context(), &api.SetTypingRequest{UserID: c.user, RoomID: c.room, Typing: c.typing, TimeoutMS: c.timeout.Milliseconds()})
			w.check(err)
			w.advance(c.wait)
			w.check(s.expireNow(t.Context()))
			if got := told(); len(got) != c.n || got[len(got)-1] != c.want {
				t.Errorf("%+v: %q", c, got)
			}
		}
	})
}

// TestActivityBeforeChoice: what a user did before choosing a presence, and is
// heard of only then, does not undo the choice; what follows does.
func TestActivityBeforeChoice(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		s := w.server()
		before := w.now().UnixMilli()
		w.advance(time.Second)
		_, err := s.setPresence(t.Context(), &api.SetPresenceRequest{UserID: alice, Presence: unavailable})
		w.check(err)
		for _, a := range []api.Activity{{Active: true}, {Syncing: true}} {
			a.UserID, a.DeviceID, a.TS = alice, "D", before
			s.heard.add(a)
			w.check(s.settle(t.Context()))
		}
		if w.told() != "un" {
			t.Errorf("what was before: %s", w.told())
		}
		w.advance(time.Second)
		w.hear(s, api.Activity{DeviceID: "D", Active: true})
		if w.told() != "un on" {
			t.Errorf("what was after: %s", w.told())
		}
		_, err = s.setPresence(t.Context(), &api.SetPresenceRequest{UserID: alice, Presence: unavailable})
		w.check(err)
		w.advance(-time.Hour) // a clock is set back
		w.hear(s, api.Activity{DeviceID: "D", Active: true})
		if w.told() != "un on un on" {
			t.Errorf("after a clock was set back: %s", w.told())
		}
	})
}

// TestActivityTogether: what was heard of many devices is settled at once, and
// told once of each user.
func TestActivityTogether(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		s := w.server()
		const users = 20
		for i := range users {
			w.signUp(s, fmt.Sprintf("@u%d:test", i))
		}
		w.advance(time.Minute)
		for range 2 {
			for i := range users {
				s.heard.add(api.Activity{UserID: fmt.Sprintf("@u%d:test", i), DeviceID: "D", TS: w.now().UnixMilli(), IP: "10.0.0.9", Active: true})
			}
		}
		statements := s.db.Statements()
		w.check(s.settle(t.Context()))
		// Presences, BEGIN, devices (twice each), presences, COMMIT.
		if n := s.db.Statements() - statements; n > 6 && strings.HasSuffix(t.Name(), string(sqldbtest.PostgreSQL)) {
			t.Errorf("%d statements", n)
		}
		told := map[string]int{}
		for _, e := range records[api.Ephemeral](w, api.TopicEphemeral, 0) {
			told[e.Presence.UserID+" "+e.Presence.Presence]++
		}
		for i := range users {
			id := fmt.Sprintf("@u%d:test", i)
			if told[id+" online"] != 1 {
				t.Errorf("%s was told %d times", id, told[id+" online"])
			}
			res, err := s.queryDevices(t.Context(), &api.DevicesRequest{UserID: id})
			if err != nil || res.Devices[0].LastSeenIP != "10.0.0.9" {
				t.Error(res, err)
			}
			list, err := s.db.Presence(t.Context(), []string{id})
			if err != nil || len(list) != 1 || list[0].Presence != online {
				t.Error(list, err)
			}
		}
		if len(told) != users {
			t.Error(told)
		}
	})
}

// TestNoted: what is noted is written, also what was noted last before the end.
func TestNoted(t *testing.T) {
	w := &world{t: t}
	w.newLog()
	_, err := w.log.EnsureTopic(t.Context(), api.ActivityTopic())
	w.check(err)
	reporter := api.NewReporter(w.log)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		reporter.Run(ctx, func(err error) { t.Error(err) })
	}()
	written := func() (out []api.Activity) {
		for p := range api.ActivityPartitions {
			out = append(out, records[api.Activity](w, api.TopicUserActivity, p)...)
		}
		return out
	}
	now := time.Now()
	for range 2 { // the second says nothing new
		for _, user := range []string{alice, "@bob:test"} {
			w.check(reporter.Note(api.Activity{UserID: user, DeviceID: "D", TS: now.UnixMilli(), Active: true}))
		}
	}
	testwait.Until(t, "what was noted is written", func() bool { return len(written()) == 2 })
	w.check(reporter.Note(api.Activity{UserID: "@carol:test", DeviceID: "D", TS: now.UnixMilli(), Active: true}))
	cancel()
	<-done
	if got := written(); len(got) != 3 {
		t.Errorf("%+v", got)
	}
}
