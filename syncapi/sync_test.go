package syncapi

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
)

const (
	alice = "@alice:test"
	bob   = "@bob:test"
	carol = "@carol:test"
)

func ids(events []eventOf) []string {
	var out []string
	for _, e := range events {
		out = append(out, e.ID)
	}
	return out
}

func TestInitialThenIncremental(t *testing.T) { sqldbtest.Each(t, testInitialThenIncremental) }

func testInitialThenIncremental(t *testing.T) {
	m := newModel(t)
	m.create("!a:test", alice, bob)
	m.message("!a:test", bob, "one")
	first := m.sync(alice, "")
	room := first.Rooms.Join["!a:test"]
	if len(room.Timeline.Events) != 5 || room.Timeline.Limited || len(room.State.Events) != 0 {
		t.Fatalf("initial: %+v", room)
	}
	if room.Summary == nil || room.Summary.Joined != 2 || !slices.Equal(room.Summary.Heroes, []string{bob}) {
		t.Fatalf("summary: %+v", room.Summary)
	}
	if again := m.sync(alice, first.Next); len(again.Rooms.Join) != 0 || again.Next != first.Next {
		t.Fatalf("nothing new: %+v", again)
	}
	id := m.send(sent{room: "!a:test", sender: alice, typ: "m.room.message", content: `{"body":"x"}`, device: "D" + alice, txn: "t1"})
	m.settle()
	mine := m.sync(alice, first.Next).Rooms.Join["!a:test"].Timeline.Events
	if len(mine) != 1 || mine[0].ID != id || mine[0].Unsigned.Txn != "t1" || mine[0].Unsigned.Membership != "join" || mine[0].RoomID != "" {
		t.Fatalf("incremental: %+v", mine)
	}
	other := m.sync(alice, first.Next, "device", "OTHER").Rooms.Join["!a:test"].Timeline.Events
	if len(other) != 1 || other[0].Unsigned.Txn != "" {
		t.Fatalf("another device sees the transaction: %+v", other)
	}
}

func TestUpToDateNeedsNoQuery(t *testing.T) { sqldbtest.Each(t, testUpToDateNeedsNoQuery) }

func testUpToDateNeedsNoQuery(t *testing.T) {
	m := newModel(t)
	m.create("!a:test", alice, bob)
	first := m.sync(alice, "")
	m.message("!a:test", bob, "hello")
	m.settle()
	m.sync(alice, first.Next)
	m.mu.Lock()
	clear(m.asked)
	m.mu.Unlock()
	next := m.sync(alice, first.Next)
	m.message("!a:test", bob, "again")
	m.settle()
	if got := m.sync(alice, next.Next); len(got.Rooms.Join["!a:test"].Timeline.Events) != 1 {
		t.Fatalf("got %+v", got)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range []string{"history", "state_changes", "events"} {
		if m.asked[name] > 0 {
			t.Errorf("an up-to-date client cost %d queries of %s", m.asked[name], name)
		}
	}
}

func TestLongPollWakes(t *testing.T) { sqldbtest.Each(t, testLongPollWakes) }

func testLongPollWakes(t *testing.T) {
	m := newModel(t)
	m.create("!a:test", alice, bob)
	first := m.sync(alice, "")
	got := polling(m, alice, func() (*answerOf, error) {
		return m.trySync(context.Background(), alice, first.Next, "timeout", "20000")
	})
	id := m.message("!a:test", bob, "wake up")
	select {
	case a := <-got:
		if !slices.Equal(ids(a.Rooms.Join["!a:test"].Timeline.Events), []string{id}) {
			t.Fatalf("got %+v", a)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("not woken")
	}
}

// polling has a user, who is in memory, ask for what is new, and returns once the
// request waits.
func polling[T any](m *model, user string, ask func() (T, error)) <-chan T {
	m.t.Helper()
	got := make(chan T, 1)
	go func() {
		a, err := ask()
		if err != nil {
			m.t.Error(err)
		}
		got <- a
	}()
	m.view.mu.Lock()
	u := m.view.users[user]
	m.view.mu.Unlock()
	waitFor(m.t, func() bool { u.mu.Lock(); defer u.mu.Unlock(); return u.wake != nil })
	return got
}

// waitFor waits until a condition holds.
func waitFor(t testing.TB, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatal("condition does not come about")
		}
		<-tick.C
	}
}

func TestStopAnswersEarly(t *testing.T) { sqldbtest.Each(t, testStopAnswersEarly) }

