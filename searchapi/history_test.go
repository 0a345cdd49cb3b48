package searchapi

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/common/testwait"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

// trimmed is a log that has dropped what it held of room.output before it was made.
type trimmed struct {
	eventlog.Log
	starts []int64
}

func (w *world) trim() eventlog.Log {
	w.t.Helper()
	l := &trimmed{Log: w.log, starts: make([]int64, partitions)}
	for p := range partitions {
		_, end, err := w.log.Bounds(w.t.Context(), roomapi.TopicOutput, p)
		if err != nil {
			w.t.Fatal(err)
		}
		l.starts[p] = end
	}
	return l
}

// Bounds implements eventlog.Log.
func (l *trimmed) Bounds(ctx context.Context, topic string, partition int) (start, end int64, err error) {
	start, end, err = l.Log.Bounds(ctx, topic, partition)
	if topic == roomapi.TopicOutput {
		start = max(start, l.starts[partition])
	}
	return start, end, err
}

// rows counts an event's rows in a store.
func (w *world) rows(db *sqldb.DB, eventID string) (n int) {
	w.t.Helper()
	err := db.ReadOne(w.t.Context(), func(tx *sqldb.Tx) error {
		return tx.QueryRow(w.t.Context(), "SELECT count(*) FROM events WHERE event_id = $1", eventID).Scan(&n)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// TestHistory: an index that is new where the log has dropped its beginning, or has
// fallen behind what it holds, finds the same as one that has read every record.
func TestHistory(t *testing.T) { sqldbtest.Each(t, testHistory) }

func testHistory(t *testing.T) {
	w := newWorld(t)
	all, _ := w.server()
	behind, stop := w.serverOn("behind", w.log)
	w.create(roomA, alice, bob)
	w.create(roomB, bob)
	var ids []string
	for i := range 12 {
		ids = append(ids, w.say([]string{roomA, roomB}[i%2], bob, fmt.Sprint("word ", i)))
	}
	w.expect(behind, bob, "word 3", ids[3])
	stop()
	edit := w.edit(roomA, bob, ids[0], "other 0")
	w.redact(roomA, bob, w.edit(roomA, bob, ids[0], "third 0"))
	w.redact(roomA, bob, ids[2])
	w.redact(roomB, bob, ids[3])
	w.submit(roomapi.InputRecord{RoomID: roomA, Kind: roomapi.KindPurgeHistory, Purge: []string{ids[4]}})
	w.submit(roomapi.InputRecord{RoomID: roomB, Kind: roomapi.KindPurge})
	fresh, _ := w.serverOn("fresh", w.trim())
	behind, _ = w.serverOn("behind", w.trim())
	last := w.say(roomA, alice, "word last")
	for _, s := range []*Server{all, fresh, behind} {
		w.settled(s)
		w.expect(s, bob, "word", last, ids[10], ids[8], ids[6])
		w.expect(s, bob, "other", ids[0])
		w.expect(s, bob, "third")
	}
	for _, name := range []string{"search", "fresh", "behind"} {
		db := w.open(name)
		testwait.Until(t, "what was purged is removed from "+name, func() bool { return w.rows(db, ids[4]) == 0 && w.rows(db, ids[7]) == 0 })
	}
	w.redact(roomA, bob, edit)
	for _, s := range []*Server{all, fresh, behind} {
		w.expect(s, bob, "word 0", ids[0])
		rooms, err := s.db.RoomNumbers(t.Context(), []string{roomA, roomB})
		if err != nil || len(rooms) != 1 {
			t.Errorf("rooms: %v %v", rooms, err)
		}
	}
}

// TestHistoryGoesOn: what is redacted, or edited, while history is read comes out as
// if it had been so before, and who takes the work up goes on where it stopped.
func TestHistoryGoesOn(t *testing.T) { sqldbtest.Each(t, testHistoryGoesOn) }

func testHistoryGoesOn(t *testing.T) {
	w := newWorld(t)
	w.create(roomA, alice, bob)
	var ids []string
	for i := range 5 {
		ids = append(ids, w.say(roomA, bob, fmt.Sprint("word ", i)))
	}
	hold := &held{Caller: w.calls, asked: make(chan struct{}), release: make(chan struct{}), size: 4}
	w.caller = hold
	log := w.trim()
	first, stop := w.serverOn("index", log)
	hold.wait(t) // the room's beginning
	hold.let(t)
	hold.wait(t) // four messages, which were read and are not indexed yet
	w.redact(roomA, bob, ids[0])
	w.redact(roomA, bob, ids[3])
	w.edit(roomA, bob, ids[1], "changed")
	last := w.say(roomA, bob, "word last")
	w.expect(first, bob, "word", last) // what came meanwhile is indexed
	hold.let(t)
	hold.wait(t) // the last message
	w.expect(first, bob, "word", last, ids[2])
	w.expect(first, bob, "changed", ids[1])
	w.edit(roomA, bob, ids[4], "changed too")
	stop() // ends the request, too
	second, stop := w.serverOn("index", log)
	for more := true; more; {
		select {
		case <-hold.asked:
			hold.let(t)
		default:
			list, err := second.db.Histories(t.Context(), []int64{0, 1})
			if err != nil {
				t.Fatal(err)
			}
			more = len(list) > 0
		}
	}
	w.expect(second, bob, "word", last, ids[2])
	w.expect(second, bob, "changed", ids[4], ids[1])
	stop()
}

// held answers questions for history by pages of a size, once the test lets it.
type held struct {
	rpc.Caller
	asked, release chan struct{}
	size           int
}

// Invoke implements rpc.Caller.
func (h *held) Invoke(ctx context.Context, c rpc.Call) (any, error) {
	req, ok := c.Request.(*roomapi.HistoryRequest)
	if !ok {
		return h.Caller.Invoke(ctx, c)
	}
	small := *req
	small.Limit = min(small.Limit, h.size)
	c.Request = &small
	res, err := h.Caller.Invoke(ctx, c)
	for _, c := range []chan struct{}{h.asked, h.release} {
		select {
		case c <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return res, err
}

func (h *held) wait(t *testing.T) { receive(t, h.asked) }
func (h *held) let(t *testing.T)  { receive(t, h.release) }

func receive(t *testing.T, c chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(time.Minute):
		t.Fatal("nobody asks for history")
	}
}

// TestInstances: instances share the partitions, each finds what all have indexed,
// and goes on where another one stopped.
func TestInstances(t *testing.T) { sqldbtest.Each(t, testInstances) }

func testInstances(t *testing.T) {
	w := newWorld(t)
	w.shared = true
	a, stopA := w.server()
	b, _ := w.server()
	testwait.Until(t, "two share", func() bool { return len(a.owned()) == 1 && len(b.owned()) == 1 })
	w.create(roomA, alice)
	w.create(roomB, alice)
	var ids []string
	say := func(instances ...*Server) {
		t.Helper()
		for _, room := range []string{roomA, roomB} {
			ids = slices.Insert(ids, 0, w.say(room, alice, "shared word"))
			for _, s := range instances {
				w.expect(s, alice, "word", ids...)
			}
		}
	}
	say(a, b)
	say(a, b)
	page := w.search(a, alice, "word", `,"order_by":"recent","filter":{"limit":1}`, "")
	next := w.search(b, alice, "word", `,"order_by":"recent","filter":{"limit":1}`, page.Next)
	if !slices.Equal(next.ids(), ids[1:2]) {
		t.Errorf("another instance's page: %v, not %v", next.ids(), ids[1])
	}
	stopA()
	say(b)
	c, _ := w.server()
	testwait.Until(t, "the new one has its share", func() bool { return len(b.owned()) == 1 && len(c.owned()) == 1 })
	say(b, c)
	w.redact(roomB, alice, ids[0])
	w.expect(b, alice, "word", ids[1:]...)
	w.expect(c, alice, "word", ids[1:]...)
}
