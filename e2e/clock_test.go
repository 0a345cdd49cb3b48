package e2e

import (
	encoding "encoding/binary"
	"fmt"
	"net/http/httptrace"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestClockSetBack sets the clock back by hours, while the server runs and while
// it does not: what was valid stays so, order is the order of the log, and nobody
// waits until the clock has come to where it was. In a cluster it is the clock of
// all our processes, and then of one of each role; PostgreSQL's and Kafka's are
// right.
func TestClockSetBack(t *testing.T) {
	inBoth(t, func(t *testing.T) {
		env, set := newClock(t)
		s := newServer(t, env, "DENDRITE_RATE_LIMITING_ENABLED=true")
		s.binary = filepath.Join(must(t, shared.altered), "dendrite")
		s.start()
		clockSetBack(t, s, set, s.kill, s.start).order()
	}, func(t *testing.T) {
		sets := map[*process]func(time.Duration){}
		c := startCluster(t, clusterOptions{binaries: must(t, shared.altered), env: []string{"DENDRITE_RATE_LIMITING_ENABLED=true"},
			own: func(p *process) (env string) {
				env, sets[p] = newClock(t)
				return env
			}})
		k := clockSetBack(t, c, func(d time.Duration) {
			for _, set := range sets {
				set(d)
			}
		}, c.endAll, c.startAll)
		k.whileItChanges(func() {
			for _, role := range allRoles {
				sets[c.reachable(role)[0]](-6 * time.Hour)
			}
		})
		k.apart = true
		k.step("with half of the processes in the past")
		k.order()
	})
}

func clockSetBack(t *testing.T, s site, set func(time.Duration), end func(syscall.Signal), start func()) *clockCase {
	t.Helper()
	alice, bob := register(t, s, "alice"), register(t, s, "bob")
	room := alice.createRoom(t, object{"preset": "public_chat"})
	bob.join(t, room)
	c := &clockCase{t: t, alice: alice, bob: bob, room: room, since: bob.syncOnce(t, "", "0").str("next_batch")}
	c.step("before")

	c.whileItChanges(func() { set(-6 * time.Hour) })
	c.step("after it was set back")

	end(syscall.SIGKILL)
	set(-30 * time.Hour)
	start()
	c.step("after a crash and a start with an earlier clock")

	end(syscall.SIGTERM)
	set(-50 * time.Hour)
	start()
	c.step("after a stop and a start with an earlier clock")

	c.whileItChanges(func() { set(0) })
	c.step("when it is right again")
	// The clock really was set: the first message is the newest by its time.
	if first, last := c.timeOf(c.sent[5]), c.timeOf(c.sent[7]); first-last < 20*3600*1000 {
		t.Errorf("the clock was not set back: %v, %v", first, last)
	}
	return c
}

func (c *clockCase) timeOf(id string) float64 {
	c.t.Helper()
	ts, _ := c.bob.call(c.t, "GET", "/rooms/"+url.PathEscape(c.room)+"/event/"+url.PathEscape(id), nil).body["origin_server_ts"].(float64)
	return ts
}

// newClock makes a clock that a test sets, and what tells processes of altered
// binaries that it is theirs.
func newClock(t *testing.T) (env string, set func(time.Duration)) {
	t.Helper()
	clock, err := os.OpenFile(filepath.Join(t.TempDir(), "clock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = clock.Close() })
	set = func(d time.Duration) {
		if _, err := clock.WriteAt(encoding.NativeEndian.AppendUint64(nil, uint64(d/time.Second)), 0); err != nil {
			t.Fatal(err)
		}
	}
	set(0)
	return "DENDRITE_TEST_CLOCK=" + clock.Name(), set
}

var clockCall = regexp.MustCompile(`\btime\.(Now|Since|Until)\b`)

// setClock makes the server's sources that ask for the time of day ask the clock
// of testdata/setclock.go instead.
func (s sources) setClock() error {
	var files []string
	for _, depth := range []string{"../*/*.go", "../*/*/*.go", "../*/*/*/*.go"} {
		more, err := filepath.Glob(depth)
		if err != nil {
			return err
		}
		files = append(files, more...)
	}
	changed := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") || strings.HasPrefix(file, "../e2e/") {
			continue
		}
		text, err := s.text(file)
		if err != nil {
			return err
		}
		if !clockCall.MatchString(text) {
			continue
		}
		text = withImport(clockCall.ReplaceAllString(text, "setclock.$1"), "setclock")
		if strings.Contains(text, "time\"\n") {
			text += "\nvar _ time.Time\n"
		}
		s[file] = text
		changed++
	}
	if changed < 10 {
		return fmt.Errorf("only %d files ask for the time: the clock has to be set in another way", changed)
	}
	const now = "../common/sqldb/now.go"
	text, err := s.text(now)
	if err != nil {
		return err
	}
	const sql = `unixepoch('subsec')`
	if strings.Count(text, sql) != 1 {
		return fmt.Errorf("%s does not ask SQLite for the time as it did: the clock has to be set in another way", now)
	}
	s[now] = withImport(strings.Replace(text, sql, `(`+sql+` + " + setclock.SQL() + ")`, 1), "setclock")
	return nil
}

// clockCase is two people in a room.
type clockCase struct {
	t          *testing.T
	alice, bob *user
	room       string
	since      string
	sent       []string // event IDs in the order that they were acknowledged
	session    string   // of an authentication that is not complete
	// apart says that not all processes have one clock. Who tells when somebody
	// was active, or until when somebody types, does so by its own (design rule 7),
	// so how long that is cannot be known.
	apart bool
}

// step is what must be possible at any time.
func (c *clockCase) step(when string) {
	t := c.t
	t.Helper()
	began := time.Now()
	r := "/rooms/" + url.PathEscape(c.room)
	for range 3 {
		c.sent = append(c.sent, c.alice.send(t, c.room, fmt.Sprint("txn", len(c.sent)), "text"))
	}
	for i, id := range c.sent {
		if again := c.alice.send(t, c.room, fmt.Sprint("txn", i), "text"); again != id {
			t.Fatalf("%s: a retry made %s, was %s", when, again, id)
		}
	}
	c.alice.call(t, "PUT", r+"/state/m.room.topic", object{"topic": when})
	c.bob.call(t, "POST", r+"/receipt/m.read/"+url.PathEscape(c.sent[len(c.sent)-1]), object{})
	c.bob.call(t, "PUT", "/presence/"+url.PathEscape(c.bob.id)+"/status", object{"presence": "online"})
	ago, _ := c.alice.call(t, "GET", "/presence/"+url.PathEscape(c.bob.id)+"/status", nil).body["last_active_ago"].(float64)
	if !c.apart && (ago < 0 || ago > 1e6) {
		t.Errorf("%s: last active %v ms ago", when, ago)
	}
	c.follow(when)
	if !c.apart {
		c.typing(when)
	}
	c.authenticate(when)
	took := time.Since(began)
	t.Logf("%s: %v", when, took)
	if took > 20*time.Second {
		t.Errorf("%s: all this took %v", when, took)
	}
}

// follow reads by sync to the last event sent.
func (c *clockCase) follow(when string) {
	c.t.Helper()
	last := c.sent[len(c.sent)-1]
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		a := c.bob.syncOnce(c.t, c.since, "1000")
		c.since = a.str("next_batch")
		if slices.Contains(ids(list(dig(a.body, "rooms", "join", c.room, "timeline", "events"))), last) {
			return
		}
	}
	c.t.Fatalf("%s: sync does not come to the last event", when)
}

