package admin

import (
	"bytes"
	"context"
	"errors"
	"net/url"
	"slices"
	"testing"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/sqldb"
)

// TestRepartition: with more partitions, and then with fewer, everybody goes on
// where they were, with tokens of any time.
func TestRepartition(t *testing.T) {
	old := newHome(t)
	l := old.live()
	old.mustStart()
	point := old.call(l.bob, "GET", "/rooms/"+url.PathEscape(l.room)+"/messages?dir=b&limit=3", object{})["end"].(string)
	before := old.before(l.bob, l.room, point)
	old.stop()
	old.leaveUnread(l.room)

	more := old.sibling()
	more.config.EventLog.Partitions = 7
	var out bytes.Buffer
	if err := old.repartitionTo(t.Context(), more, &out); err != nil {
		t.Fatal(err)
	}
	t.Log(out.String())
	more.mustStart()
	l.check(more)
	if got := more.before(l.bob, l.room, point); !slices.Equal(got, before) {
		t.Fatalf("before an old point there is %v, was %v", got, before)
	}
	rooms := more.newRooms(l.alice, 8)
	kept := map[string]string{"first": l.since, "second": more.sync(l.bob, "")["next_batch"].(string)}
	l.seen = more.history(l.bob, l.room)
	more.stop()

	fewer := more.sibling()
	fewer.config.EventLog.Partitions = 3
	if err := more.repartitionTo(t.Context(), fewer, &out); err != nil {
		t.Fatal(err)
	}
	fewer.mustStart()
	defer fewer.stop()
	if got := fewer.history(l.bob, l.room); !slices.Equal(got, l.seen) {
		t.Fatalf("after the second time the room has %v, had %v", got, l.seen)
	}
	new := fewer.send(l.alice, l.room, "newer", "still here")
	fewer.sync(l.bob, "") // shows it
	since := slices.Index(l.seen, l.missed[0])
	if got := timeline(fewer.sync(l.bob, kept["first"]), l.room); !slices.Equal(got, append(slices.Clone(l.seen[since:]), new)) {
		t.Fatalf("a token of the first place gives %v, want %v and %s", got, l.seen[since:], new)
	}
	if got := timeline(fewer.sync(l.bob, kept["second"]), l.room); !slices.Equal(got, []string{new}) {
		t.Fatalf("a token of the second place gives %v, want %s", got, new)
	}
	for _, room := range rooms {
		sent := fewer.send(l.alice, room, "x", "you too")
		if got := fewer.history(l.alice, room); got[len(got)-1] != sent {
			t.Fatalf("%s ends with %s, not %s", room, got[len(got)-1], sent)
		}
	}
}

// before are the events of a room before a point.
func (h *home) before(u user, room, point string) []string {
	h.Helper()
	var out []string
	q := url.Values{"dir": {"b"}, "limit": {"5"}, "from": {point}}
	for _, e := range list(h.call(u, "GET", "/rooms/"+url.PathEscape(room)+"/messages?"+q.Encode(), object{})["chunk"]) {
		out = append(out, e.(object)["event_id"].(string))
	}
	return out
}

// newRooms makes rooms, some in each partition.
func (h *home) newRooms(u user, n int) (out []string) {
	h.Helper()
	used := map[int]bool{}
	for range n {
		room := h.call(u, "POST", "/createRoom", object{})["room_id"].(string)
		used[eventlog.PartitionFor(room, h.config.EventLog.Partitions)] = true
		out = append(out, room)
	}
	if len(used) < 2 {
		h.Fatal("all rooms are in one partition")
	}
	return out
}

// TestRepartitionBrokenOff: wherever it is broken off, nothing runs on the
// target, and the next call brings it to its end.
func TestRepartitionBrokenOff(t *testing.T) {
	old := newHome(t)
	l := old.live()
	old.leaveUnread(l.room)
	target := old.sibling()
	target.config.EventLog.Partitions = 5
	for after, whole := 1, false; !whole; after++ {
		ctx, cancel := context.WithCancel(t.Context())
		b := &breaking{after: after, stop: cancel}
		err := old.repartitionTo(ctx, target, b)
		cancel()
		whole = err == nil
		if whole && after < 5 {
			t.Fatalf("broken off %d times only", after-1)
		}
		if b.after > 0 && err != nil {
			t.Fatal(err)
		}
		if !whole {
			if err := target.start(); !errors.Is(err, sqldb.ErrMarked) {
				t.Fatalf("a server starts on half of an installation: %v", err)
			}
		}
	}
	target.mustStart()
	l.check(target)
}
