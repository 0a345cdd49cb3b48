package syncapi

import (
	"fmt"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

// purge has the room server forget events of the test's room.
func (m *model) purge(ids ...string) {
	m.t.Helper()
	m.real.submit(roomapi.InputRecord{Origin: testServer, RoomID: testRoom, Kind: roomapi.KindPurgeHistory, Purge: ids})
	m.settle()
}

// realOnes runs a test on the real room server, with one instance and with several.
func realOnes(t *testing.T, f func(*testing.T, *model)) {
	sqldbtest.Each(t, func(t *testing.T) {
		for _, instances := range []int{0, 3} {
			t.Run(fmt.Sprint(instances), func(t *testing.T) { f(t, newModelOn(t, true, instances)) })
		}
	})
}

// eachWay runs checks on the view as it is, on one that has started anew, and on one
// that has nothing of the room in memory.
func (m *model) eachWay(check func(how string)) {
	check("as it is")
	m.restart()
	m.settle()
	check("restarted")
	for _, s := range m.all {
		s.view.mu.Lock()
		for _, r := range s.view.rooms {
			r.forgetTail(s.view.progress[r.partition])
		}
		s.view.mu.Unlock()
	}
	check("forgotten")
}

// TestHistoryPurged: purged events are gone from answers, from what is kept in
// memory and from rows; tokens from before lead on, and counts are of what is left.
func TestHistoryPurged(t *testing.T) { realOnes(t, historyPurged) }

func historyPurged(t *testing.T, m *model) {
	m.create(testRoom, alice, bob)
	first := m.sync(bob, "", "filter", `{"room":{"timeline":{"limit":100}}}`)
	begun := ids(first.Rooms.Join[testRoom].Timeline.Events)
	var messages []string
	for n := range 6 {
		messages = append(messages, m.message(testRoom, alice, fmt.Sprint("message", n)))
	}
	topic := m.send(sent{room: testRoom, sender: alice, typ: "m.room.topic", key: stateKey(""), content: `{"topic":"x"}`})
	reply := m.related(alice, relThread, messages[1], "")
	kept := m.related(alice, relThread, messages[5], "")
	dropped := m.related(alice, relThread, messages[5], "")
	m.receipt(bob, testRoom, messages[3], receiptPublic, "")
	last := m.message(testRoom, alice, "last!")
	m.settle()
	// messages 4 and 5, and the last one; replies are in threads.
	if got := m.unreadNow(bob)[mainThread]; got != (tallyOf{1, 3}) {
		t.Fatalf("unread before: %+v", got)
	}
	middle := m.sync(bob, first.Next, "filter", `{"room":{"timeline":{"limit":100}}}`)
	if n := len(middle.Rooms.Join[testRoom].Timeline.Events); n != 11 {
		t.Fatalf("%d events before", n)
	}
	limited := m.sync(bob, first.Next, "filter", `{"room":{"timeline":{"limit":3}}}`).Rooms.Join[testRoom].Timeline
	if !limited.Limited {
		t.Fatal("the timeline is not limited")
	}

	gone := []string{messages[0], messages[1], messages[3], messages[4], reply, dropped}
	m.purge(append([]string{last, topic}, gone...)...)
	left := []string{messages[2], messages[5], topic, kept, last}
	m.eachWay(func(how string) {
		t.Helper()
		whole := m.sync(bob, "", "filter", `{"room":{"timeline":{"limit":100,"unread_thread_notifications":true}}}`).Rooms.Join[testRoom]
		if got := ids(whole.Timeline.Events); !slices.Equal(got, slices.Concat(begun, left)) {
			t.Errorf("%s: all: %v, want %v", how, got, slices.Concat(begun, left))
		}
		news := m.sync(bob, first.Next, "filter", `{"room":{"timeline":{"limit":100}}}`)
		if got := ids(news.Rooms.Join[testRoom].Timeline.Events); !slices.Equal(got, left) {
			t.Errorf("%s: since then: %v, want %v", how, got, left)
		}
		// A token from within what was purged.
		if got := m.fill(bob, testRoom, limited.Prev, first.Next); len(got) < 3 || !slices.Equal(got, left[:min(len(got), len(left))]) {
			t.Errorf("%s: back from a token: %v, want the first of %v", how, got, left)
		}
		// messages[5] has a thread with kept in it; the last one highlights.
		if got, want := m.unreadNow(bob), map[string]tallyOf{mainThread: {1, 2}, messages[5]: {0, 1}}; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: unread: %v, want %v", how, got, want)
		}
		m.noneOf(how, gone)
		m.threadsLeft(how, messages[5], kept)
	})
	// Who knows all hears only that less is unread.
	after := m.sync(bob, middle.Next)
	if r, ok := after.Rooms.Join[testRoom]; !ok || len(r.Timeline.Events) > 0 || r.Unread.Notifications != 3 {
		t.Errorf("after the purge: %+v", after.Rooms)
	}
}

