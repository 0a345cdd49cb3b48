package syncapi

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"sync"
	"testing"

	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

// TestKeptIsWhatTheRoomServerSays: after whatever happens, what is kept of rooms
// and what is shown from that is what the room server says, on every instance.
func TestKeptIsWhatTheRoomServerSays(t *testing.T) { both(t, keptIsTrue) }

func keptIsTrue(t *testing.T, m *model) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	k := &keepers{model: m, random: rand.New(rand.NewPCG(seed, 1)), rooms: []string{"!a:test", "!b:test"}}
	for _, s := range m.all {
		s.view.mu.Lock()
		s.view.maxBytes = 2 << 20 // so that the bounds are met
		s.view.mu.Unlock()
	}
	for _, id := range k.rooms {
		m.create(id, alice, bob)
	}
	m.settle()
	var readers sync.WaitGroup
	done := make(chan struct{})
	if m.real != nil { // the model's own rooms change without a lock
		for i := range 2 {
			random := rand.New(rand.NewPCG(seed, uint64(i)+2))
			readers.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
						k.read(random)
					}
				}
			})
		}
	}
	for range 60 {
		k.step()
		if k.random.IntN(8) == 0 {
			m.settle()
			k.check()
		}
	}
	close(done)
	readers.Wait()
	m.settle()
	k.check()
}

// keepers changes rooms and reads them, at random.
type keepers struct {
	*model
	random *rand.Rand
	rooms  []string
}

// step does something to a room, or reads it.
func (k *keepers) step() {
	room := k.rooms[k.random.IntN(len(k.rooms))]
	text := fmt.Sprint(k.random.IntN(1000))
	switch n := k.random.IntN(14); n {
	case 0, 1, 2, 3:
		for range 1 + k.random.IntN(25) {
			k.message(room, alice, text)
		}
	case 4:
		k.topic(room, text)
	case 5:
		k.send(sent{room: room, sender: bob, typ: typeMember, key: stateKey(bob), content: `{"membership":"join","displayname":"` + text + `"}`})
	case 6:
		k.member(room, carol, carol, "join")
		k.message(room, carol, text)
		if k.random.IntN(2) == 0 {
			k.member(room, carol, carol, "leave")
		}
	case 7:
		hv := []string{"shared", "invited", "joined", "world_readable"}[k.random.IntN(4)]
		k.send(sent{room: room, sender: alice, typ: "m.room.history_visibility", key: stateKey(""), content: `{"history_visibility":"` + hv + `"}`})
	case 8, 9:
		k.redactOne(room)
	case 10:
		k.evict(room)
	case 11:
		if k.real == nil {
			k.settle()
			k.otherKinds(room, text)
		}
	default:
		k.read(k.random)
	}
}

// redactOne redacts an event of late that is not needed for the room to work.
func (k *keepers) redactOne(room string) {
	list := k.order[room]
	i := max(len(list)-1-k.random.IntN(100), 4)
	if i >= len(list) {
		return
	}
	k.redact(room, list[i])
}

// evict drops what is in memory of a room, as happens where there is too much.
func (k *keepers) evict(room string) {
	for _, s := range k.all {
		s.view.mu.Lock()
		if r := s.view.rooms[room]; r != nil {
			s.view.bytes -= r.forgetTail(s.view.progress[r.partition])
		}
		s.view.mu.Unlock()
	}
}

// otherKinds publishes a record of another kind.
func (k *keepers) otherKinds(room, text string) {
	topic := topicIn(room, text)
	plain := sent{room: room, sender: "@r:remote", typ: "m.room.message", content: `{"body":"` + text + `"}`}
	switch k.random.IntN(4) {
	case 0:
		k.tell(roomapi.OutputRecord{Kind: roomapi.OutputState, RoomID: room}, nil, k.random.IntN(2) == 0, k.build(topic))
	case 1:
		ev := k.build(topic)
		k.tell(roomapi.OutputRecord{Kind: roomapi.OutputUnrejected, RoomID: room}, ev, false, ev)
	case 2:
		events := k.room(room).events
		place := events[k.random.IntN(len(events))].Position
		place.Sub -= 100 + k.random.Int64N(1000)
		k.tell(roomapi.OutputRecord{Kind: roomapi.OutputUnrejected, RoomID: room, Place: place}, k.build(plain), false)
	case 3:
		gap := k.build(plain)
		k.tell(roomapi.OutputRecord{Kind: roomapi.OutputEvent, RoomID: room, Limited: true}, gap, false)
		place := gap.Position
		place.Sub = -1
		k.tell(roomapi.OutputRecord{Kind: roomapi.OutputBackfilled, RoomID: room, Place: place}, k.build(plain), false)
	}
}

// read reads rooms in one of the ways that have something kept.
func (k *keepers) read(random *rand.Rand) {
	user := []string{alice, bob, carol}[random.IntN(3)]
	filter := []string{`{}`, `{"room":{"state":{"lazy_load_members":true}}}`, `{"room":{"timeline":{"limit":50}}}`}[random.IntN(3)]
	if _, err := k.trySync(context.Background(), user, "", "filter", filter); err != nil {
		k.t.Error(err)
	}
	s := k.all[random.IntN(len(k.all))]
	if _, err := k.walk(s, bob, k.rooms[random.IntN(len(k.rooms))], 1+random.IntN(60), 4); err != nil {
		k.t.Error(err)
	}
}

