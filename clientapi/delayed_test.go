package clientapi

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

const delayedPath = unstable + "/org.matrix.msc4140/delayed_events"

// delay schedules an event and returns its ID.
func (w *fullWorld) delay(user, path, body string) string {
	w.t.Helper()
	id, _ := w.must(user, "PUT", path, body).body["delay_id"].(string)
	if id == "" {
		w.t.Fatal("no delay_id")
	}
	return id
}

// finalised waits until an event is, and returns it.
func (w *fullWorld) finalised(user, id string) map[string]any {
	w.t.Helper()
	tick, late := time.NewTicker(5*time.Millisecond), time.After(20*time.Second)
	defer tick.Stop()
	for {
		a := w.must(user, "GET", delayedPath+"/"+id, "")
		if a.body["finalised_ts"] != nil {
			return a.body
		}
		select {
		case <-tick.C:
		case <-late:
			w.t.Fatal("not finalised: ", a.raw)
		}
	}
}

// scheduled lists the types of a user's scheduled events.
func (w *fullWorld) scheduled(user string) string {
	w.t.Helper()
	var types []string
	for _, e := range w.must(user, "GET", delayedPath, "").body["delayed_events"].([]any) {
		types = append(types, e.(map[string]any)["type"].(string))
	}
	return strings.Join(types, " ")
}

func (w *fullWorld) topic(user, room string) any {
	w.t.Helper()
	return w.do(user, "GET", "/rooms/"+room+"/state/m.room.topic", "").body["topic"]
}

func TestDelayedEvents(t *testing.T) { sqldbtest.Each(t, testDelayedEvents) }

func testDelayedEvents(t *testing.T) {
	w := newFullWorld(t, Deps{})
	w.register(false, "alice", "bob")
	room := w.create("alice", `{"preset":"public_chat"}`)
	w.must("bob", "POST", "/rooms/"+room+"/join", `{}`)
	at := unstable + "/org.matrix.msc4140/rooms/" + room + "/delayed_event/"

	sent := w.delay("alice", at+"m.room.message/1", `{"delay_ms":1,"content":{"body":"later"}}`)
	if again := w.delay("alice", at+"m.room.message/1", `{"delay_ms":1,"content":{"body":"later"}}`); again != sent {
		t.Errorf("a repeated transaction makes %s, was %s", again, sent)
	}
	event := w.finalised("alice", sent)
	if e := w.event(room, event["event_id"].(string)); e.Sender() != "@alice:test" || string(e.Content()) != `{"body":"later"}` || event["error"] != nil {
		t.Errorf("sent %s, told %v", e.JSON(), event)
	}

	topic := w.delay("alice", at+"m.room.topic/2", `{"delay_ms":3600000,"state_key":"","content":{"topic":"an hour later"}}`)
	call := w.delay("alice", "/rooms/"+room+"/state/org.example.call/@alice:test?org.matrix.msc4140.delay=3600001", `{}`)
	note := w.delay("alice", "/rooms/"+room+"/send/m.room.message/9?org.matrix.msc4140.delay=3600002", `{"body":"x"}`)
	w.restart()
	if got := w.scheduled("alice"); got != "m.room.topic org.example.call m.room.message" {
		t.Errorf("scheduled: %s", got)
	}
	if got := w.scheduled("bob"); got != "" {
		t.Errorf("bob sees %s", got)
	}
	before := w.must("alice", "GET", delayedPath+"/"+call, "").body
	if before["state_key"] != "@alice:test" || before["delay_ms"] != 3600001.0 || before["delay"] != 3600001.0 || before["room_id"] != room || before["event_id"] != nil {
		t.Errorf("an event is shown as %v", before)
	}
	if w.topic("bob", room) != nil {
		t.Error("the topic came at once")
	}
	w.must("alice", "POST", delayedPath+"/"+topic+"/send", `{}`)
	if got := w.topic("bob", room); got != "an hour later" {
		t.Errorf("sent at once, the topic is %v", got)
	}
	w.must("alice", "POST", delayedPath+"/"+topic+"/send", `{}`)
	w.must("alice", "POST", delayedPath+"/"+note, `{"action":"cancel"}`)
	w.must("alice", "POST", delayedPath+"/"+note+"/cancel", ``)
	for _, tt := range [][2]string{{topic, "cancel"}, {topic, "restart"}, {note, "send"}, {note, "restart"}} {
		w.expect("409 M_UNKNOWN", "alice", "POST", delayedPath+"/"+tt[0]+"/"+tt[1], `{}`)
	}
	if e := w.finalised("alice", note); e["event_id"] != nil || e["error"] != nil {
		t.Errorf("cancelled: %v", e)
	}
	w.must("alice", "POST", delayedPath+"/"+call+"/restart", `{}`)
	if after := w.must("alice", "GET", delayedPath+"/"+call, "").body; after["scheduled_at"].(float64) < before["scheduled_at"].(float64) {
		t.Errorf("put off: %v, was %v", after, before)
	}
	if got := w.scheduled("alice"); got != "org.example.call" {
		t.Errorf("scheduled: %s", got)
	}
}

