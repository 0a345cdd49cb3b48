package pushapi

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/testwait"
	"github.com/matrix-org/dendrite/pushapi/storage"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	syncapi "github.com/matrix-org/dendrite/syncapi/api"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

func (w *world) create(members ...string) {
	for _, id := range members {
		w.member(room, id, id, "join")
	}
}

// TestNotified: a gateway is told of what the user's rules say, and of nothing else.
func TestNotified(t *testing.T) { engines(t, testNotified) }

func testNotified(t *testing.T, w *world) {
	w.create(alice, bob, carol)
	s, _ := w.server()
	w.unread = syncapi.UnreadResponse{Notifications: 3, MissedCalls: 1}
	w.pusher(s, alice, "full", `{"custom":7}`)
	w.pusher(s, alice, "ids", `{"format":"event_id_only"}`)
	name := ""
	w.send(room, "m.room.name", bob, &name, `{"name":"The room"}`)
	first := w.message(room, bob, "hello")
	w.message(room, alice, "mine")
	w.send(room, "m.reaction", bob, nil, `{}`)
	mention := w.send(room, "m.room.message", bob, nil, `{"body":"x","m.mentions":{"user_ids":["@alice:test"]}}`)
	w.member("!new:test", bob, bob, "join")
	invite := w.member("!new:test", bob, alice, "invite")
	testwait.Until(t, "all are told", func() bool { return len(w.gateway.about("full")) == 3 && len(w.gateway.about("ids")) == 3 })
	byEvent := map[string]told{}
	for _, n := range w.gateway.all() {
		byEvent[n.Devices[0].Pushkey+n.EventID] = n
	}
	const deviceFull = `"devices":[{"app_id":"app","pushkey":"full","pushkey_ts":5,"data":{"custom":7},`
	const deviceIDs = `"devices":[{"app_id":"app","pushkey":"ids","pushkey_ts":5,"data":{"format":"event_id_only"},`
	for key, want := range map[string]string{
		"full" + first: `{"notification":{"event_id":"` + first + `","room_id":"!room:test","type":"m.room.message","sender":"@bob:test","sender_display_name":"b","room_name":"The room",` +
			`"prio":"low","content":{"body":"hello","msgtype":"m.text"},"counts":{"unread":3,"missed_calls":1},` + deviceFull + `"tweaks":{}}]}}`,
		"ids" + mention: `{"notification":{"event_id":"` + mention + `","room_id":"!room:test","prio":"high","counts":{"unread":3,"missed_calls":1},` +
			deviceIDs + `"tweaks":{"highlight":true,"sound":"default"}}]}}`,
		"full" + invite: `{"notification":{"event_id":"` + invite + `","room_id":"!new:test","type":"m.room.member","sender":"@bob:test","sender_display_name":"b","user_is_target":true,` +
			`"prio":"high","content":{"displayname":"a","membership":"invite"},"counts":{"unread":3,"missed_calls":1},` + deviceFull + `"tweaks":{"sound":"default"}}]}}`,
	} {
		if got := byEvent[key].Raw; got != want {
			t.Errorf("%s:\n%s, not\n%s", key, got, want)
		}
	}
}

// TestRulesAreFollowed: what changes who is notified of what takes effect.
func TestRulesAreFollowed(t *testing.T) { engines(t, testRulesAreFollowed) }

func testRulesAreFollowed(t *testing.T, w *world) {
	w.create(alice, bob, carol)
	s, _ := w.server()
	w.pusher(s, alice, "a", "")
	one := w.message(room, bob, "one")
	w.expect("a", one)
	set := func(kind userapi.ChangeKind, typ, content string) {
		w.mu.Lock()
		res := w.change(userapi.UserChange{UserID: alice, Kind: kind, Type: typ, Content: jsontext.Value(content)})
		w.mu.Unlock()
		s.people.reach(t.Context(), res.Partition, res.Seq)
	}
	set(userapi.ChangeAccountData, userapi.TypeIgnoredUsers, `{"ignored_users":{"@bob:test":{}}}`)
	w.message(room, bob, "ignored")
	two := w.message(room, carol, "two")
	w.expect("a", one, two)
	set(userapi.ChangePushRules, userapi.TypePushRules, `{"global":{"content":[{"rule_id":"x","pattern":"loud","actions":["notify",{"set_tweak":"sound","value":"x"}]}],
		"override":[{"rule_id":"y","conditions":[{"kind":"contains_display_name"}],"actions":["notify"]},
		{"rule_id":"z","conditions":[{"kind":"event_match","key":"content.body","pattern":"everyone"},{"kind":"sender_notification_permission","key":"room"}],"actions":["notify"]}]}}`)
	w.message(room, carol, "quiet")
	three := w.message(room, carol, "a LOUD one")
	four := w.message(room, carol, "say a, will you")
	w.message(room, carol, "everyone, but who may?")
	unheard := w.message(room, carol, "loud")
	w.expect("a", one, two, three, four, unheard)
	empty := ""
	w.send(room, "m.room.create", alice, &empty, `{"room_version":"11"}`)
	w.send(room, "m.room.power_levels", alice, &empty, `{"users":{"@carol:test":50}}`)
	five := w.message(room, carol, "everyone now")
	w.expect("a", one, two, three, four, unheard, five)
	w.member(room, alice, alice, "leave")
	w.message(room, carol, "loud behind the door")
	w.member(room, alice, alice, "join")
	six := w.message(room, carol, "loud again")
	w.expect("a", one, two, three, four, unheard, five, six)
}