// walk pages back through a room.
func (k *keepers) walk(s *Server, user, room string, limit, pages int) (got []string, err error) {
	q := url.Values{"dir": {"b"}, "limit": {fmt.Sprint(limit)}}
	for range pages {
		var page pageOf
		if err := k.get(s.messages, user, q.Encode(), map[string]string{"roomId": room}, &page); err != nil {
			return nil, err
		}
		for _, ev := range page.Chunk {
			got = append(got, ev.ID+string(ev.Content))
		}
		if page.End == "" {
			return got, nil
		}
		q.Set("from", page.End)
	}
	return got, nil
}

// check compares what every instance keeps and shows with the room server.
func (k *keepers) check() {
	k.t.Helper()
	for i, s := range k.all {
		for _, room := range k.rooms {
			s.view.mu.Lock()
			r := s.view.rooms[room]
			s.view.mu.Unlock()
			if r != nil {
				k.checkState(i, s, r)
				k.checkOlder(i, s, r)
			}
			for _, user := range []string{alice, bob} {
				k.checkPages(i, s, user, room)
			}
		}
		k.checkBytes(i, s.view)
	}
}

func sameEvent(a, b *event) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.EventID() == b.EventID() && string(a.JSON()) == string(b.JSON()) && a.RedactedBy == b.RedactedBy
}

func (k *keepers) checkState(i int, s *Server, r *room) {
	res, err := roomapi.QueryState.Call(context.Background(), k.calls, &roomapi.StateRequest{RoomID: r.id})
	if err != nil {
		k.t.Fatal(err)
	}
	want := stateFrom(res.Events)
	r.mu.RLock()
	defer r.mu.RUnlock()
	for key, ev := range r.kept.entries {
		if !sameEvent(ev, want[key]) {
			k.t.Fatalf("instance %d: %s of %s is kept as %v, not %v", i, key, r.id, ev, want[key])
		}
	}
	for key := range want {
		if _, kept := r.kept.entries[key]; !kept && r.kept.complete(key) {
			k.t.Fatalf("instance %d: %s of %s is kept as none", i, key, r.id)
		}
	}
}

func (k *keepers) checkOlder(i int, s *Server, r *room) {
	r.mu.RLock()
	o, from := r.older, r.tail.from
	r.mu.RUnlock()
	if len(o.events) == 0 {
		return
	}
	res, err := roomapi.QueryHistory.Call(context.Background(), k.calls, &roomapi.HistoryRequest{
		RoomID: r.id, From: roomapi.Position{Partition: r.partition, Seq: from}, Backwards: true, Limit: len(o.events)})
	if err != nil {
		k.t.Fatal(err)
	}
	if !slices.EqualFunc(o.events, fromAllStored(res.Events), sameEvent) || o.complete && res.More {
		k.t.Fatalf("instance %d: of %s %d events are kept, complete %v, and not as the room server has them", i, r.id, len(o.events), o.complete)
	}
}

// checkPages compares pages with the room server's history for the user.
func (k *keepers) checkPages(i int, s *Server, user, room string) {
	got, err := k.walk(s, user, room, 30, 1000)
	if err != nil {
		k.t.Fatal(err)
	}
	var want []string
	req := &roomapi.HistoryRequest{RoomID: room, Backwards: true, Limit: 1000, Viewer: user}
	for more := true; more; {
		res, err := roomapi.QueryHistory.Call(context.Background(), k.calls, req)
		if err != nil {
			k.t.Fatal(err)
		}
		for _, ev := range res.Events {
			want = append(want, ev.EventID()+string(ev.Content()))
		}
		more = res.More
		next := *req
		next.From = res.Next
		req = &next
	}
	if !slices.Equal(got, want) {
		at := 0
		for at < min(len(got), len(want)) && got[at] == want[at] {
			at++
		}
		k.t.Fatalf("instance %d: %s sees %d events of %s, not %d; they differ from %d on", i, user, len(got), room, len(want), at)
	}
}

// checkBytes counts again what is in memory.
func (k *keepers) checkBytes(i int, v *view) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var all int64
	for _, r := range v.rooms {
		r.mu.RLock()
		var tail, kept, older int64
		for _, ev := range r.tail.events {
			tail += ev.size()
		}
		for _, ev := range r.kept.entries {
			kept += entryBytes(ev)
		}
		kept += r.kept.pastBytes()
		for _, ev := range r.older.events {
			older += ev.size()
		}
		if kept != r.kept.bytes || older != r.older.bytes || tail+kept+older != r.bytes || older > r.mostOlder || kept > r.mostState {
			k.t.Errorf("instance %d: %s has %d + %d + %d bytes, and counts %d with %d and %d", i, r.id, tail, kept, older, r.bytes, r.kept.bytes, r.older.bytes)
		}
		all += r.bytes
		r.mu.RUnlock()
	}
	if all != v.bytes {
		k.t.Errorf("instance %d counts %d bytes, the rooms %d", i, v.bytes, all)
	}
}
