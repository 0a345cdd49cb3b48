package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/matrix-org/dendrite/e2e/history"
)

// TestCrashes kills all of our processes at once, again and again, while people
// write and read, and has the whole history judged.
func TestCrashes(t *testing.T) {
	inBoth(t, func(t *testing.T) {
		inRounds(t, 20*time.Second, func(t *testing.T, d time.Duration) {
			s := startServer(t)
			for _, err := range underLoad(t, s, d, func(ctx context.Context) {
				every(t, ctx, 3, func() time.Duration { return time.Duration(100+rand.IntN(1400)) * time.Millisecond }, func() {
					s.kill(syscall.SIGKILL)
					s.start()
				})
			}) {
				t.Error(err)
			}
		})
	}, func(t *testing.T) {
		c := startCluster(t, clusterOptions{})
		c.disturbed(t, max(15*time.Second, *soak), 0, func(ctx context.Context) {
			every(t, ctx, 1, func() time.Duration { return time.Duration(1000+rand.IntN(1400)) * time.Millisecond }, func() {
				c.endAll(syscall.SIGKILL)
				c.startAll()
			})
		})
	})
}

// goodbye is the text of the last message in each room: who reads it has read all.
const goodbye = "goodbye"

// restful is the pace of a load that leaves the machine some room.
const restful = 200 * time.Millisecond

// load is people who write to rooms and read them, and the record of it.
type load struct {
	t       testing.TB
	history *history.History
	rooms   []string
	mu      sync.Mutex
	// more are the rooms that were made meanwhile, by who can read them.
	more map[string]*user
	// acknowledged says when each event was; delivery and request are the longest
	// times from there to a reader, and of a request till its answer or error.
	acknowledged      map[string]time.Time
	delivery, request time.Duration
	// pace is how long a writer thinks between two changes.
	pace time.Duration
	// stop ends the writers, end the readers.
	stop, end context.Context
	writers   sync.WaitGroup
	readers   sync.WaitGroup
}

// underLoad runs writers and readers against s, and disturb beside them until
// its context is done after d, and returns what cannot be true of what they saw.
// With a d of 0 the load lasts as long as disturb, and is no more than two cores
// bear well, so that what is measured is what the disturbance costs.
func underLoad(t testing.TB, s site, d time.Duration, disturb func(context.Context)) []error {
	_, faults := measuredLoad(t, s, d, disturb)
	return faults
}

// measuredLoad is underLoad that also returns the load, with what it measured.
func measuredLoad(t testing.TB, s site, d time.Duration, disturb func(context.Context)) (*load, []error) {
	return loadFor(t, s, d, time.Minute, disturb)
}

// loadFor is measuredLoad that waits for the last answers to writers, and then for
// readers, no longer than patience.
func loadFor(t testing.TB, s site, d, patience time.Duration, disturb func(context.Context)) (*load, []error) {
	const rooms, users = 6, 4
	name := unique() // there may have been another load
	people := make([]*user, users)
	for i := range people {
		people[i] = register(t, s, fmt.Sprintf("%s_person%d", name, i))
	}
	stop, stopped := context.WithCancel(t.Context())
	defer stopped()
	end, ended := context.WithCancel(t.Context())
	defer ended()
	l := &load{t: t, history: history.New(), stop: stop, end: end, more: map[string]*user{}, acknowledged: map[string]time.Time{}}
	if d > 0 {
		defer time.AfterFunc(d, stopped).Stop()
	} else {
		l.pace = restful
	}
	for r := range rooms {
		room := people[r%users].createRoom(t, object{"preset": "public_chat",
			"power_level_content_override": object{"events": object{loadState: 0}}})
		for i, p := range people {
			if i != r%users {
				p.join(t, room)
			}
		}
		l.rooms = append(l.rooms, room)
	}
	for i, p := range people {
		l.readers.Add(1)
		go l.read(p, fmt.Sprintf("reader%d", i))
		for r, room := range l.rooms {
			l.writers.Add(1)
			go l.write(p, room, fmt.Sprintf("p%dr%d", i, r))
		}
	}
	for i := range 2 {
		l.writers.Add(1)
		go l.wander(register(t, s, fmt.Sprintf("%s_wanderer%d", name, i)), fmt.Sprintf("w%d", i))
	}
	disturb(stop)
	if d == 0 {
		stopped()
	}
	l.finish(people[0], patience, ended)
	acknowledged, all := l.history.Acknowledged()
	t.Logf("%d of %d sends acknowledged", acknowledged, all)
	if acknowledged == 0 {
		t.Error("nothing was acknowledged: nothing was tested")
	}
	return l, l.history.Check()
}

// finish waits for writers, says goodbye in each room, notes what it is by then,
// and waits for readers.
func (l *load) finish(u *user, patience time.Duration, give func()) {
	overdue := time.AfterFunc(patience, func() {
		l.t.Errorf("writers have not had all answers %v after the load's end", patience)
		give()
	})
	l.writers.Wait()
	for r, room := range l.rooms {
		path := fmt.Sprintf("/rooms/%s/send/m.room.message/goodbye%d", url.PathEscape(room), r)
		l.persist(l.end, u, "PUT", path, object{"msgtype": "m.text", "body": goodbye}, nil)
	}
	overdue.Stop()
	for _, room := range l.rooms {
		l.final(u, room)
	}
	for room, u := range l.more {
		l.final(u, room)
	}
	overdue = time.AfterFunc(patience, func() {
		l.t.Errorf("readers have not read to the end %v after the last event", patience)
		give()
	})
	l.readers.Wait()
	overdue.Stop()
}