// TestThreads: who has said something of threads is notified of those that it is
// subscribed to, by what was said before the server started, and since.
func TestThreads(t *testing.T) { engines(t, testThreads) }

func testThreads(t *testing.T, w *world) {
	w.create(alice, bob, carol)
	const one, two = "$one", "$two"
	say := func(s *Server, user, root string, subscribed bool) {
		t.Helper()
		c, err := userapi.ChangeOfThread(user, room, root, userapi.ThreadState{Subscribed: subscribed})
		if err != nil {
			t.Fatal(err)
		}
		w.mu.Lock()
		res := w.change(c)
		w.threads = append(slices.DeleteFunc(w.threads, func(o userapi.ThreadOf) bool { return o.UserID == user && o.ThreadID == root }),
			userapi.ThreadOf{UserID: user, RoomID: room, ThreadID: root, Subscribed: subscribed, Seq: res.Seq})
		w.mu.Unlock()
		if s != nil {
			s.people.reach(t.Context(), res.Partition, res.Seq)
		}
	}
	in := func(root string) string {
		return w.send(room, "m.room.message", bob, nil, `{"body":"x","m.relates_to":{"rel_type":"m.thread","event_id":"`+root+`"}}`)
	}
	say(nil, alice, one, true)
	s, stop := w.server()
	w.pusher(s, alice, "a", "")
	w.pusher(s, carol, "c", "")
	first, other := in(one), in(two)
	w.expect("c", first, other) // has never said anything
	w.expect("a", first)
	say(s, alice, two, true)
	say(s, alice, one, false)
	w.message(room, alice, "mine")
	in(one)
	second := in(two)
	w.expect("a", first, second)
	stop()
	say(nil, alice, one, true)
	s, _ = w.server()
	say(s, alice, two, false)
	in(two)
	third := in(one)
	w.expect("a", first, second, third)
}

// TestNothingToTell: events that were redacted or read before they could be told are
// not told, nor those that the user may not see.
func TestNothingToTell(t *testing.T) { engines(t, testNothingToTell) }

func testNothingToTell(t *testing.T, w *world) {
	w.create(alice, bob, carol)
	s, _ := w.server()
	w.pusher(s, alice, "a", "")
	w.gateway.answers(http.StatusBadGateway)
	redacted, read, gone := w.message(room, bob, "redacted"), w.message(room, bob, "read"), w.message(room, bob, "purged")
	last := w.message(room, bob, "last")
	w.mu.Lock()
	stripped := *w.events[redacted]
	stripped.RedactedBy = "$r"
	w.events[redacted] = &stripped
	w.read[read] = true
	delete(w.events, gone)
	w.mu.Unlock()
	w.gateway.answers(0)
	w.expect("a", last)
}

// TestGatewayAway: what a gateway did not take it is told later, in order, also by
// another instance, and only the newest of too much.
func TestGatewayAway(t *testing.T) { engines(t, testGatewayAway) }

