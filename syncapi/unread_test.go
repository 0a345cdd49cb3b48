package syncapi

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
)

const threads = `{"room":{"timeline":{"unread_thread_notifications":true}}}`

// simpleRules notify of every message, and highlight those with an exclamation mark.
func simpleRules(m *model) {
	for _, s := range m.all {
		s.judge = func(*user, *room) judging {
			return func(_ context.Context, ev *event) (bool, bool, error) {
				return ev.Type() == "m.room.message", bytes.Contains(ev.Content(), []byte("!")), nil
			}
		}
	}
}

// unreadNow is what a fresh client is told to be unread.
func (m *model) unreadNow(user string) map[string]tallyOf {
	m.t.Helper()
	m.settle()
	r := m.sync(user, "", "filter", threads).Rooms.Join[testRoom]
	out := map[string]tallyOf{mainThread: r.Unread}
	maps.Copy(out, r.Threads)
	return out
}

func TestUnreadCounts(t *testing.T) { both(t, unreadCounts) }

func unreadCounts(t *testing.T, m *model) {
	m.create(testRoom, alice, bob)
	expect := func(what string, want map[string]tallyOf) {
		t.Helper()
		if got := m.unreadNow(bob); !maps.Equal(got, want) {
			t.Errorf("%s: %v, not %v", what, got, want)
		}
	}
	root := m.message(testRoom, alice, "one")
	second := m.message(testRoom, alice, "two!")
	expect("two messages", map[string]tallyOf{mainThread: {1, 2}})
	m.message(testRoom, bob, "mine")
	expect("own ones do not count", map[string]tallyOf{mainThread: {1, 2}})
	m.receipt(bob, testRoom, root, receiptPrivate, "")
	expect("one read", map[string]tallyOf{mainThread: {1, 1}})
	m.receipt(bob, testRoom, second, receiptPublic, "")
	expect("both read", map[string]tallyOf{mainThread: {}})
	inThread := m.related(alice, relThread, root, "")
	m.send(sent{room: testRoom, sender: alice, typ: "m.room.message",
		content: `{"body":"edited!","m.new_content":{},"m.relates_to":{"rel_type":"m.replace","event_id":"` + inThread + `"}}`})
	main := m.message(testRoom, alice, "three")
	expect("a thread", map[string]tallyOf{mainThread: {0, 1}, root: {1, 2}})
	if r := m.sync(bob, "").Rooms.Join[testRoom]; r.Unread != (tallyOf{1, 3}) || len(r.Threads) > 0 {
		t.Errorf("without threads: %+v", r.Unread)
	}
	m.receipt(bob, testRoom, main, receiptPublic, "main")
	expect("main read", map[string]tallyOf{mainThread: {}, root: {1, 2}})
	m.receipt(bob, testRoom, inThread, receiptPublic, root)
	expect("thread read in part", map[string]tallyOf{mainThread: {}, root: {1, 1}})
	redacted := m.message(testRoom, alice, "gone")
	expect("one more", map[string]tallyOf{mainThread: {0, 1}, root: {1, 1}})
	m.send(sent{room: testRoom, sender: alice, typ: "m.room.redaction", content: `{}`, redacts: redacted})
	expect("redacted", map[string]tallyOf{mainThread: {}, root: {1, 1}})
}

func TestReceiptWaitsForItsEvent(t *testing.T) { sqldbtest.Each(t, testReceiptWaitsForItsEvent) }

func testReceiptWaitsForItsEvent(t *testing.T) {
	m := newModel(t)
	m.create(testRoom, alice, bob)
	m.message(testRoom, alice, "one")
	m.unreadNow(bob)
	ev := testEvent(t, "m.room.message", alice, `{"body":"later"}`)
	m.receipt(bob, testRoom, ev.EventID(), receiptPublic, "")
	if got := m.unreadNow(bob); got[mainThread].Notifications != 1 {
		t.Fatalf("before: %v", got)
	}
	stored := *ev.StoredEvent
	m.publish(recordOf(&stored), ev.JSON())
	if got := m.unreadNow(bob); got[mainThread].Notifications != 0 {
		t.Fatalf("after: %v", got)
	}
}

// TestUnreadIsAFold checks that counts kept step by step are those that a
// server without any memory computes.
func TestUnreadIsAFold(t *testing.T) { sqldbtest.Each(t, testUnreadIsAFold) }

func testUnreadIsAFold(t *testing.T) {
	for seed := range uint64(3) {
		random := rand.New(rand.NewPCG(seed, 11))
		m := newModel(t)
		m.create(testRoom, alice, bob)
		events := []string{m.message(testRoom, alice, "root")}
		roots := []string{events[0]}
		for range 250 {
			switch random.IntN(12) {
			case 0:
				id := events[random.IntN(len(events))]
				thread := []string{"", "main", roots[random.IntN(len(roots))]}[random.IntN(3)]
				if m.forward(bob, thread, id) {
					m.receipt(bob, testRoom, id, []string{receiptPublic, receiptPrivate}[random.IntN(2)], thread)
				}
			case 1:
				events = append(events, m.message(testRoom, bob, "mine"))
			case 2, 3:
				events = append(events, m.related(alice, relThread, roots[random.IntN(len(roots))], ""))
			case 4:
				roots = append(roots, m.message(testRoom, alice, "root!"))
				events = append(events, roots[len(roots)-1])
			default:
				events = append(events, m.message(testRoom, alice, fmt.Sprint("x", random.IntN(3))))
			}
			if random.IntN(4) == 0 {
				m.unreadNow(bob)
			}
		}
		kept := m.unreadNow(bob)
		m.restart()
		if resumed := m.unreadNow(bob); !maps.Equal(kept, resumed) {
			t.Errorf("seed %d: after a restart %v, not %v", seed, resumed, kept)
		}
		u, err := m.view.user(t.Context(), bob)
		if err != nil {
			t.Fatal(err)
		}
		u.mu.Lock()
		u.counts[testRoom] = &unread{places: u.counts[testRoom].places, seq: 1}
		u.mu.Unlock()
		m.view.release(u)
		if fresh := m.unreadNow(bob); !maps.Equal(kept, fresh) {
			t.Errorf("seed %d: counted anew %v, not %v", seed, fresh, kept)
		}
	}
}

// forward tells whether a receipt would move on: clients do not send others.
func (m *model) forward(user, thread, eventID string) bool {
	m.settle()
	place := map[string]int64{}
	for i, id := range m.order[testRoom] {
		place[id] = int64(i)
	}
	m.view.mu.Lock()
	r := m.view.rooms[testRoom]
	m.view.mu.Unlock()
	for _, rec := range r.receiptsOf(user) {
		if rec.ThreadID == thread && place[rec.EventID] >= place[eventID] {
			return false
		}
	}
	return true
}