// noneOf checks that events cannot be had by their IDs.
func (m *model) noneOf(how string, gone []string) {
	m.t.Helper()
	for _, id := range gone {
		path := map[string]string{"roomId": testRoom, "eventId": id}
		var into any
		for name, err := range map[string]error{"event": m.get(m.s.event, bob, "", path, &into), "context": m.get(m.s.context, bob, "", path, &into),
			"relations": m.get(m.s.relations, bob, "", path, &into)} {
			if !matrixerror.Is(err, "M_NOT_FOUND") {
				m.t.Errorf("%s: %s of %s: %v", how, name, id, err)
			}
		}
	}
}

// threadsLeft checks that there is one thread, with one event.
func (m *model) threadsLeft(how, root, child string) {
	m.t.Helper()
	var page struct {
		Chunk []eventOf `json:"chunk"`
	}
	if err := m.get(m.s.threads, bob, "", map[string]string{"roomId": testRoom}, &page); err != nil || !slices.Equal(ids(page.Chunk), []string{root}) {
		m.t.Errorf("%s: threads %v, %v, want %s", how, ids(page.Chunk), err, root)
	}
	if err := m.get(m.s.relations, bob, "", map[string]string{"roomId": testRoom, "eventId": root}, &page); err != nil || !slices.Equal(ids(page.Chunk), []string{child}) {
		m.t.Errorf("%s: relations %v, %v, want %s", how, ids(page.Chunk), err, child)
	}
}

// TestPurgedForGood: with everything purged but state and the last event, history
// ends cleanly from wherever somebody goes.
func TestPurgedForGood(t *testing.T) { realOnes(t, purgedForGood) }