// typing says that alice types for a second and a half, and waits for its end. She
// says so again, as clients do, until bob has heard of it: in the moment in which
// nobody keeps the room, after a start, it is lost.
func (c *clockCase) typing(when string) {
	c.t.Helper()
	typed := false
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		if !typed {
			c.alice.call(c.t, "PUT", "/rooms/"+url.PathEscape(c.room)+"/typing/"+url.PathEscape(c.alice.id), object{"typing": true, "timeout": 1500})
		}
		a := c.bob.syncOnce(c.t, c.since, "1000")
		c.since = a.str("next_batch")
		for _, e := range list(dig(a.body, "rooms", "join", c.room, "ephemeral", "events")) {
			if dig(e, "type") == "m.typing" {
				who := list(dig(e, "content", "user_ids"))
				if typed = typed || len(who) > 0; typed && len(who) == 0 {
					return
				}
			}
		}
	}
	c.t.Errorf("%s: typing does not end (it began: %v)", when, typed)
}

// authenticate begins an authentication, and completes the one begun before.
func (c *clockCase) authenticate(when string) {
	c.t.Helper()
	path := "/account/password"
	if c.session != "" {
		c.alice.call(c.t, "POST", path, object{"new_password": "correct horse", "logout_devices": false, "auth": object{
			"type": "m.login.password", "session": c.session, "password": "correct horse",
			"identifier": object{"type": "m.id.user", "user": "alice"}}})
	}
	a, err := c.alice.try("POST", path, object{"new_password": "correct horse", "logout_devices": false})
	if err != nil || a.status != 401 || a.str("session") == "" {
		c.t.Fatalf("%s: authentication begins with %+v %v", when, a, err)
	}
	c.session = a.str("session")
}