func testStopAnswersEarly(t *testing.T) {
	m := newModel(t)
	m.create("!a:test", alice)
	first := m.sync(alice, "")
	got := polling(m, alice, func() (*answerOf, error) {
		return m.trySync(context.Background(), alice, first.Next, "timeout", "60000")
	})
	m.s.Stop()
	select {
	case a := <-got:
		if a.Next != first.Next {
			t.Fatalf("token %s, not %s", a.Next, first.Next)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("still waiting")
	}
}

// TestNoGapNoRepeat sends at random to several rooms and checks that the union
// of a client's successive answers, with the gaps filled by /messages, is
// every event exactly once and in order; across restarts too.
func TestNoGapNoRepeat(t *testing.T) { sqldbtest.Each(t, testNoGapNoRepeat) }

func testNoGapNoRepeat(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			noGapNoRepeat(t, newModelOn(t, seed%2 == 1, int(seed/2)*2), rand.New(rand.NewPCG(seed, 7)))
		})
	}
}

func noGapNoRepeat(t *testing.T, m *model, random *rand.Rand) {
	rooms := []string{"!a:test", "!b:test", "!c:test"}
	for _, id := range rooms {
		m.create(id, alice, bob)
	}
	first := m.sync(bob, "", "filter", `{"room":{"timeline":{"limit":100}}}`)
	seen := map[string][]string{}
	for id, r := range first.Rooms.Join {
		seen[id] = ids(r.Timeline.Events)
	}
	since := first.Next
	for step := range 40 {
		for range random.IntN(25) {
			id := rooms[random.IntN(len(rooms))]
			if random.IntN(10) == 0 {
				m.send(sent{room: id, sender: alice, typ: "m.room.topic", key: stateKey(""), content: fmt.Sprintf(`{"topic":"%d"}`, step)})
			} else {
				m.message(id, alice, "x")
			}
		}
		if random.IntN(8) == 0 {
			m.restart()
		}
		if random.IntN(3) > 0 {
			m.settle()
		}
		if random.IntN(6) == 0 {
			m.view.mu.Lock()
			for _, r := range m.view.rooms {
				r.forgetTail(m.view.progress[r.partition])
			}
			m.view.mu.Unlock()
		}
		a := m.sync(bob, since, "filter", `{"room":{"timeline":{"limit":5}}}`)
		for id, r := range a.Rooms.Join {
			if r.Timeline.Limited {
				seen[id] = append(seen[id], m.fill(bob, id, r.Timeline.Prev, since)...)
			}
			seen[id] = append(seen[id], ids(r.Timeline.Events)...)
		}
		since = a.Next
	}
	m.settle()
	last := m.sync(bob, since, "filter", `{"room":{"timeline":{"limit":100}}}`)
	for id, r := range last.Rooms.Join {
		seen[id] = append(seen[id], ids(r.Timeline.Events)...)
	}
	for _, id := range rooms {
		if want := m.order[id]; !slices.Equal(seen[id], want) {
			t.Errorf("%s: saw %d events of %d, or not in order", id, len(seen[id]), len(want))
		}
	}
}

// fill pages back from one token to another, and returns the events oldest first.
func (m *model) fill(user, room, from, to string) []string {
	m.t.Helper()
	var out []string
	for from != "" {
		var page struct {
			Chunk []eventOf `json:"chunk"`
			End   string    `json:"end"`
		}
		q := url.Values{"dir": {"b"}, "limit": {"4"}, "from": {from}, "to": {to}}
		if err := m.get(m.s.messages, user, q.Encode(), map[string]string{"roomId": room}, &page); err != nil {
			m.t.Fatal(err)
		}
		out = append(out, ids(page.Chunk)...)
		from = page.End
	}
	slices.Reverse(out)
	return out
}

func TestMembershipTransitions(t *testing.T) {
	for name, c := range map[string]struct {
		real      bool
		instances int
	}{"model": {}, "room server": {real: true}, "instances": {instances: 2}} {
		t.Run(name, func(t *testing.T) { membershipTransitions(t, c.real, c.instances) })
	}
}

