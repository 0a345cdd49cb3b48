package admin

import (
	"bytes"
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/testwait"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

// lived is what clients remember of an installation.
type lived struct {
	alice, bob   user
	room, alias  string
	since, later string // bob's sync tokens: before and after the last messages
	seen         []string
	missed       []string // by bob, since the token
	last         string   // the event ID of alice's transaction "last"
}

// odd is a text, as it stands in a path, that is stored in another form: with
// what PostgreSQL does not take, and with what stands for it.
const odd = "a%00b%01"

// live lets users live on an installation for a while, and stops it.
func (h *home) live() *lived {
	h.Helper()
	h.mustStart()
	l := &lived{alice: h.register("alice"), bob: h.register("bob"), alias: "#home:localhost"}
	l.room = h.call(l.alice, "POST", "/createRoom", object{"preset": "public_chat", "room_alias_name": "home", "name": "Home", "visibility": "public"})["room_id"].(string)
	for _, other := range []string{"one", "two", "three", "four", "five"} { // in other partitions
		h.call(l.alice, "POST", "/createRoom", object{"name": other})
	}
	h.call(l.bob, "POST", "/join/"+url.PathEscape(l.alias), object{})
	first := h.send(l.alice, l.room, "first", "hello")
	path := "/rooms/" + url.PathEscape(l.room)
	h.call(l.bob, "POST", path+"/receipt/m.read/"+url.PathEscape(first), object{})
	h.call(l.bob, "PUT", "/user/"+url.PathEscape(l.bob.id)+"/account_data/org.example.note", object{"note": "\u00fc"})
	l.since = h.sync(l.bob, "")["next_batch"].(string)
	for _, txn := range []string{"a", "b", "c"} {
		l.missed = append(l.missed, h.send(l.alice, l.room, txn, "message "+txn))
	}
	l.missed = append(l.missed, h.call(l.alice, "PUT", path+"/state/m.room.topic", object{"topic": "moving"})["event_id"].(string))
	l.missed = append(l.missed, h.call(l.alice, "PUT", path+"/state/org.example.odd/"+odd, object{"odd": "state"})["event_id"].(string))
	h.call(l.bob, "PUT", "/user/"+url.PathEscape(l.bob.id)+"/account_data/org.example."+odd, object{"odd": "data"})
	l.last = h.send(l.alice, l.room, "last", "good bye")
	l.missed = append(l.missed, l.last)
	l.later = h.sync(l.alice, "")["next_batch"].(string)
	l.seen = h.history(l.bob, l.room)
	h.stop()
	return l
}

// leaveUnread appends to room.input what nobody handled any more: alice's last
// message once again, as a writer that was not answered does, and another.
func (h *home) leaveUnread(room string) {
	h.Helper()
	err := h.open(func(i *Installation) error {
		ctx, p := h.Context(), eventlog.PartitionFor(room, h.config.EventLog.Partitions)
		if err := i.prepare(ctx); err != nil {
			return err
		}
		_, end, err := i.Log.Bounds(ctx, roomapi.TopicInput, p)
		if err != nil {
			return err
		}
		records, err := i.Log.Read(ctx, roomapi.TopicInput, p, end-1, 1)
		if err != nil {
			return err
		}
		again := records[0]
		rec, _, err := roomapi.DecodeInput(again.Value)
		if err != nil {
			return err
		}
		rec.RequestID, rec.Events[0].TxnID = "unread", "unread"
		rec.Events[0].Proto.Content = jsontext.Value(`{"msgtype":"m.text","body":"on the way"}`)
		value, err := rec.Encode()
		if err != nil {
			return err
		}
		for _, v := range [][]byte{again.Value, value} {
			if _, err := i.Log.Append(ctx, eventlog.Message{Topic: roomapi.TopicInput, Partition: p, Key: again.Key, Value: v}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		h.Fatal(err)
	}
}

// check lets the users find again on another place all that they remember, with
// one event more than they had seen.
func (l *lived) check(h *home) {
	h.Helper()
	h.sync(l.bob, "") // shows all that was committed before
	got := h.history(l.bob, l.room)
	if len(got) != len(l.seen)+1 || !slices.Equal(got[:len(l.seen)], l.seen) {
		h.Fatalf("the room's events were\n%v\nand one more is to come, they are\n%v", l.seen, got)
	}
	unread := got[len(got)-1]
	if events := timeline(h.sync(l.bob, l.since), l.room); !slices.Equal(events, append(slices.Clone(l.missed), unread)) {
		h.Fatalf("an old token gives %v, missed were %v and %s", events, l.missed, unread)
	}
	if events := timeline(h.sync(l.alice, l.later), l.room); !slices.Equal(events, []string{unread}) {
		h.Fatalf("alice, who had seen all but %s, gets %v", unread, events)
	}
	if again := h.send(l.alice, l.room, "last", "good bye"); again != l.last {
		h.Fatalf("a retried transaction gives %s, was %s", again, l.last)
	}
	if a := h.call(l.bob, "GET", "/directory/room/"+url.PathEscape(l.alias), object{}); a["room_id"] != l.room {
		h.Fatalf("the alias names %v", a)
	}
	if a := h.call(l.bob, "GET", "/publicRooms", object{}); len(list(a["chunk"])) != 1 {
		h.Fatalf("public rooms: %v", a)
	}
	if a := h.call(l.bob, "GET", "/user/"+url.PathEscape(l.bob.id)+"/account_data/org.example.note", object{}); a["note"] != "\u00fc" {
		h.Fatalf("account data: %v", a)
	}
	l.checkOdd(h)
	h.finds(l.bob, "message", l.missed[2], l.missed[1], l.missed[0])
	whole := h.sync(l.bob, "")
	receipts := list(dig(whole, "rooms", "join", l.room, "ephemeral", "events"))
	if len(receipts) != 1 || receipts[0].(object)["type"] != "m.receipt" {
		h.Fatalf("receipts: %v", receipts)
	}
	new := h.send(l.alice, l.room, "new", "here we are")
	if events := timeline(h.sync(l.bob, whole["next_batch"].(string)), l.room); !slices.Equal(events, []string{new}) {
		h.Fatalf("what is new gives %v, want %s", events, new)
	}
}

// finds waits until a user finds just these messages, newest first: the index may be
// made anew.
func (h *home) finds(u user, term string, want ...string) {
	h.Helper()
	body := object{"search_categories": object{"room_events": object{"search_term": term, "order_by": "recent", "filter": object{"limit": 100}}}}
	var got []string
	testwait.Until(h, term+" is found", func() bool {
		got = nil
		for _, r := range list(dig(h.call(u, "POST", "/search", body), "search_categories", "room_events", "results")) {
			got = append(got, dig(r, "result", "event_id").(string))
		}
		return slices.Equal(got, want)
	})
}

// checkOdd finds again what has an odd name.
func (l *lived) checkOdd(h *home) {
	h.Helper()
	if a := h.call(l.bob, "GET", "/user/"+url.PathEscape(l.bob.id)+"/account_data/org.example."+odd, object{}); a["odd"] != "data" {
		h.Fatalf("account data under an odd name: %v", a)
	}
	if a := h.call(l.bob, "GET", "/rooms/"+url.PathEscape(l.room)+"/state/org.example.odd/"+odd, object{}); a["odd"] != "state" {
		h.Fatalf("state under an odd key: %v", a)
	}
}

// TestMove: whoever lived at the old place goes on at the new one, and back.
func TestMove(t *testing.T) {
	old := newHome(t)
	l := old.live()
	old.leaveUnread(l.room)
	first := old.sibling()
	var out bytes.Buffer
	if err := old.moveTo(t.Context(), first, &out); err != nil {
		t.Fatal(err)
	}
	t.Log(out.String())
	if err := old.start(); !errors.Is(err, sqldb.ErrMarked) {
		t.Fatalf("a server starts on what was moved away: %v", err)
	}
	if err := old.moveTo(t.Context(), old.sibling(), &out); err == nil {
		t.Fatal("what was moved away is moved again")
	}
	first.mustStart()
	l.check(first)
	l.seen, l.since = first.history(l.bob, l.room), first.sync(l.bob, "")["next_batch"].(string)
	first.stop()

	second := first.sibling()
	if err := first.moveTo(t.Context(), second, &out); err != nil {
		t.Fatal(err)
	}
	second.mustStart()
	defer second.stop()
	if got := second.history(l.bob, l.room); !slices.Equal(got, l.seen) {
		t.Fatalf("after the second move: %v, were %v", got, l.seen)
	}
	second.sync(l.bob, "")
	new := second.send(l.alice, l.room, "newest", "and again")
	if events := timeline(second.sync(l.bob, l.since), l.room); !slices.Equal(events, []string{new}) {
		t.Fatalf("after the second move there is %v, want %s", events, new)
	}
}

// breaking stops a move after some lines of its report.
type breaking struct {
	after int
	stop  func()
}

func (b *breaking) Write(p []byte) (int, error) {
	if b.after--; b.after == 0 {
		b.stop()
	}
	return len(p), nil
}

// TestMoveBrokenOff: wherever a move is broken off, no server runs on the
// target, and when it is called again it comes to the same.
func TestMoveBrokenOff(t *testing.T) {
	old := newHome(t)
	l := old.live()
	old.leaveUnread(l.room)
	target := old.sibling()
	for after := 1; ; after++ {
		ctx, cancel := context.WithCancel(t.Context())
		b := &breaking{after: after, stop: cancel}
		err := old.moveTo(ctx, target, b)
		cancel()
		if b.after > 0 { // it was not broken off any more
			if err != nil {
				t.Fatal(err)
			}
			if after < 5 {
				t.Fatalf("broken off %d times only", after-1)
			}
			break
		}
		if err == nil {
			break // the last line is written when all is done
		}
		if err := target.start(); !errors.Is(err, sqldb.ErrMarked) {
			t.Fatalf("a server starts on half of an installation: %v", err)
		}
	}
	target.mustStart()
	l.check(target)
}

// TestMoveRefuses: a target that holds something stays as it is.
func TestMoveRefuses(t *testing.T) {
	old, other := newHome(t), newHome(t)
	old.live()
	other.live()
	err := old.moveTo(t.Context(), other, new(bytes.Buffer))
	if !errors.Is(err, errOccupied) {
		t.Fatalf("an installation is moved onto another: %v", err)
	}
	other.mustStart()
	other.stop()
	fresh := old.sibling()
	fresh.config.EventLog.Partitions = 8
	if err := old.moveTo(t.Context(), fresh, new(bytes.Buffer)); err == nil || !strings.Contains(err.Error(), "partitions") {
		t.Fatalf("moved to another number of partitions: %v", err)
	}
	old.mustStart()
}
