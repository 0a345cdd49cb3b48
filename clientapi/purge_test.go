package clientapi

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/common/testwait"
	"github.com/matrix-org/dendrite/roomserver/api"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// talk sends so many messages to a room, which are old.
func (w *fullWorld) talk(room string, n int, age time.Duration) (ids []string) {
	w.t.Helper()
	for n > 0 {
		rec := &api.InputRecord{RoomID: room, TS: time.Now().Add(-age).UnixMilli()}
		for range min(n, 300) {
			rec.Events = append(rec.Events, api.InputEvent{Proto: &api.Proto{Type: "m.room.message", Sender: "@alice:test", Content: jsontext.Value(`{"body":"x"}`)}})
		}
		v, err := w.server.writer.Append(w.t.Context(), rec)
		if err != nil {
			w.t.Fatal(err)
		}
		ids, n = append(ids, v.EventIDs...), n-300
	}
	return ids
}

// left counts those of the events that are there.
func (w *fullWorld) left(ids []string) int {
	w.t.Helper()
	res, err := api.QueryEvents.Call(w.t.Context(), w.caller, &api.EventsRequest{EventIDs: ids})
	if err != nil {
		w.t.Fatal(err)
	}
	return len(res.Events)
}

// purgeNow stores a purge and waits until it is over.
func (w *fullWorld) purgeNow(p userapi.Purge) userapi.Purge {
	w.t.Helper()
	id, err := w.store().PutPurge(w.t.Context(), &p)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.purged(id)
}