// acked is told of an event that was acknowledged, seen of those that a reader got.
func (l *load) acked(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, again := l.acknowledged[id]; !again {
		l.acknowledged[id] = time.Now()
	}
}

func (l *load) seen(events []history.Event) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range events {
		if at, ok := l.acknowledged[e.ID]; ok {
			l.delivery = max(l.delivery, now.Sub(at))
		}
	}
}

func (l *load) took(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.request = max(l.request, d)
}

// persist tries a request until it is answered with 200, through crashes; nil
// when ctx is done before. Any other answer than 200, 429, 5xx is a fault.
func (l *load) persist(ctx context.Context, u *user, method, path string, body any, each func(*answer)) *answer {
	for ctx.Err() == nil {
		began := time.Now()
		a, err := u.try(method, path, body)
		l.took(time.Since(began))
		if err != nil {
			a = nil
		}
		if each != nil {
			each(a)
		}
		switch {
		case a == nil, a.status == http.StatusTooManyRequests, a.status >= 500 && a.status != http.StatusInternalServerError:
			select { // not a wait for something: a client's pause before it tries again
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		case a.status == http.StatusOK:
			return a
		default:
			l.t.Errorf("%s %s: %d %s", method, path, a.status, a.raw)
			return nil
		}
	}
	return nil
}

// read follows all rooms by /sync, with a short timeline so that it is often
// limited, and fills the gaps by /messages.
func (l *load) read(u *user, name string) {
	defer l.readers.Done()
	since, done := "", map[string]bool{}
	filter := url.QueryEscape(`{"room":{"timeline":{"limit":8}}}`)
	for l.end.Err() == nil {
		a := l.persist(l.end, u, "GET", "/sync?timeout=2000&filter="+filter+"&since="+url.QueryEscape(since), nil, nil)
		if a == nil {
			return
		}
		joined, _ := dig(a.body, "rooms", "join").(object)
		for room, r := range joined {
			var events []history.Event
			if dig(r, "timeline", "limited") == true && since != "" {
				prev, _ := dig(r, "timeline", "prev_batch").(string)
				events = l.pageBack(l.end, u, room, prev, since)
			}
			events = append(events, parseEvents(list(dig(r, "timeline", "events")))...)
			l.history.Read(name, room, events)
			l.seen(events)
			for _, e := range list(dig(r, "timeline", "events")) {
				done[room] = done[room] || dig(e, "content", "body") == goodbye
			}
		}
		since = a.str("next_batch")
		if allDone(done, l.rooms) {
			return
		}
	}
}

func allDone(done map[string]bool, rooms []string) bool {
	return !slices.ContainsFunc(rooms, func(room string) bool { return !done[room] })
}

// pageBack reads the events between two tokens, and returns them oldest first.
func (l *load) pageBack(ctx context.Context, u *user, room, from, to string) []history.Event {
	var events []history.Event
	for ctx.Err() == nil {
		q := url.Values{"dir": {"b"}, "limit": {"50"}}
		if from != "" {
			q.Set("from", from)
		}
		if to != "" {
			q.Set("to", to)
		}
		a := l.persist(ctx, u, "GET", "/rooms/"+url.PathEscape(room)+"/messages?"+q.Encode(), nil, nil)
		if a == nil {
			break
		}
		events = append(events, parseEvents(list(a.body["chunk"]))...)
		if from = a.str("end"); from == "" {
			break
		}
	}
	slices.Reverse(events)
	return events
}

// final records what a room is at the end.
func (l *load) final(u *user, room string) {
	l.history.Final(room, l.pageBack(l.end, u, room, "", ""))
	a := l.persist(l.end, u, "GET", "/rooms/"+url.PathEscape(room)+"/state", nil, nil)
	if a == nil {
		return
	}
	var state []object
	if err := json.Unmarshal(a.raw, &state); err != nil {
		l.t.Errorf("the state of %s: %v", room, err)
	}
	for _, e := range state {
		l.history.FinalState(room, fmt.Sprint(e["type"], " ", e["state_key"]), nonceOf(e))
	}
}

// nonceOf is the name of the op that made an event; "" where none did.
func nonceOf(e object) string {
	if nonce, ok := dig(e, "content", "nonce").(string); ok {
		return nonce
	}
	if reason, ok := dig(e, "content", "reason").(string); ok { // of a membership or redaction
		return reason
	}
	return ""
}

func parseEvents(from []any) []history.Event {
	var events []history.Event
	for _, v := range from {
		e, _ := v.(object)
		nonce := nonceOf(e)
		id, _ := e["event_id"].(string)
		typ, _ := e["type"].(string)
		sender, _ := e["sender"].(string)
		events = append(events, history.Event{ID: id, Type: typ, Sender: sender, Nonce: nonce})
	}
	return events
}
