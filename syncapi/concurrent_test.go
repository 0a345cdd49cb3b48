package syncapi

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/syncapi/storage"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// TestManyReadersSmallCaches has users read by long polls while others write,
// with caches so small that rooms and users are dropped all the time: everybody
// still sees everything once and in order.
func TestManyReadersSmallCaches(t *testing.T) { both(t, manyReaders) }

func manyReaders(t *testing.T, m *model) {
	const users, events = 6, 150
	m.view.mu.Lock()
	m.view.maxBytes, m.view.maxUsers = 40_000, 2
	m.view.mu.Unlock()
	rooms := []string{"!a:test", "!b:test", "!c:test", "!d:test"}
	var readers []string
	for i := range users {
		readers = append(readers, fmt.Sprintf("@u%d:test", i))
	}
	for _, id := range rooms {
		m.create(id, alice, readers...)
	}
	var wg sync.WaitGroup
	seen := make([]map[string][]string, users)
	for i, id := range readers {
		first := m.sync(id, "", "filter", `{"room":{"timeline":{"limit":0}}}`)
		seen[i] = map[string][]string{}
		wg.Go(func() { m.readAll(t, id, first.Next, seen[i], events) })
	}
	for i := range events {
		m.message(rooms[i%len(rooms)], alice, "x")
	}
	wg.Wait()
	for i := range users {
		for _, id := range rooms {
			want := m.order[id][3+users:]
			if !slices.Equal(seen[i][id], want) {
				t.Errorf("user %d saw %d of %d events of %s, or not in order", i, len(seen[i][id]), len(want), id)
			}
		}
	}
}

// readAll long-polls until it has seen the events, filling gaps.
func (m *model) readAll(t *testing.T, user, since string, seen map[string][]string, events int) {
	for n := 0; n < events; {
		a, err := m.trySync(context.Background(), user, since, "timeout", "10000", "filter", `{"room":{"timeline":{"limit":3}}}`)
		if err != nil {
			t.Error(err)
			return
		}
		if a.Next == since {
			t.Errorf("%s waited in vain after %d events", user, n)
			return
		}
		for id, r := range a.Rooms.Join {
			if r.Timeline.Limited {
				older := m.fill(user, id, r.Timeline.Prev, since)
				n += len(older)
				seen[id] = append(seen[id], older...)
			}
			n += len(r.Timeline.Events)
			seen[id] = append(seen[id], ids(r.Timeline.Events)...)
		}
		since = a.Next
	}
}

func TestMembershipThroughTime(t *testing.T) {
	m := &membership{}
	for _, seq := range []int64{5, 3, 9, 5} {
		state := map[int64]string{3: "invite", 5: "join", 9: "leave"}[seq]
		m.put(storage.Membership{Seq: seq, Membership: state})
	}
	for seq, want := range map[int64]string{1: "", 3: "invite", 4: "invite", 5: "join", 8: "join", 9: "leave", 99: "leave"} {
		if got := m.at(seq).Membership; got != want {
			t.Errorf("at %d: %q, not %q", seq, got, want)
		}
	}
	if !m.stayed(5, 8) || m.stayed(5, 9) || m.stayed(3, 8) {
		t.Error("stayed")
	}
	m.forgotten = 9
	if !m.isForgotten(20) {
		t.Error("not forgotten")
	}
	m.put(storage.Membership{Seq: 12, Membership: "invite"})
	if m.isForgotten(20) || !m.isForgotten(11) {
		t.Error("forgotten after a new invite")
	}
	for seq := range int64(3 * maxChanges) {
		m.put(storage.Membership{Seq: 100 + seq, Membership: "join"})
	}
	if len(m.changes) != maxChanges {
		t.Errorf("%d changes are kept", len(m.changes))
	}
}

func TestTailIsBounded(t *testing.T) {
	r := &room{active: map[*user]struct{}{}}
	ev := testEvent(t, "m.room.message", alice, `{}`)
	var grown int64
	for seq := range int64(1000) {
		stored := *ev.StoredEvent
		stored.Position.Seq = seq + 1
		grown += r.add(fromStored(&stored))
	}
	if n := len(r.tail.events); n < maxTail || n > 2*maxTail {
		t.Errorf("%d events are kept", n)
	}
	if grown != r.bytes || grown != int64(len(r.tail.events))*ev.size() {
		t.Errorf("%d bytes are counted for %d events", r.bytes, len(r.tail.events))
	}
	events, whole := r.window(990, 995)
	if !whole || len(events) != 5 || events[0].Position.Seq != 991 {
		t.Errorf("window: %d events, %v", len(events), whole)
	}
	if _, whole := r.window(r.tail.from-1, 1000); whole {
		t.Error("a tail says that it is whole though it is not")
	}
	if freed := r.forgetTail(1000); freed != grown {
		t.Errorf("freed %d of %d bytes", freed, grown)
	}
	if _, whole := r.window(1000, 1001); !whole {
		t.Error("an empty tail is not whole after what was applied")
	}
}

func TestIgnoredListIsAnything(t *testing.T) {
	for _, text := range []string{``, `3`, `{}`, `{"ignored_users":[]}`, `{"ignored_users":null}`} {
		if got := userapi.IgnoredUsers(jsontext.Value(text)); len(got) != 0 {
			t.Errorf("%s ignores %v", text, got)
		}
	}
	if got := userapi.IgnoredUsers(jsontext.Value(`{"ignored_users":{"@a:b":{}}}`)); len(got) != 1 {
		t.Errorf("ignores %v", got)
	}
}
