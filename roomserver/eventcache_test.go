package roomserver

import (
	"testing"

	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
)

func TestEventCache(t *testing.T) {
	event := func(body string) *api.StoredEvent {
		b := gomatrixserverlib.EventBuilder{RoomID: "!r:test", Sender: alice, Type: "m.room.message", Content: []byte(`{"body":"` + body + `"}`), OriginServerTS: 1, Depth: 1}
		e, err := b.Build("10")
		if err != nil {
			t.Fatal(err)
		}
		return &api.StoredEvent{Event: e}
	}
	one := eventBytes(event("a"))
	c := newEventCache(3 * one)
	known := func(nids ...int64) int {
		out := map[int64]*api.StoredEvent{}
		c.get(nids, out)
		return len(out)
	}
	_, before := c.get([]int64{1}, nil)
	for nid, body := range []string{"a", "b", "c"} {
		c.add(map[int64]*api.StoredEvent{int64(nid): event(body)}, before)
	}
	if known(0, 1, 2) != 3 || c.bytes != 3*one {
		t.Fatalf("%d of 3, %d bytes", known(0, 1, 2), c.bytes)
	}
	known(0) // used last
	c.add(map[int64]*api.StoredEvent{3: event("d")}, before)
	if known(0, 2, 3) != 3 || known(1) != 0 || c.bytes != 3*one {
		t.Fatalf("the bound keeps %d bytes", c.bytes)
	}
	c.forget(2)
	if known(2) != 0 || c.bytes != 2*one {
		t.Fatal("a redacted event is kept")
	}
	c.add(map[int64]*api.StoredEvent{2: event("c")}, before)
	if known(2) != 0 {
		t.Fatal("what was read before the redaction came back after it")
	}
	c.clear()
	if known(0, 3) != 0 || c.bytes != 0 {
		t.Fatalf("%d bytes after clear", c.bytes)
	}
}