// TestDelayedAcrossRestart: what becomes due while nobody is there is sent once
// somebody is, in the order in which it was due.
func TestDelayedAcrossRestart(t *testing.T) { sqldbtest.Each(t, testDelayedAcrossRestart) }

func testDelayedAcrossRestart(t *testing.T) {
	w := newFullWorld(t, Deps{})
	w.register(false, "alice")
	room := w.create("alice", `{}`)
	at := unstable + "/org.matrix.msc4140/rooms/" + room + "/delayed_event/"
	var ids []string
	for i := range 3 {
		ids = append(ids, w.delay("alice", fmt.Sprint(at, "m.room.topic/", i), fmt.Sprintf(`{"delay_ms":%d,"state_key":"","content":{"topic":"%d"}}`, 300+i, i)))
	}
	w.restart()
	for _, id := range ids {
		if e := w.finalised("alice", id); e["event_id"] == nil {
			t.Errorf("not sent: %v", e)
		}
	}
	if got := w.topic("alice", room); got != "2" {
		t.Errorf("the last topic is %v", got)
	}
}

func TestDelayedRefusals(t *testing.T) { sqldbtest.Each(t, testDelayedRefusals) }

func testDelayedRefusals(t *testing.T) {
	w := newFullWorld(t, Deps{Config: config.ClientAPI{DelayedEvents: config.DelayedEvents{MaxScheduled: 2, MaxDelay: time.Hour}}})
	w.register(true, "root")
	w.register(false, "alice", "bob")
	room := w.create("alice", `{"preset":"public_chat"}`)
	w.must("bob", "POST", "/rooms/"+room+"/join", `{}`)
	at := unstable + "/org.matrix.msc4140/rooms/" + room + "/delayed_event/"
	for _, tt := range [][3]string{
		{"400 M_INVALID_PARAM", "m.room.message/1", `{"delay_ms":0,"content":{}}`},
		{"403 M_FORBIDDEN", "m.room.message/1", `{"delay_ms":3600001,"content":{}}`},
		{"400 M_INVALID_PARAM", "org.example/1", `{"delay_ms":5,"state_key":"a\u0000b","content":{}}`},
		{"400 M_MISSING_PARAM", "m.room.message/1", `{"content":{}}`},
		{"400 M_MISSING_PARAM", "m.room.message/1", `{"delay_ms":5}`},
		{"400 M_BAD_JSON", "m.room.message/1", `{"delay_ms":5,"content":[]}`},
		{"403 M_FORBIDDEN", "m.room.member/1", `{"delay_ms":5,"state_key":"@bob:test","content":{"membership":"leave"}}`},
	} {
		w.expect(tt[0], "bob", "PUT", at+tt[1], tt[2])
	}
	w.expect("400 M_INVALID_PARAM", "bob", "PUT", "/rooms/"+room+"/send/m.room.message/1?org.matrix.msc4140.delay=soon", `{}`)
	w.expect("403 M_FORBIDDEN", "bob", "PUT", "/rooms/"+room+"/state/m.room.member/@bob:test?org.matrix.msc4140.delay=5", `{"membership":"leave"}`)
	w.expect("401 M_MISSING_TOKEN", "", "GET", delayedPath, "")

	// Who may not send it finds that out when it is sent, or from sending it at once.
	power := w.delay("bob", at+"m.room.topic/1", `{"delay_ms":1,"state_key":"","content":{"topic":"bob's"}}`)
	if e := w.finalised("bob", power); e["event_id"] != nil || !strings.Contains(fmt.Sprint(e["error"]), "M_FORBIDDEN") {
		t.Errorf("refused: %v", e)
	}
	later := w.delay("bob", at+"m.room.topic/2", `{"delay_ms":3600000,"state_key":"","content":{"topic":"bob's"}}`)
	w.expect("403 M_FORBIDDEN", "bob", "POST", delayedPath+"/"+later+"/send", `{}`)
	w.must("alice", "PUT", "/rooms/"+room+"/state/m.room.power_levels", `{"state_default":0}`)
	w.expect("200", "bob", "POST", delayedPath+"/"+later+"/send", `{}`)
	if got := w.topic("alice", room); got != "bob's" {
		t.Errorf("the topic is %v", got)
	}

	w.delay("bob", at+"m.room.message/3", `{"delay_ms":3600000,"content":{}}`)
	fourth := w.delay("bob", at+"m.room.message/4", `{"delay_ms":3600000,"content":{}}`)
	if a := w.expect("429 M_LIMIT_EXCEEDED", "bob", "PUT", at+"m.room.message/5", `{"delay_ms":3600000,"content":{}}`); a.body["retry_after_ms"].(float64) < 3e6 {
		t.Error(a.raw)
	}
	for _, action := range []string{"send", "cancel", "restart"} {
		w.expect("404 M_NOT_FOUND", "alice", "POST", delayedPath+"/"+fourth+"/"+action, `{}`)
		w.expect("404 M_NOT_FOUND", "bob", "POST", delayedPath+"/nothing/"+action, `{}`)
		w.expect("404 M_NOT_FOUND", "bob", "POST", delayedPath+"/a%00b/"+action, `{}`)
	}
	w.expect("404 M_NOT_FOUND", "alice", "GET", delayedPath+"/"+fourth, "")
	w.expect("404 M_NOT_FOUND", "alice", "GET", delayedPath+"/%00", "")
	w.expect("400 M_INVALID_PARAM", "bob", "POST", delayedPath+"/"+fourth+"/dance", `{}`)
	w.expect("400 M_MISSING_PARAM", "bob", "POST", delayedPath+"/"+fourth, `{}`)
	w.must("root", "PUT", "/_matrix/client/v1/admin/suspend/@bob:test", `{"suspended":true}`)
	w.expect("403 M_USER_SUSPENDED", "bob", "PUT", at+"m.room.message/6", `{"delay_ms":5,"content":{}}`)
	w.expect("403 M_USER_SUSPENDED", "bob", "POST", delayedPath+"/"+fourth+"/send", `{}`)
	if a := w.must("bob", "GET", "/capabilities", ""); !strings.Contains(a.raw, `"org.matrix.msc4140.delayed_events":{"max_delay_ms":3600000,"max_scheduled":2}`) {
		t.Error(a.raw)
	}
	w.server.config.DelayedEvents.Disabled = true
	w.expect("403 M_FORBIDDEN", "alice", "PUT", at+"m.room.message/7", `{"delay_ms":5,"content":{}}`)
}

