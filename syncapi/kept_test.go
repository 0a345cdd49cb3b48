package syncapi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/matrix-org/dendrite/common/rpc"
)

// counting counts the calls that go to the room server, but for where it is.
type counting struct {
	rpc.Caller
	mu    sync.Mutex
	calls map[string]int
}

func (c *counting) Invoke(ctx context.Context, call rpc.Call) (any, error) {
	if call.Service == "roomserver" && call.Method != "heads" {
		c.mu.Lock()
		c.calls[call.Method]++
		c.mu.Unlock()
	}
	return c.Caller.Invoke(ctx, call)
}

// TestWarmInitialSync: an initial sync of rooms that were shown before asks the
// room server nothing, and shows what has changed meanwhile.
func TestWarmInitialSync(t *testing.T) {
	for _, args := range [][]string{nil, {"filter", `{"room":{"state":{"lazy_load_members":true},"timeline":{"limit":10}}}`}} {
		t.Run(fmt.Sprint(len(args)), func(t *testing.T) { warmInitialSync(t, args) })
	}
}

func warmInitialSync(t *testing.T, args []string) {
	m := newModelOn(t, true, 1)
	const rooms = 10
	for i := range rooms {
		id := fmt.Sprintf("!%d:test", i)
		m.create(id, alice, bob)
		for range 20 {
			m.message(id, alice, "x")
		}
	}
	m.settle()
	c := &counting{Caller: m.s.caller, calls: map[string]int{}}
	m.s.caller, m.view.caller = c, c // nobody has asked anything yet
	cold := m.sync(bob, "", args...)
	if n := len(cold.Rooms.Join); n != rooms {
		t.Fatalf("%d rooms", n)
	}
	t.Logf("cold: %v", c.calls)
	clear(c.calls)
	warm := m.sync(bob, "", args...)
	if len(c.calls) > 0 {
		t.Errorf("a warm initial sync asked %v", c.calls)
	}
	for id, r := range cold.Rooms.Join {
		again := warm.Rooms.Join[id]
		if !slices.Equal(ids(again.Timeline.Events), ids(r.Timeline.Events)) || !slices.Equal(ids(again.State.Events), ids(r.State.Events)) {
			t.Errorf("%s: %+v and then %+v", id, r, again)
		}
	}
	const room = "!0:test"
	topic := func(text string) string {
		return m.send(sent{room: room, sender: alice, typ: "m.room.topic", key: stateKey(""), content: `{"topic":"` + text + `"}`})
	}
	first := topic("a")
	for range 25 { // out of the timeline
		m.message(room, alice, "x")
	}
	m.settle()
	r := m.sync(bob, "", args...).Rooms.Join[room]
	if id := r.stateOf("m.room.topic", ""); id != first {
		t.Errorf("the topic is %q, not %q", id, first)
	}
	m.send(sent{room: room, sender: alice, typ: "m.room.redaction", redacts: first, content: `{"redacts":"` + first + `"}`})
	m.settle()
	r = m.sync(bob, "", args...).Rooms.Join[room]
	if id := r.stateOf("m.room.topic", ""); id != first {
		t.Errorf("the redacted topic is %q, not %q", id, first)
	}
	for _, ev := range r.State.Events {
		if ev.ID == first && string(ev.Content) != "{}" {
			t.Errorf("the redacted topic says %s", ev.Content)
		}
	}
	m.member(room, bob, bob, "leave")
	second := topic("b")
	m.member(room, bob, bob, "join")
	for range 25 {
		m.message(room, alice, "x")
	}
	m.settle()
	r = m.sync(bob, warm.Next, args...).Rooms.Join[room]
	if id := r.stateOf("m.room.topic", ""); id != second {
		t.Errorf("after a rejoin the topic is %q, not %q", id, second)
	}
}

// olderVersion is a room server that knows no batches.
type olderVersion struct {
	rpc.Caller
	refused *int
}

func (c olderVersion) Invoke(ctx context.Context, call rpc.Call) (any, error) {
	if call.Method == "batch" {
		*c.refused++
		return nil, errors.New("no such method")
	}
	return c.Caller.Invoke(ctx, call)
}

// TestWithoutBatches: where the room server knows no batches, it is asked about
// each room.
func TestWithoutBatches(t *testing.T) {
	m := newModelOn(t, true, 0)
	for i := range 3 {
		m.create(fmt.Sprintf("!%d:test", i), alice, bob)
	}
	m.settle()
	k, refused := &keepers{model: m}, 0
	plain := m.s.caller
	fresh := func(c rpc.Caller) *answerOf {
		m.s.caller, m.view.caller = c, c
		for id := range m.order {
			k.evict(id)
		}
		return m.sync(bob, "")
	}
	with := fresh(plain)
	without := fresh(olderVersion{plain, &refused})
	if refused == 0 {
		t.Error("no batch was asked for")
	}
	if len(with.Rooms.Join) != 3 {
		t.Fatalf("%+v", with.Rooms)
	}
	for id, r := range with.Rooms.Join {
		if got := without.Rooms.Join[id]; !slices.Equal(ids(got.Timeline.Events), ids(r.Timeline.Events)) || !slices.Equal(ids(got.State.Events), ids(r.State.Events)) {
			t.Errorf("%s: %+v, with batches %+v", id, got, r)
		}
	}
}