func testGatewayAway(t *testing.T, w *world) {
	w.config.MaxWaiting = 5
	w.create(alice, bob, carol)
	s, stop := w.server()
	w.pusher(s, alice, "a", "")
	w.pusher(s, carol, "c", "")
	w.gateway.answers(http.StatusServiceUnavailable)
	var sent []string
	for i := range 8 {
		sent = append(sent, w.message(room, bob, fmt.Sprint("m", i)))
	}
	failing := func() bool {
		state, _, err := s.db.State(t.Context(), "pusher1", 100)
		return err == nil && state.Tries > 1
	}
	testwait.Until(t, "the gateway fails", failing)
	stop()
	s, _ = w.server()
	testwait.Until(t, "it fails after a restart", failing)
	w.gateway.answers(0)
	w.expect("a", sent[3:]...)
	w.expect("c", sent[3:]...)
	testwait.Until(t, "nothing is due", func() bool {
		due, err := s.db.Due(t.Context(), []int64{0, 1, 2, 3}, time.Now().Add(24*time.Hour).UnixMilli(), storage.Due{}, 10)
		return err == nil && len(due) == 0
	})
}

// TestGatewayHangs: pushers that wait for a gateway which does not answer, however
// many, hold up no others.
func TestGatewayHangs(t *testing.T) { engines(t, testGatewayHangs) }

func testGatewayHangs(t *testing.T, w *world) {
	w.config.MaxPerGateway = 1
	w.create(alice, bob, carol)
	s, _ := w.server()
	release := make(chan struct{})
	good := w.gateway
	w.gateway = &gateway{server: httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))}
	t.Cleanup(w.gateway.server.Close)
	defer close(release)
	for i := range 3 * duePages { // they come before carol's
		w.pusher(s, alice, fmt.Sprint("a", i), "")
	}
	w.gateway = good
	w.made = 989
	w.pusher(s, carol, "c", "")
	w.expect("c", w.message(room, bob, "first"))
	w.expect("c", append(good.about("c"), w.message(room, bob, "second"))...)
}

// TestTooOld: what has waited for too long is dropped.
func TestTooOld(t *testing.T) { engines(t, testTooOld) }

func testTooOld(t *testing.T, w *world) {
	w.create(alice, bob, carol)
	s, stop := w.server()
	w.pusher(s, alice, "a", "")
	w.gateway.answers(http.StatusServiceUnavailable)
	w.message(room, bob, "old")
	waiting := func(n int) func() bool {
		return func() bool {
			state, ok, err := s.db.State(t.Context(), "pusher1", 10)
			return err == nil && ok && len(state.News) == n
		}
	}
	testwait.Until(t, "it waits", waiting(1))
	stop()
	w.gateway.answers(0)
	w.config.Lifetime = time.Millisecond
	s, stop = w.server()
	testwait.Until(t, "it is dropped", waiting(0))
	stop()
	w.config.Lifetime = 0
	w.server()
	fresh := w.message(room, bob, "fresh")
	w.expect("a", fresh)
}

// TestPurged: of what is purged while its gateway is away nothing is told.
func TestPurged(t *testing.T) { engines(t, testPurged) }

func testPurged(t *testing.T, w *world) {
	w.create(alice, bob, carol)
	s, _ := w.server()
	w.pusher(s, alice, "a", "")
	w.gateway.answers(http.StatusServiceUnavailable)
	waiting := func(n int) func() bool {
		return func() bool {
			state, ok, err := s.db.State(t.Context(), "pusher1", 10)
			return err == nil && ok && len(state.News) == n
		}
	}
	old, kept := w.message(room, bob, "old"), w.message(room, bob, "kept")
	testwait.Until(t, "both wait", waiting(2))
	w.publish(&roomapi.OutputRecord{Kind: roomapi.OutputHistoryPurged, RoomID: room, Purged: []roomapi.PurgedEvent{{EventID: old, Seq: 1}}})
	testwait.Until(t, "one is left", waiting(1))
	tries := func() int64 {
		state, _, err := s.db.State(t.Context(), "pusher1", 10)
		if err != nil {
			t.Error(err)
		}
		return state.Tries
	}
	before := tries()
	testwait.Until(t, "what was read before is no more on its way", func() bool { return tries() > before })
	w.gateway.answers(0)
	w.expect("a", kept)
	w.gateway.answers(http.StatusServiceUnavailable)
	w.message(room, bob, "in a room that goes")
	testwait.Until(t, "it waits", waiting(1))
	w.publish(&roomapi.OutputRecord{Kind: roomapi.OutputPurged, RoomID: room})
	testwait.Until(t, "the room is gone", waiting(0))
}

// TestRejected: a pushkey that a gateway rejects ends its pusher, and no other.
func TestRejected(t *testing.T) { engines(t, testRejected) }