// purged has this instance look for purges until one is over.
func (w *fullWorld) purged(id string) (p userapi.Purge) {
	w.t.Helper()
	testwait.Until(w.t, "the purge is over", func() bool {
		if err := w.server.takePurges(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
		list, err := w.store().Purges(w.t.Context(), id, 1)
		if err != nil || len(list) != 1 {
			w.t.Fatal(list, err)
		}
		p = list[0]
		return p.FinishedTS != 0
	})
	return p
}

// dying is a caller that fails for good at the call of a method that it is told.
type dying struct {
	rpc.Caller
	method string
	calls  int // left until then
	dead   bool
}

var errDead = errors.New("dead")

func (d *dying) Invoke(ctx context.Context, c rpc.Call) (any, error) {
	if c.Method == d.method {
		if d.calls--; d.calls <= 0 {
			d.dead = true
		}
	}
	if d.dead {
		return nil, errDead
	}
	return d.Caller.Invoke(ctx, c)
}

// TestPurgeKilled: who purges may die between any two steps; another instance goes
// on, once the lease has run out, and not before.
func TestPurgeKilled(t *testing.T) { sqldbtest.Each(t, testPurgeKilled) }

func testPurgeKilled(t *testing.T) {
	w := newFullWorld(t, Deps{})
	w.register(false, "alice")
	for name, die := range map[string]dying{
		"before it looks":                {method: "purgeable", calls: 1},
		"before the second page":         {method: "purgeable", calls: 2},
		"before it says how far it is":   {method: "keep_purge", calls: 1},
		"before it says that it is over": {method: "finish_purge", calls: 1},
	} {
		t.Run(name, func(t *testing.T) {
			room, ctx := w.create("alice", `{}`), t.Context()
			ids := w.talk(room, purgePage+100, time.Hour)
			p := userapi.Purge{ID: strings.ReplaceAll(name, " ", "-"), Kind: userapi.PurgeHistory, RoomID: room, BeforeTS: time.Now().UnixMilli()}
			if err := w.taken(p, "dead"); err != nil {
				t.Fatal(err)
			}
			die.Caller = w.caller
			dead := &Server{caller: &die, jobOwner: "dead", writer: w.server.writer, purged: w.server.purged, purgeInterval: w.server.purgeInterval}
			if err := (&purging{s: dead, job: p, kept: time.Now()}).do(ctx); !errors.Is(err, errDead) {
				t.Fatal(err)
			}
			// It is the dead one's as long as its lease lasts.
			if res, err := userapi.TakePurge.Call(ctx, w.caller, &userapi.TakePurgeRequest{Owner: "other"}); err != nil || res.Found {
				t.Fatalf("%+v, %v", res, err)
			}
			if err := w.userDB.Write(ctx, func(tx *sqldb.Tx) error {
				_, err := tx.Exec(ctx, "UPDATE purges SET until_ts = 0 WHERE purge_id = $1", p.ID)
				return err
			}); err != nil {
				t.Fatal(err)
			}
			if over := w.purged(p.ID); over.Error != "" {
				t.Errorf("%+v", over)
			}
			if n := w.left(ids); n != 1 { // the last event
				t.Errorf("%d of %d events are left", n, len(ids))
			}
			// The dead one comes to itself, and has lost the purge.
			late := &purging{s: w.server, job: p, kept: time.Now()}
			if err := late.keep(ctx); !errors.Is(err, errJobLost) {
				t.Errorf("a purge that is over is prolonged: %v", err)
			}
		})
	}
}

// taken stores a purge that an owner has taken already.
func (w *fullWorld) taken(p userapi.Purge, owner string) error {
	return w.userDB.Write(w.t.Context(), func(tx *sqldb.Tx) error {
		_, err := tx.Exec(w.t.Context(), `INSERT INTO purges (purge_id, kind, part, room_id, before_ts, event_id, force, place, purged, created_ts, due_ts,
			owner, until_ts, finished_ts, error) VALUES ($1, $2, 0, $3, $4, $5, $6, '', 0, 1, 0, $7, $8, 0, '')`,
			p.ID, string(p.Kind), p.RoomID, p.BeforeTS, p.EventID, p.Force, owner, time.Now().Add(time.Hour).UnixMilli())
		return err
	})
}

// TestPurges: history up to a time or an event, and rooms; what cannot be is given up
// with a reason.
func TestPurges(t *testing.T) { sqldbtest.Each(t, testPurges) }

func testPurges(t *testing.T) {
	w := newFullWorld(t, Deps{})
	w.register(false, "alice", "bob")
	room := w.create("alice", `{"preset":"public_chat"}`)
	old, newer := w.talk(room, 3, 2*time.Hour), w.talk(room, 3, time.Minute)
	p := w.purgeNow(userapi.Purge{ID: "time", Kind: userapi.PurgeHistory, RoomID: room, BeforeTS: time.Now().Add(-time.Hour).UnixMilli()})
	if p.Purged != 3 || w.left(old) != 0 || w.left(newer) != 3 {
		t.Fatalf("%+v, %d and %d are left", p, w.left(old), w.left(newer))
	}
	if p = w.purgeNow(userapi.Purge{ID: "event", Kind: userapi.PurgeHistory, RoomID: room, EventID: newer[1]}); p.Purged != 1 || w.left(newer) != 2 {
		t.Fatalf("%+v, %d are left", p, w.left(newer))
	}
	for name, c := range map[string]struct {
		purge userapi.Purge
		says  string
	}{
		"an unknown event":   {userapi.Purge{Kind: userapi.PurgeHistory, RoomID: room, EventID: "$unknown"}, "no such event"},
		"an unknown room":    {userapi.Purge{Kind: userapi.PurgeHistory, RoomID: "!unknown:test", BeforeTS: 1}, "Unknown room"},
		"a room in use":      {userapi.Purge{Kind: userapi.PurgeRoom, RoomID: room}, "Users of this server"},
		"a room that is not": {userapi.Purge{Kind: userapi.PurgeRoom, RoomID: "!unknown:test"}, ""},
	} {
		c.purge.ID = name
		if p := w.purgeNow(c.purge); (p.Error == "") != (c.says == "") || !strings.Contains(p.Error, c.says) {
			t.Errorf("%s: %+v", name, p)
		}
	}
	w.must("bob", "POST", "/join/"+room, `{}`)
	if p = w.purgeNow(userapi.Purge{ID: "force", Kind: userapi.PurgeRoom, RoomID: room, Force: true}); p.Error != "" {
		t.Fatalf("%+v", p)
	}
	if _, err := api.QueryRoom.Call(t.Context(), w.caller, &api.RoomRequest{RoomID: room}); !matrixerror.Is(err, "M_NOT_FOUND") {
		t.Fatal(err)
	}
	for _, user := range []string{"alice", "bob"} {
		if a := w.must(user, "GET", "/joined_rooms", ""); strings.Contains(a.raw, room) {
			t.Errorf("%s is still in: %s", user, a.raw)
		}
	}
}

// TestRetention: what expires by the room's state, or by the server's default, is
// purged again and again; the configuration is told, nonsense is refused.
func TestRetention(t *testing.T) { sqldbtest.Each(t, testRetention) }

func testRetention(t *testing.T) {
	w := newFullWorld(t, Deps{Retention: config.Retention{Enabled: true, Interval: 100 * time.Millisecond,
		Default: config.Lifetimes{MaxLifetime: 10 * time.Hour}, Limits: config.RetentionLimits{MaxLifetime: config.LifetimeLimits{Min: time.Hour}}}})
	w.register(false, "alice")
	byDefault, own, kept := w.create("alice", `{}`), w.create("alice", `{}`), w.create("alice", `{}`)
	var old, newer [3][]string
	for i, room := range []string{byDefault, own, kept} {
		old[i], newer[i] = w.talk(room, 2, 20*time.Hour), w.talk(room, 2, 5*time.Hour)
		w.talk(room, 1, 0) // the last event
		age := []string{"", "60000", "360000000"}[i]
		if age != "" { // of which the least is an hour
			w.must("alice", "PUT", "/rooms/"+room+"/state/m.room.retention", `{"max_lifetime":`+age+`}`)
		}
	}
	testwait.Until(t, "what has expired is purged", func() bool { return w.left(old[0])+w.left(old[1])+w.left(newer[1]) == 0 })
	again := w.talk(own, 2, 2*time.Hour)
	w.talk(own, 1, 0)
	testwait.Until(t, "what comes expired is purged", func() bool { return w.left(again) == 0 })
	if n := w.left(newer[0]) + w.left(old[2]) + w.left(newer[2]); n != 6 {
		t.Errorf("%d events are left, want 6", n)
	}
	const path = "/_matrix/client/unstable/org.matrix.msc1763/retention/configuration"
	if a := w.must("alice", "GET", path, ""); a.raw != `{"policies":{"*":{"max_lifetime":36000000}},"limits":{"max_lifetime":{"min":3600000}}}` {
		t.Error(a.raw)
	}
	w.expect("401 M_MISSING_TOKEN", "", "GET", path, "")
	for _, wrong := range []string{`{"max_lifetime":-1}`, `{"max_lifetime":"1"}`, `{"min_lifetime":2,"max_lifetime":1}`} {
		for _, typ := range []string{"m.room.retention", "org.matrix.msc1763.retention"} {
			w.expect("400 M_BAD_JSON", "alice", "PUT", "/rooms/"+own+"/state/"+typ, wrong)
		}
	}
	if a := w.must("alice", "GET", "/_matrix/client/versions", ""); !strings.Contains(a.raw, `"org.matrix.msc1763":true`) {
		t.Error(a.raw)
	}
}

// TestRetentionOff: by default everything is kept.
func TestRetentionOff(t *testing.T) {
	w := newFullWorld(t, Deps{})
	w.register(false, "alice")
	room := w.create("alice", `{}`)
	ids := w.talk(room, 3, 20*time.Hour)
	w.must("alice", "PUT", "/rooms/"+room+"/state/m.room.retention", `{"max_lifetime":1}`)
	if err := w.server.takePurges(t.Context()); err != nil {
		t.Fatal(err)
	}
	if res, err := userapi.TakePurge.Call(t.Context(), w.caller, &userapi.TakePurgeRequest{Owner: "o"}); err != nil || res.Found || w.left(ids) != 3 {
		t.Errorf("%+v, %v, %d are left", res, err, w.left(ids))
	}
	if a := w.must("alice", "GET", "/_matrix/client/unstable/org.matrix.msc1763/retention/configuration", ""); a.raw != `{"policies":{},"limits":{}}` {
		t.Error(a.raw)
	}
}

// TestPurgesTaken: of several instances each partition is one's, and so is what an
// administrator wants.
func TestPurgesTaken(t *testing.T) { sqldbtest.Each(t, testPurgesTaken) }

func testPurgesTaken(t *testing.T) {
	w := newFullWorld(t, Deps{})
	store, ctx := w.store(), t.Context()
	for _, id := range []string{"a", "b"} { // the second is the first one's repetition
		if got, err := store.PutPurge(ctx, &userapi.Purge{ID: id, Kind: userapi.PurgeRoom, RoomID: "!r:test"}); err != nil || got != "a" {
			t.Fatal(got, err)
		}
	}
	if err := w.server.takePurges(ctx); err != nil { // which does a
		t.Fatal(err)
	}
	got := make(chan string, 20)
	for n := range 4 {
		go func() {
			for range 5 {
				p, ok, err := store.TakePurge(ctx, fmt.Sprint("o", n), 6, 60000)
				if err != nil {
					t.Error(err)
				}
				if !ok {
					p.ID = ""
				}
				got <- p.ID
			}
		}()
	}
	seen := map[string]int{}
	for range 20 {
		seen[<-got]++
	}
	if seen[""] != 14 || len(seen) != 7 {
		t.Errorf("taken: %v", seen)
	}
}