// whileItChanges has the clock set while somebody waits for news, somebody
// types, and somebody has used up what a rate limit grants.
func (c *clockCase) whileItChanges(change func()) {
	t := c.t
	t.Helper()
	polled, asked := make(chan *answer, 1), make(chan struct{})
	go func() {
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { close(asked) }})
		a, err := c.bob.tryIn(ctx, "GET", "/sync?timeout=30000&since="+url.QueryEscape(c.since), nil)
		if err != nil {
			t.Error(err)
		}
		polled <- a
	}()
	<-asked
	c.useUp()
	change()
	r := "/rooms/" + url.PathEscape(c.room)
	c.granted("PUT", r+"/typing/"+url.PathEscape(c.alice.id), object{"typing": false})
	c.sent = append(c.sent, c.granted("PUT", fmt.Sprint(r, "/send/m.room.message/txn", len(c.sent)), object{"msgtype": "m.text", "body": "text"}).str("event_id"))
	if a := <-polled; a == nil || a.status != 200 {
		t.Fatalf("a long poll while the clock was set: %+v", a)
	}
	c.follow("while the clock was set")
}

// useUp asks until the rate limit refuses, faster than it grants anew: each
// instance has one.
func (c *clockCase) useUp() {
	c.t.Helper()
	var asking sync.WaitGroup
	var refused atomic.Bool
	for range 8 {
		asking.Go(func() {
			for n := 0; n < 1000 && !refused.Load(); n++ {
				a, err := c.alice.try("PUT", "/rooms/"+url.PathEscape(c.room)+"/typing/"+url.PathEscape(c.alice.id), object{"typing": false})
				if err != nil || (a.status != 200 && a.status != 429) {
					c.t.Errorf("typing: %+v %v", a, err)
					return
				}
				if a.status == 429 {
					refused.Store(true)
				}
			}
		})
	}
	if asking.Wait(); !refused.Load() {
		c.t.Fatal("no rate limit")
	}
}

// granted makes a request again for as long as the rate limit refuses it.
func (c *clockCase) granted(method, path string, body any) *answer {
	c.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; pause(c.t.Context(), 100*time.Millisecond) {
		a, err := c.alice.try(method, path, body)
		if err == nil && a.status == 200 {
			return a
		}
		if err != nil || a.status != 429 || time.Now().After(deadline) {
			c.t.Fatalf("%s %s after the clock was set: %+v %v", method, path, a, err)
		}
	}
}

// order checks that the room has the messages in the order of their sending.
func (c *clockCase) order() {
	c.t.Helper()
	var got []string
	a := c.bob.call(c.t, "GET", "/rooms/"+url.PathEscape(c.room)+"/messages?dir=b&limit=100", nil)
	for _, e := range list(a.body["chunk"]) {
		if dig(e, "type") == "m.room.message" {
			id, _ := dig(e, "event_id").(string)
			got = append(got, id)
		}
	}
	slices.Reverse(got)
	if !slices.Equal(got, c.sent) {
		c.t.Errorf("the room has the messages as\n%v\nwhich were sent as\n%v", got, c.sent)
	}
}