func testRejected(t *testing.T, w *world) {
	w.create(alice, bob, carol)
	s, _ := w.server()
	w.pusher(s, alice, "bad", "")
	w.pusher(s, alice, "good", "")
	w.gateway.rejects["bad"] = true
	one := w.message(room, bob, "one")
	testwait.Until(t, "the pusher is removed", func() bool {
		u := s.people.get(alice)
		_, known, err := s.db.State(t.Context(), "pusher1", 1)
		return err == nil && !known && u != nil && len(u.pushers) == 1 && u.pushers[0].Pushkey == "good"
	})
	two := w.message(room, bob, "two")
	w.expect("good", one, two)
}

// TestBadge: who reads has the counts told, without an event, if they are others.
func TestBadge(t *testing.T) { engines(t, testBadge) }

func testBadge(t *testing.T, w *world) {
	w.create(alice, bob, carol)
	s, _ := w.server()
	w.unread = syncapi.UnreadResponse{Notifications: 1}
	w.pusher(s, alice, "a", "")
	w.pusher(s, alice, "without", `{"org.matrix.msc4076.disable_badge_count":true}`)
	one := w.message(room, bob, "one")
	w.expect("a", one)
	w.expect("without", one)
	read := func(n int) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.unread.Notifications = n
		w.change(userapi.UserChange{UserID: alice, Kind: userapi.ChangeReceipt, RoomID: room, Type: "m.read", Receipt: &userapi.Receipt{EventID: one, Type: "m.read"}})
	}
	badges := func() (out []string) {
		for _, n := range w.gateway.all() {
			if n.EventID == "" {
				_, rest, _ := strings.Cut(n.Raw, `"counts":`)
				out = append(out, n.Devices[0].Pushkey+rest[:strings.Index(rest, "}")+1])
			}
		}
		return out
	}
	rested := func() bool {
		due, err := s.db.Due(t.Context(), []int64{0, 1, 2, 3}, time.Now().UnixMilli(), storage.Due{}, 10)
		return err == nil && len(due) == 0
	}
	asked := func() int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.asked["unread"]
	}
	read(0)
	testwait.Until(t, "the badge goes", func() bool { return slices.Equal(badges(), []string{"a{}"}) })
	testwait.Until(t, "all rest", rested)
	before := asked()
	read(0)
	testwait.Until(t, "the counts are the same", func() bool { return asked() >= before+2 && rested() })
	if got := badges(); len(got) != 1 {
		t.Errorf("told: %v", got)
	}
	for _, n := range w.gateway.all() {
		if n.Devices[0].Pushkey == "without" && strings.Contains(n.Raw, "counts") {
			t.Errorf("counts for who wants none: %s", n.Raw)
		}
	}
}

// TestIdleMembersCostNothing: of members without a pusher nothing is judged, stored
// or asked, however many there are.
func TestIdleMembersCostNothing(t *testing.T) { engines(t, testIdleMembersCostNothing) }

func testIdleMembersCostNothing(t *testing.T, w *world) {
	w.create(alice, bob)
	w.mu.Lock()
	for i := range 10_000 {
		w.joined[room][fmt.Sprintf("@idle%d:test", i)] = true
	}
	w.mu.Unlock()
	s, _ := w.server()
	w.pusher(s, alice, "a", "")
	first := w.message(room, bob, "first")
	w.expect("a", first)
	if n := s.rooms.members.Load(); n != 1 {
		t.Errorf("%d members are known", n)
	}
	w.mu.Lock()
	clear(w.asked)
	w.mu.Unlock()
	for range 50 {
		w.send(room, "m.reaction", bob, nil, `{}`) // of which nobody is told
	}
	last := w.message(room, bob, "last")
	w.expect("a", first, last)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.asked["joined"] != 0 || w.asked["events"] != 1 || w.asked["unread"] != 1 || w.asked["state"] != 1 {
		t.Errorf("asked: %v", w.asked)
	}
}

// TestInside: no request goes to an address inside, whatever a pusher says.
func TestInside(t *testing.T) {
	w := newWorld(t)
	w.config.AllowRanges = nil
	w.create(alice, bob, carol)
	s, _ := w.server()
	w.pusher(s, alice, "a", "")
	w.message(room, bob, "one")
	testwait.Until(t, "it is tried", func() bool {
		state, _, err := s.db.State(t.Context(), "pusher1", 1)
		return err == nil && state.Tries > 2
	})
	if got := w.gateway.all(); len(got) > 0 {
		t.Errorf("reached: %v", got)
	}
}
