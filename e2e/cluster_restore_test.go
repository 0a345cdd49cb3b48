package e2e

import (
	"fmt"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"
)

// copyOf keeps a copy of a service's data, and returns what puts it back. The
// service is stopped meanwhile.
func (s *service) copyOf(t *testing.T, data string) (restore func()) {
	t.Helper()
	from, to := filepath.Join(s.dir, data), filepath.Join(filepath.Dir(s.dir), "copy")
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	s.do(t, "stop")
	run("cp", "-a", from, to)
	s.do(t, "start")
	return func() {
		t.Helper()
		s.do(t, "stop")
		run("rm", "-rf", from)
		run("mv", to, from)
		s.do(t, "start")
	}
}

// talk is a conversation that outlives what happens to the servers.
type talk struct {
	alice, bob *user
	room       string
	since      string // bob's
	sent, read []string
}

func newTalk(t *testing.T, s site) *talk {
	t.Helper()
	k := &talk{alice: register(t, s, "alice"), bob: register(t, s, "bob")}
	k.room = k.alice.createRoom(t, object{"preset": "public_chat"})
	k.bob.join(t, k.room)
	k.since = k.bob.syncOnce(t, "", "0").str("next_batch")
	return k
}

// say sends some messages, which bob reads where he follows.
func (k *talk) say(t *testing.T, n int, follow bool) {
	t.Helper()
	for range n {
		txn := fmt.Sprintf("t%d", len(k.sent))
		k.sent = append(k.sent, k.alice.send(t, k.room, txn, txn))
	}
	for deadline := time.Now().Add(10 * time.Second); follow && len(k.read) < len(k.sent); {
		a := k.bob.call(t, "GET", "/sync?timeout=5000&filter="+url.QueryEscape(`{"room":{"timeline":{"limit":100}}}`)+"&since="+url.QueryEscape(k.since), nil)
		before := len(k.read)
		for _, e := range list(dig(a.body, "rooms", "join", k.room, "timeline", "events")) {
			if dig(e, "type") == "m.room.message" {
				k.read = append(k.read, fmt.Sprint(dig(e, "event_id")))
			}
		}
		k.since = a.str("next_batch")
		switch { // an answer may bring something else
		case len(k.read) > before:
			deadline = time.Now().Add(10 * time.Second)
		case time.Now().After(deadline):
			t.Fatalf("bob has read %d of %d", len(k.read), len(k.sent))
		}
	}
}

// whole checks that everything that was sent is there, once and in order, that
// bob has read it so, and that a retry is recognised.
func (k *talk) whole(t *testing.T) {
	t.Helper()
	a := k.alice.call(t, "GET", "/rooms/"+url.PathEscape(k.room)+"/messages?dir=b&limit=1000&filter="+url.QueryEscape(`{"types":["m.room.message"]}`), nil)
	var there []string
	for _, e := range slices.Backward(list(a.body["chunk"])) {
		there = append(there, fmt.Sprint(dig(e, "event_id")))
	}
	if !slices.Equal(there, k.sent) {
		t.Errorf("the room holds %v, sent were %v", there, k.sent)
	}
	if !slices.Equal(k.read, k.sent) {
		t.Errorf("bob has read %v, sent were %v", k.read, k.sent)
	}
	if last := len(k.sent) - 1; k.alice.send(t, k.room, fmt.Sprintf("t%d", last), fmt.Sprintf("t%d", last)) != k.sent[last] {
		t.Error("a retry made another event")
	}
}

// TestDatabaseRestored: PostgreSQL is put back to an earlier time beside a log that
// has gone on. What the log holds is done again, and what was published before is
// taken as it was: no event, order or token is another one.
func TestDatabaseRestored(t *testing.T) {
	postgres := ownPostgres(t)
	c := startCluster(t, clusterOptions{postgres: postgres})
	k := newTalk(t, c)
	k.say(t, 5, true)
	c.stop()
	restore := postgres.copyOf(t, "data")
	c.startAll()
	k.say(t, 20, true)
	k.say(t, 5, false)
	c.stop()
	restore()
	c.startAll()
	k.say(t, 3, true)
	k.whole(t)
}

// TestLogRestored: the log is put back to an earlier time beside stores that have
// gone on. The processes that read it say so and stop, until an operator decides;
// then all that the stores have is there, and it goes on.
func TestLogRestored(t *testing.T) {
	kafka := ownKafka(t)
	c := startCluster(t, clusterOptions{kafka: kafka})
	k := newTalk(t, c)
	k.say(t, 5, true)
	c.stop()
	restore := kafka.copyOf(t, "1")
	c.startAll()
	k.say(t, 20, true)
	c.stop()
	restore()
	for _, p := range c.reachable("room-server") {
		p.env = c.environ(p)
		if err := p.start(); err == nil {
			<-p.ended
			p.end(syscall.SIGTERM)
		}
		if !p.logs.contains("ends before what was read of it") {
			t.Errorf("the room server on a log that lost its end says\n%s", p.logs.tail())
		}
	}
	c.admin(t, "log", "reset", "--to", "end", "--yes")
	c.startAll()
	k.say(t, 3, true)
	k.whole(t)
}

// admin runs dendrite-admin on the cluster's log and stores.
func (c *cluster) admin(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(filepath.Join(c.binaries, "dendrite-admin"), args...)
	cmd.Env = append(slices.Clone(c.env), "DENDRITE_GLOBAL_DATA_DIR="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("dendrite-admin %v: %v\n%s", args, err, out)
	}
	return string(out)
}