func purgedForGood(t *testing.T, m *model) {
	m.create(testRoom, alice, bob)
	var messages []string
	for n := range 200 { // more than a tail holds
		messages = append(messages, m.message(testRoom, alice, fmt.Sprint(n)))
	}
	m.settle()
	page := func(q url.Values) (out struct {
		Chunk []eventOf `json:"chunk"`
		Start string    `json:"start"`
		End   string    `json:"end"`
	}) {
		t.Helper()
		if err := m.get(m.s.messages, bob, q.Encode(), map[string]string{"roomId": testRoom}, &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	middle := page(url.Values{"dir": {"b"}, "limit": {"100"}}).End
	since := m.sync(bob, "").Next
	m.message(testRoom, alice, "more")
	m.settle()
	all := m.sync(bob, since).Next
	last := m.message(testRoom, alice, "last")
	m.purge(append(slices.Clone(messages), last)...)
	m.eachWay(func(how string) {
		t.Helper()
		for _, dir := range []string{"b", "f"} {
			var got []string
			for from := middle; from != ""; {
				p := page(url.Values{"dir": {dir}, "limit": {"3"}, "from": {from}})
				if len(p.Chunk) == 0 && p.End != "" {
					t.Fatalf("%s, %s: nothing, and yet more", how, dir)
				}
				got, from = append(got, ids(p.Chunk)...), p.End
			}
			if want := map[string]int{"b": 4, "f": 2}[dir]; len(got) != want {
				t.Errorf("%s, %s: %d events, want %d", how, dir, len(got), want)
			}
		}
		if r := m.sync(bob, all).Rooms.Join[testRoom]; !slices.Equal(ids(r.Timeline.Events), []string{last}) {
			t.Errorf("%s: %v, want %s", how, ids(r.Timeline.Events), last)
		}
		if r := m.sync(bob, "").Rooms.Join[testRoom]; len(r.Timeline.Events) != 6 || r.Unread.Notifications != 2 {
			t.Errorf("%s: %d events, %+v unread", how, len(r.Timeline.Events), r.Unread)
		}
	})
}

// TestExpired: what has outlived the room's policy is not shown, though nothing is
// purged; the latest policy counts for all.
func TestExpired(t *testing.T) { realOnes(t, testExpired) }

func testExpired(t *testing.T, m *model) {
	m.retention = config.Retention{Enabled: true}
	m.restart()
	m.create(testRoom, alice, bob)
	since := m.sync(bob, "").Next
	var messages []string
	for n := range 6 {
		messages = append(messages, m.message(testRoom, alice, fmt.Sprint(n, "!")))
	}
	thread := m.related(alice, relThread, messages[5], "")
	found, err := m.sentAt(messages[3])
	if err != nil {
		t.Fatal(err)
	}
	at := time.UnixMilli(found)
	// Right then, messages of before messages[3] are over a second old.
	clock := func() {
		for _, s := range m.all {
			s.now = func() time.Time { return at.Add(time.Second) }
		}
	}
	policy := func(content string) string {
		return m.send(sent{room: testRoom, sender: alice, typ: "m.room.retention", key: stateKey(""), content: content})
	}
	policy(`{"max_lifetime":60000}`)
	short := policy(`{"max_lifetime":1000}`)
	m.settle()
	clock()
	m.eachWay(func(how string) {
		clock()
		a := m.sync(bob, since, "filter", `{"room":{"timeline":{"limit":100,"unread_thread_notifications":true}}}`)
		got := ids(a.Rooms.Join[testRoom].Timeline.Events)
		if len(got) != 6 || got[0] != messages[3] || got[5] != short {
			t.Errorf("%s: since then: %v", how, got)
		}
		if u := m.unreadNow(bob); u[mainThread] != (tallyOf{3, 3}) || u[messages[5]] != (tallyOf{0, 1}) {
			t.Errorf("%s: unread: %v", how, u)
		}
		if back := m.fill(bob, testRoom, a.Next, since); len(back) == 0 || slices.ContainsFunc(messages[:3], func(id string) bool { return slices.Contains(back, id) }) {
			t.Errorf("%s: back: %v", how, back)
		}
		m.noneOf(how, messages[:3])
		m.threadsLeft(how, messages[5], thread)
		var closest struct {
			ID string `json:"event_id"`
		}
		if err := m.get(m.s.timestampToEvent, bob, fmt.Sprintf("dir=f&ts=%d", found-2), map[string]string{"roomId": testRoom}, &closest); err != nil || closest.ID != messages[3] {
			t.Errorf("%s: closest to %d: %v, %v", how, found-2, closest, err)
		}
	})
	policy(`{"max_lifetime":60000}`)
	m.settle()
	if got := ids(m.sync(bob, since, "filter", `{"room":{"timeline":{"limit":100}}}`).Rooms.Join[testRoom].Timeline.Events); len(got) != 10 {
		t.Errorf("with a longer policy: %v", got)
	}
}

// sentAt tells when an event was sent.
func (m *model) sentAt(id string) (int64, error) {
	var got struct {
		TS int64 `json:"origin_server_ts"`
	}
	err := m.get(m.s.event, bob, "", map[string]string{"roomId": testRoom, "eventId": id}, &got)
	return got.TS, err
}