// TestDelayedTaken: of instances that look at the same time one gets an event, and
// who has it may die: then another one gets it, and it is still sent once.
func TestDelayedTaken(t *testing.T) { sqldbtest.Each(t, testDelayedTaken) }

func testDelayedTaken(t *testing.T) {
	w := newFullWorld(t, Deps{})
	w.register(false, "alice")
	room := w.create("alice", `{}`)
	store, ctx := w.store(), t.Context()
	event := userapi.DelayedEvent{UserID: "@alice:test", Request: "r", RoomID: room, Type: "m.room.message", Content: []byte(`{"body":"x"}`), DelayMS: 3600000}
	res, err := userapi.ScheduleDelayed.Call(ctx, w.caller, &userapi.ScheduleDelayedRequest{Event: event, Max: 5})
	if err != nil {
		t.Fatal(err)
	}
	// Somebody takes it to send it, and dies once the record is logged.
	taken, err := userapi.UpdateDelayed.Call(ctx, w.caller, &userapi.UpdateDelayedRequest{UserID: "@alice:test", ID: res.ID, Action: userapi.DelayedSend, Owner: "dead"})
	if err != nil || !taken.Taken {
		t.Fatal(taken, err)
	}
	first, err := w.server.sendDelayed(ctx, &taken.Event)
	if err != nil {
		t.Fatal(err)
	}
	w.expect("409 M_UNKNOWN", "alice", "POST", delayedPath+"/"+res.ID+"/cancel", `{}`)
	var mu sync.Mutex
	var got []userapi.DelayedEvent
	var taking sync.WaitGroup
	for i := range 6 {
		taking.Go(func() {
			list, _, err := store.TakeDelayed(context.WithoutCancel(ctx), fmt.Sprint("o", i), 10, 60000)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			got = append(got, list...)
			mu.Unlock()
		})
	}
	taking.Wait()
	if len(got) != 0 {
		t.Fatalf("taken from who has it: %v", got)
	}
	if err := w.expireDelayed(res.ID); err != nil {
		t.Fatal(err)
	}
	w.server.hurryDelayed()
	if e := w.finalised("alice", res.ID); e["event_id"] != first.EventID {
		t.Errorf("sent as %v, and before as %s", e["event_id"], first.EventID)
	}
}

// expireDelayed has the lease of who has taken an event run out.
func (w *fullWorld) expireDelayed(id string) error {
	return w.userDB.Write(w.t.Context(), func(tx *sqldb.Tx) error {
		_, err := tx.Exec(w.t.Context(), "UPDATE delayed_events SET until_ts = 1 WHERE delay_id = $1", id)
		return err
	})
}
