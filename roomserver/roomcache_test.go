package roomserver

import (
	"fmt"
	"testing"

	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// TestRoomCacheBound: rooms that grow, or that are made and never looked at
// again, count as much as others, and the bound holds after every batch.
func TestRoomCacheBound(t *testing.T) { sqldbtest.Each(t, testRoomCacheBound) }

func testRoomCacheBound(t *testing.T) {
	r := newRig(t)
	r.s.rooms.max = 200_000
	bounded := func() {
		t.Helper()
		c := r.s.rooms
		c.mu.Lock()
		defer c.mu.Unlock()
		var sum int64
		for _, e := range c.rooms {
			room := e.Value.(*cached).room
			room.mu.RLock()
			sum += room.bytes
			room.mu.RUnlock()
		}
		if sum != c.bytes {
			t.Fatalf("%d rooms hold %d bytes, counted are %d", len(c.rooms), sum, c.bytes)
		}
		if sum > c.max && len(c.rooms) > 1 {
			t.Fatalf("%d rooms hold %d bytes, more than %d", len(c.rooms), sum, c.max)
		}
	}
	var room string
	for range 40 {
		room = r.room("12")
		bounded()
	}
	for i := range 20 {
		if v := r.post(room, proto(alice, "org.example.thing", key(fmt.Sprint(i)), `{"n":1}`)); v.Status != api.StatusAccepted {
			t.Fatalf("%+v", v)
		}
		bounded()
	}
}

// TestRoomReadMeanwhile: a room that was dropped while a batch was handled, and
// read again by somebody who asked, is not kept as it was before the batch.
func TestRoomReadMeanwhile(t *testing.T) { sqldbtest.Each(t, testRoomReadMeanwhile) }

func testRoomReadMeanwhile(t *testing.T) {
	r := newRig(t)
	id := r.room("12")
	w := newWork(r.s, id, r.s.partitionOf(id))
	if err := w.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.s.rooms.remove(id)
	old, err := r.s.roomNow(t.Context(), id)
	if err != nil || old == w.room {
		t.Fatal(old, err)
	}
	w.apply()
	if now, err := r.s.roomNow(t.Context(), id); err != nil || now == old {
		t.Fatal("the room is kept as it was", err)
	}
}
