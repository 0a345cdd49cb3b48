package syncapi

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/syncapi/storage"
)

func TestConnectionEncoding(t *testing.T) {
	text, empty := "m.room.topic", ""
	wants, err := newRequired([]*wanted{{Include: []element{{Type: &text}, {Type: &empty, Key: &empty}}, Lazy: true}, {Exclude: []element{{Key: &empty}}}})
	if err != nil {
		t.Fatal(err)
	}
	c := &connection{extensions: 5, required: []*required{wants}, rooms: map[string]toldRoom{
		"!a:test": {behind: 1 << 40, limit: 20, required: 0, direct: true}, "!b": {required: -1}}}
	encoded := c.encode()
	got, err := decodeConnection(encoded)
	if err != nil || got.extensions != 5 || !maps.Equal(got.rooms, c.rooms) || len(got.required) != 1 || got.required[0].id != wants.id {
		t.Fatalf("%+v %v", got, err)
	}
	if topic := (gomatrixserverlib.StateKey{Type: text, StateKey: "x"}); !got.required[0].matches(topic) || got.required[0].matches(gomatrixserverlib.StateKey{Type: "x", StateKey: "x"}) {
		t.Errorf("%s matches otherwise", got.required[0].id)
	}
	for n := range encoded {
		if _, err := decodeConnection(encoded[:n]); !errors.Is(err, errConnection) {
			t.Errorf("the first %d bytes are read", n)
		}
	}
}

// FuzzConnection: whatever is stored, reading it is bounded and does not panic.
func FuzzConnection(f *testing.F) {
	f.Add((&connection{rooms: map[string]toldRoom{"!a": {behind: 3, required: -1}}}).encode())
	f.Add([]byte{formatConnection, 0, 1, 2, '[', ']', 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decodeConnection(b)
		if err != nil {
			return
		}
		again, err := decodeConnection(c.encode())
		if err != nil || !maps.Equal(again.rooms, c.rooms) {
			t.Errorf("%v %v", err, again)
		}
	})
}

// TestStatesOfConnection: however often a request is repeated, few states are
// stored, and the one that it came with is among them.
func TestStatesOfConnection(t *testing.T) { sqldbtest.Each(t, testStatesOfConnection) }

func testStatesOfConnection(t *testing.T) {
	m := newModel(t)
	store, c := m.view.store, storage.Connection{UserID: alice, DeviceID: "D", ConnID: "main"}
	most := storage.ConnectionLimits{States: 3, PerDevice: 2, Expired: 50}
	put := func(c storage.Connection, hash, parent string, now int64) {
		t.Helper()
		if err := store.PutConnection(t.Context(), c, hash, parent, []byte(hash), now, most); err != nil {
			t.Fatal(err)
		}
	}
	has := func(c storage.Connection, hash string) bool {
		t.Helper()
		state, _, err := store.Connection(t.Context(), c, hash)
		if err != nil && !errors.Is(err, storage.ErrNoConnection) {
			t.Fatal(err)
		}
		if err == nil && string(state) != hash {
			t.Errorf("%s is %q", hash, state)
		}
		return err == nil
	}
	old := storage.Connection{UserID: bob, DeviceID: "D"}
	put(old, "old", "", 49)
	put(c, "first", "", 100)
	if has(old, "old") {
		t.Error("what nobody has used for long is still there")
	}
	for i := range 10 {
		put(c, fmt.Sprint(i), "first", 101+int64(i))
	}
	for _, hash := range []string{"first", "9", "8", "7"} {
		if !has(c, hash) {
			t.Errorf("%s is gone", hash)
		}
	}
	for i := range 7 {
		if has(c, fmt.Sprint(i)) {
			t.Errorf("%d is still there", i)
		}
	}
	put(c, "next", "9", 120)
	if has(c, "first") {
		t.Error("a state that nobody can ask for any more is still there")
	}
	for i, id := range []string{"second", "third"} {
		put(storage.Connection{UserID: alice, DeviceID: "D", ConnID: id}, "x", "", 130+int64(i))
	}
	if has(c, "next") || !has(storage.Connection{UserID: alice, DeviceID: "D", ConnID: "second"}, "x") {
		t.Error("not the connection that was used longest ago has gone")
	}
}

// TestConnectionsInMemory: what is kept of connections in memory is bounded.
func TestConnectionsInMemory(t *testing.T) {
	s := newConnections()
	big := &connection{rooms: map[string]toldRoom{}}
	for i := range 10_000 {
		big.rooms[fmt.Sprint(i)] = toldRoom{}
	}
	key := func(i int) connectionKey {
		return connectionKey{storage.Connection{UserID: alice, ConnID: strings.Repeat("x", i)}, "h"}
	}
	for i := range 100 {
		s.put(key(i), big)
		s.put(key(i), big)
	}
	if s.bytes > maxConnectionBytes || s.bytes != int64(s.order.Len())*big.size() || len(s.known) != s.order.Len() {
		t.Errorf("%d bytes in %d connections", s.bytes, len(s.known))
	}
	if s.get(key(0)) != nil || s.get(key(99)) != big {
		t.Error("not the last used are there")
	}
}