func membershipTransitions(t *testing.T, real bool, instances int) {
	const room = "!a:test"
	steps := map[string]func(m *model){
		"invite":  func(m *model) { m.member(room, alice, bob, "invite") },
		"join":    func(m *model) { m.member(room, bob, bob, "join") },
		"leave":   func(m *model) { m.member(room, bob, bob, "leave") },
		"kick":    func(m *model) { m.member(room, alice, bob, "leave") },
		"ban":     func(m *model) { m.member(room, alice, bob, "ban") },
		"knock":   func(m *model) { m.member(room, bob, bob, "knock") },
		"message": func(m *model) { m.message(room, alice, "x") },
	}
	for _, c := range []struct {
		name          string
		before, after []string
		section       string
		timeline      []string // types, nil: not looked at
		withState     bool
	}{
		{"invited", nil, []string{"invite"}, "invite", nil, false},
		{"knocked", nil, []string{"knock"}, "knock", nil, false},
		{"joined", nil, []string{"message", "join"}, "join", nil, false},
		{"accepted", []string{"invite"}, []string{"join"}, "join", nil, false},
		{"left", []string{"join"}, []string{"message", "leave", "message"}, "leave", []string{"m.room.message", typeMember}, false},
		{"kicked", []string{"join"}, []string{"kick", "message"}, "leave", []string{typeMember}, false},
		{"banned", []string{"join"}, []string{"ban"}, "leave", []string{typeMember}, false},
		{"rejected", []string{"invite"}, []string{"leave"}, "leave", []string{typeMember}, false},
		{"joined and left between", nil, []string{"join", "message", "leave"}, "leave", nil, false},
		{"invited and rejected between", nil, []string{"invite", "leave"}, "leave", []string{typeMember}, false},
		{"left and joined again", []string{"join"}, []string{"leave", "message", "join"}, "join", nil, false},
		{"banned after leaving", []string{"join", "leave"}, []string{"ban"}, "leave", []string{typeMember}, false},
		{"left before", []string{"join", "leave"}, []string{"message"}, "", nil, false},
		{"still invited", []string{"invite"}, []string{"message"}, "", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newModelOn(t, real, instances)
			m.create(room, alice)
			if c.section == "knock" {
				m.send(sent{room: room, sender: alice, typ: "m.room.join_rules", key: stateKey(""), content: `{"join_rule":"knock"}`})
			}
			for _, step := range c.before {
				steps[step](m)
			}
			since := m.sync(bob, "").Next
			for _, step := range c.after {
				steps[step](m)
			}
			m.settle()
			a := m.sync(bob, since)
			got := map[string]bool{"join": len(a.Rooms.Join) == 1, "leave": len(a.Rooms.Leave) == 1, "invite": len(a.Rooms.Invite) == 1, "knock": len(a.Rooms.Knock) == 1}
			for section, has := range got {
				if has != (section == c.section) {
					t.Fatalf("section %s: %v; %+v", section, has, a.Rooms)
				}
			}
			if c.timeline != nil {
				var types []string
				for _, e := range a.Rooms.Leave[room].Timeline.Events {
					types = append(types, e.Type)
				}
				if !slices.Equal(types, c.timeline) {
					t.Fatalf("timeline %v, want %v", types, c.timeline)
				}
			}
			if inv, ok := a.Rooms.Invite[room]; ok && !slices.Contains(inv.State.types(), "m.room.create") {
				t.Fatalf("invite_state %v", inv.State.types())
			}
		})
	}
}

func TestLimitedTellsStateOfTheGap(t *testing.T) { sqldbtest.Each(t, testLimitedTellsStateOfTheGap) }

func testLimitedTellsStateOfTheGap(t *testing.T) {
	m := newModel(t)
	m.create("!a:test", alice, bob)
	since := m.sync(bob, "").Next
	m.send(sent{room: "!a:test", sender: alice, typ: "m.room.topic", key: stateKey(""), content: `{"topic":"in the gap"}`})
	for range 20 {
		m.message("!a:test", alice, "x")
	}
	m.send(sent{room: "!a:test", sender: alice, typ: "m.room.name", key: stateKey(""), content: `{"name":"in the timeline"}`})
	m.settle()
	room := m.sync(bob, since).Rooms.Join["!a:test"]
	if !room.Timeline.Limited || !slices.Equal(room.State.types(), []string{"m.room.topic"}) {
		t.Fatalf("limited %v, state %v", room.Timeline.Limited, room.State.types())
	}
	after := m.sync(bob, since, "use_state_after", "true").Rooms.Join["!a:test"]
	if after.StateAfter == nil || !slices.Equal(after.StateAfter.types(), []string{"m.room.name", "m.room.topic"}) || len(after.State.Events) > 0 {
		t.Fatalf("state_after %+v", after.StateAfter)
	}
	full := m.sync(bob, since, "full_state", "true").Rooms.Join["!a:test"]
	if len(full.State.Events) != 5 {
		t.Fatalf("full_state %v", full.State.types())
	}
}

func TestTokensRefused(t *testing.T) { sqldbtest.Each(t, testTokensRefused) }

func testTokensRefused(t *testing.T) {
	m := newModel(t)
	m.create("!a:test", alice)
	future := m.view.applied.Load().clone()
	future.rooms[3] += 1000
	m.s.maxLag = 10 * time.Millisecond
	for name, token := range map[string]string{"garbage": "s!!!", "empty": "s", "old": "s12_34_56", "future": future.String(), "timeline": "t0_0_0"} {
		if _, err := m.trySync(context.Background(), alice, token); !matrixerror.Is(err, "M_INVALID_PARAM") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
