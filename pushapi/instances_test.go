package pushapi

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/testwait"
)

func (s *Server) owned() (n int) {
	for p := range partitions {
		if s.judged.Valid(p) {
			n++
		}
	}
	return n
}

// TestInstances: instances come and go while events are sent and pushers are made;
// every gateway is told of each event at least once, in order of its first telling
// within a room, and never of two at once.
func TestInstances(t *testing.T) { engines(t, testInstances) }

func testInstances(t *testing.T, w *world) {
	w.shared = true
	rooms := []string{"!a:test", "!b:test", "!c:test", "!d:test"}
	for _, id := range rooms {
		for _, user := range []string{alice, bob, carol} {
			w.member(id, user, user, "join")
		}
	}
	a, stopA := w.server()
	b, stopB := w.server()
	testwait.Until(t, "two share", func() bool { return a.owned() == 1 && b.owned() == 1 })
	w.pusher(a, alice, "a", "")
	w.pusher(a, carol, "c", "")
	testwait.Until(t, "both know", func() bool { return b.people.count() == 2 })
	random := rand.New(rand.NewPCG(3, 4))
	want := map[string][]string{}
	stops := []func(){stopA, stopB}
	for round := range 4 {
		for i := range 20 {
			id := rooms[random.IntN(len(rooms))]
			want[id] = append(want[id], w.message(id, bob, fmt.Sprint(round, i)))
		}
		stops[0]() // with work under way
		_, stop := w.server()
		stops = append(stops[1:], stop)
	}
	for _, key := range []string{"a", "c"} {
		testwait.Until(t, key+" is told of all", func() bool {
			told := w.gateway.about(key)
			return !slices.ContainsFunc(rooms, func(id string) bool {
				return slices.ContainsFunc(want[id], func(event string) bool { return !slices.Contains(told, event) })
			})
		})
		told := w.gateway.about(key)
		for _, id := range rooms {
			last := -1
			for _, event := range want[id] {
				if at := slices.Index(told, event); at < last {
					t.Errorf("%s was told of %s too early", key, event)
				} else {
					last = at
				}
			}
		}
	}
	if w.gateway.overlaps > 0 {
		t.Errorf("%d requests for a pusher while another was being made", w.gateway.overlaps)
	}
}

// TestEffectsAreNotLost: what an instance did not store it, or another, does again:
// events judged in a transaction that fails are judged anew.
func TestEffectsAreNotLost(t *testing.T) { engines(t, testEffectsAreNotLost) }

func testEffectsAreNotLost(t *testing.T, w *world) {
	w.shared = true
	w.create(alice, bob, carol)
	a, stopA := w.server()
	w.pusher(a, alice, "a", "")
	testwait.Until(t, "it has all", func() bool { return a.owned() == partitions })
	if err := a.db.Write(t.Context(), takeAll); err != nil { // its lease is lost, unnoticed
		t.Fatal(err)
	}
	one := w.message(room, bob, "one")
	two := w.message(room, bob, "two")
	w.expect("a", one, two)
	stopA()
	three := w.message(room, bob, "three")
	w.server()
	w.expect("a", one, two, three)
}

// takeAll takes all partitions away from who has them.
func takeAll(tx *sqldb.Tx) error {
	_, err := tx.Exec(context.Background(), "UPDATE lease_partitions SET epoch = epoch + 1, owner = '', expiry = 0")
	return err
}
