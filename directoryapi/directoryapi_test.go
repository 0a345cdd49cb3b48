package directoryapi

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/consumer"
	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/directoryapi/api"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	roomserver "github.com/matrix-org/dendrite/roomserver/api"
)

const testVersion = gomatrixserverlib.RoomVersion("11")

// world is a directory-api over a real log and database, with the test as the
// room server.
type world struct {
	t      *testing.T
	dir    string
	log    eventlog.Log
	caller *rpc.Server
	seqs   []int64
	stop   func()
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), seqs: make([]int64, 2)}
	log, err := eventlog.OpenEmbedded(t.Context(), filepath.Join(w.dir, "log.db"), eventlog.EmbeddedOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.log = log
	w.start()
	t.Cleanup(func() {
		w.stop()
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// start runs a Server until stop.
func (w *world) start() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	o := sqldbtest.Options(w.t, filepath.Join(w.dir, "directory.db"))
	o.Durable = true
	db, err := sqldb.Open(ctx, o)
	if err != nil {
		w.t.Fatal(err)
	}
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	s, err := New(ctx, Deps{
		Config: config.Directory{WaitTimeout: 10 * time.Second}, ServerName: "test", Log: w.log, DB: db,
		Partitions: 2, Logger: logrus.NewEntry(logger),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.caller = rpc.NewServer()
	s.Register(w.caller)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	w.stop = func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
		if err := db.Close(); err != nil {
			w.t.Error(err)
		}
	}
}

// event makes a stored event.
func event(t *testing.T, roomID, typ, sender string, stateKey *string, content string) *gomatrixserverlib.Event {
	t.Helper()
	e, err := (&gomatrixserverlib.EventBuilder{
		RoomID: roomID, Type: typ, Sender: sender, StateKey: stateKey, Content: jsontext.Value(content), OriginServerTS: 1, Depth: 1,
	}).Build(testVersion)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// publish appends a record as the room server would: with the next Seq.
func (w *world) publish(partition int, rec *roomserver.OutputRecord, events ...*gomatrixserverlib.Event) {
	w.t.Helper()
	w.seqs[partition]++
	rec.V, rec.Position = 1, roomserver.Position{Partition: partition, Seq: w.seqs[partition]}
	w.append(rec, events...)
}

func (w *world) append(rec *roomserver.OutputRecord, events ...*gomatrixserverlib.Event) {
	w.t.Helper()
	lines := make([][]byte, len(events))
	for i, e := range events {
		lines[i] = e.JSON()
	}
	value, err := rec.Encode(lines...)
	if err != nil {
		w.t.Fatal(err)
	}
	message := eventlog.Message{Topic: roomserver.TopicOutput, Partition: rec.Position.Partition, Key: []byte(rec.RoomID), Value: value}
	if _, err := w.log.Append(w.t.Context(), message); err != nil {
		w.t.Fatal(err)
	}
}

// state publishes a state event that becomes the current one.
func (w *world) state(partition int, roomID, typ, stateKey, content string, joined int) *gomatrixserverlib.Event {
	w.t.Helper()
	e := event(w.t, roomID, typ, "@alice:test", &stateKey, content)
	w.publish(partition, &roomserver.OutputRecord{
		Kind: roomserver.OutputEvent, RoomID: roomID, RoomVersion: string(testVersion), EventID: e.EventID(), Type: typ,
		StateKey: &stateKey, Sender: e.Sender(), Local: true, JoinedCount: joined,
		Changes: []roomserver.StateChange{{Type: typ, StateKey: stateKey, EventID: e.EventID()}},
	}, e)
	return e
}

// message publishes a message event.
func (w *world) message(partition int, roomID, typ, content, redacts string) *gomatrixserverlib.Event {
	w.t.Helper()
	e := event(w.t, roomID, typ, "@alice:test", nil, content)
	w.publish(partition, &roomserver.OutputRecord{
		Kind: roomserver.OutputEvent, RoomID: roomID, RoomVersion: string(testVersion), EventID: e.EventID(), Type: typ,
		Sender: e.Sender(), Local: true, JoinedCount: 1, Redacts: redacts,
	}, e)
	return e
}

// rooms returns a user's rooms as "room membership", once the view has all.
func (w *world) rooms(userID string) []string {
	w.t.Helper()
	res, err := api.QueryUserRooms.Call(w.t.Context(), w.caller, &api.UserRoomsRequest{UserID: userID, AtLeast: w.seqs})
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, r := range res.Rooms {
		out = append(out, r.RoomID+" "+r.Membership)
	}
	return out
}

func (w *world) room(roomID string) api.Room {
	w.t.Helper()
	w.rooms("@nobody:test") // waits
	res, err := api.QueryRooms.Call(w.t.Context(), w.caller, &api.RoomsRequest{RoomIDs: []string{roomID}})
	if err != nil {
		w.t.Fatal(err)
	}
	if len(res.Rooms) == 0 {
		return api.Room{}
	}
	return res.Rooms[0]
}

func TestViewOfARoom(t *testing.T) { sqldbtest.Each(t, testViewOfARoom) }

func testViewOfARoom(t *testing.T) {
	w := newWorld(t)
	const id = "!r:test"
	w.state(0, id, "m.room.create", "", `{"type":"m.space","m.federate":false}`, 0)
	w.state(0, id, "m.room.member", "@alice:test", `{"membership":"join"}`, 1)
	w.state(0, id, "m.room.member", "@far:away", `{"membership":"join"}`, 2)
	w.state(0, id, "m.room.name", "", `{"name":"Name"}`, 2)
	w.state(0, id, "m.room.topic", "", `{"topic":"old","m.topic":{"m.text":[{"body":"<b>","mimetype":"text/html"},{"body":"Topic"}]}}`, 2)
	w.state(0, id, "m.room.canonical_alias", "", `{"alias":"#a:test"}`, 2)
	w.state(0, id, "m.room.avatar", "", `{"url":"mxc://a/b"}`, 2)
	w.state(0, id, "m.room.join_rules", "", `{"join_rule":"knock"}`, 2)
	w.state(0, id, "m.room.encryption", "", `{"algorithm":"m.x"}`, 2)
	w.state(0, id, "m.room.history_visibility", "", `{"history_visibility":"world_readable"}`, 2)
	w.state(0, id, "m.room.guest_access", "", `{"guest_access":"can_join"}`, 2)
	w.state(0, id, "m.room.tombstone", "", `{"replacement_room":"!new:test"}`, 2)
	want := api.Room{
		RoomID: id, Version: "11", Type: "m.space", Name: "Name", Topic: "Topic", CanonicalAlias: "#a:test", AvatarURL: "mxc://a/b",
		JoinRule: "knock", Encryption: "m.x", WorldReadable: true, GuestCanJoin: true, Federate: false, JoinedCount: 2, Replaced: "!new:test",
	}
	if got := w.room(id); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	// Content of the wrong form counts as missing; removed entries too.
	w.state(0, id, "m.room.name", "", `{"name":["no"]}`, 2)
	w.publish(0, &roomserver.OutputRecord{
		Kind: roomserver.OutputState, RoomID: id, RoomVersion: "11", JoinedCount: 1,
		Changes: []roomserver.StateChange{{Type: "m.room.topic"}, {Type: "m.room.member", StateKey: "@alice:test"}},
	})
	want.Name, want.Topic, want.JoinedCount = "", "", 1
	if got := w.room(id); got != want {
		t.Errorf("after: %+v", got)
	}
	if got := w.rooms("@alice:test"); got != nil {
		t.Errorf("alice is still in %v", got)
	}
	w.publish(0, &roomserver.OutputRecord{Kind: roomserver.OutputPurged, RoomID: id, RoomVersion: "11"})
	if got := w.room(id); got.RoomID != "" {
		t.Errorf("purged: %+v", got)
	}
}

func TestRoomsOfAUser(t *testing.T) { sqldbtest.Each(t, testRoomsOfAUser) }

func testRoomsOfAUser(t *testing.T) {
	w := newWorld(t)
	w.state(0, "!a:test", "m.room.member", "@bob:test", `{"membership":"join"}`, 1)
	w.state(1, "!b:test", "m.room.member", "@bob:test", `{"membership":"invite"}`, 1)
	w.state(1, "!c:test", "m.room.member", "@bob:test", `{"membership":"join"}`, 1)
	w.state(1, "!c:test", "m.room.member", "@bob:test", `{"membership":"leave"}`, 0)
	key := "@bob:test"
	invite := event(t, "!far:away", "m.room.member", "@far:away", &key, `{"membership":"invite"}`)
	w.publish(1, &roomserver.OutputRecord{
		Kind: roomserver.OutputOutOfRoom, RoomID: "!far:away", RoomVersion: "11", Type: "m.room.member", StateKey: &key, EventID: invite.EventID(),
	}, invite)
	want := []string{"!a:test join", "!b:test invite", "!c:test leave", "!far:away invite"}
	if got := w.rooms("@bob:test"); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
	res, err := api.QueryUserRooms.Call(t.Context(), w.caller, &api.UserRoomsRequest{UserID: "@bob:test", Membership: []string{"join"}})
	if err != nil || len(res.Rooms) != 1 || res.Rooms[0].RoomID != "!a:test" {
		t.Errorf("joined: %+v, %v", res, err)
	}
}

// TestMembershipsTold: memberships are taken from a record that tells them,
// without asking for events (here nobody would answer); a record of before
// v0.2.0 tells them by its event, and what a newer one tells besides is passed over.
func TestMembershipsTold(t *testing.T) { sqldbtest.Each(t, testMembershipsTold) }

func testMembershipsTold(t *testing.T) {
	w := newWorld(t)
	w.publish(0, &roomserver.OutputRecord{Kind: roomserver.OutputState, RoomID: "!a:test", RoomVersion: "11", JoinedCount: 1,
		Changes: []roomserver.StateChange{
			{Type: "m.room.member", StateKey: "@bob:test", EventID: "$named", Membership: "join"},
			{Type: "m.room.member", StateKey: "@carol:test", EventID: "$other", Membership: "ban"},
			{Type: "m.room.member", StateKey: "@far:away", EventID: "$far", Membership: "join"},
		}})
	w.state(0, "!b:test", "m.room.member", "@bob:test", `{"membership":"invite"}`, 1)
	w.seqs[0]++
	value := fmt.Sprintf(`{"v":1,"kind":"state","pos":{"p":0,"s":%d,"new":1},"room_id":"!c:test","room_version":"11","joined":1,"invited":0,"new":{"x":[]},`+
		`"changes":[{"type":"m.room.member","state_key":"@bob:test","event_id":"$x","membership":"knock","new":"x"}]}`, w.seqs[0])
	if _, err := w.log.Append(t.Context(), eventlog.Message{Topic: roomserver.TopicOutput, Value: []byte(value)}); err != nil {
		t.Fatal(err)
	}
	for user, want := range map[string][]string{
		"@bob:test": {"!a:test join", "!b:test invite", "!c:test knock"}, "@carol:test": {"!a:test ban"}, "@far:away": nil,
	} {
		if got := w.rooms(user); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v", user, got)
		}
	}
}

// TestExactlyOnce: what was published again is dropped, messages cost no
// commit, and a restart goes on where the view stands.
func TestExactlyOnce(t *testing.T) { sqldbtest.Each(t, testExactlyOnce) }

func testExactlyOnce(t *testing.T) {
	w := newWorld(t)
	first := &roomserver.OutputRecord{}
	e := w.state(0, "!a:test", "m.room.member", "@bob:test", `{"membership":"join"}`, 1)
	key := "@bob:test"
	*first = roomserver.OutputRecord{
		V: 1, Kind: roomserver.OutputEvent, Position: roomserver.Position{Seq: 1}, RoomID: "!a:test", RoomVersion: "11", EventID: e.EventID(),
		Changes: []roomserver.StateChange{{Type: "m.room.member", StateKey: key, EventID: e.EventID()}},
	}
	w.state(0, "!a:test", "m.room.member", "@bob:test", `{"membership":"leave"}`, 0)
	w.append(first, e) // again
	for i := range 50 {
		w.message(0, "!a:test", "m.room.message", fmt.Sprintf(`{"body":"%d"}`, i), "")
	}
	want := []string{"!a:test leave"}
	if got := w.rooms("@bob:test"); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
	w.stop()
	w.start()
	w.message(0, "!a:test", "m.room.message", `{}`, "")
	w.state(1, "!b:test", "m.room.member", "@bob:test", `{"membership":"join"}`, 1)
	want = append(want, "!b:test join")
	if got := w.rooms("@bob:test"); !reflect.DeepEqual(got, want) {
		t.Errorf("after a restart: %v", got)
	}
}

func TestAnnotations(t *testing.T) { sqldbtest.Each(t, testAnnotations) }

func testAnnotations(t *testing.T) {
	w := newWorld(t)
	ask := func(key string) string {
		t.Helper()
		res, err := api.QueryAnnotation.Call(t.Context(), w.caller, &api.AnnotationRequest{
			RoomID: "!a:test", EventID: "$parent", Sender: "@alice:test", Type: "m.reaction", Key: key, AtLeast: w.seqs,
		})
		if err != nil {
			t.Fatal(err)
		}
		return res.EventID
	}
	e := w.message(0, "!a:test", "m.reaction", `{"m.relates_to":{"rel_type":"m.annotation","event_id":"$parent","key":"👍"}}`, "")
	w.message(0, "!a:test", "m.reaction", `{"m.relates_to":{"rel_type":"m.annotation","event_id":["$parent"],"key":"x"}}`, "")
	if got := ask("👍"); got != e.EventID() {
		t.Errorf("got %q", got)
	}
	if got := ask("x"); got != "" {
		t.Errorf("malformed: %q", got)
	}
	w.message(0, "!a:test", "m.room.redaction", `{"redacts":"`+e.EventID()+`"}`, e.EventID())
	if got := ask("👍"); got != "" {
		t.Errorf("redacted: %q", got)
	}
	again := w.message(0, "!a:test", "m.reaction", `{"m.relates_to":{"rel_type":"m.annotation","event_id":"$parent","key":"again"}}`, "")
	if got := ask("again"); got != again.EventID() {
		t.Errorf("got %q", got)
	}
	w.publish(0, &roomserver.OutputRecord{Kind: roomserver.OutputHistoryPurged, RoomID: "!a:test", RoomVersion: string(testVersion), JoinedCount: 1,
		Purged: []roomserver.PurgedEvent{{EventID: "$other"}, {EventID: again.EventID(), Seq: 4}}})
	if got := ask("again"); got != "" {
		t.Errorf("purged: %q", got)
	}
}

func TestWaitEnds(t *testing.T) { sqldbtest.Each(t, testWaitEnds) }

func testWaitEnds(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := api.QueryUserRooms.Call(ctx, w.caller, &api.UserRoomsRequest{UserID: "@a:test", AtLeast: []int64{1}})
	if err == nil {
		t.Error("a view that is behind answered")
	}
	progress, err := consumer.NewProgress(t.Context(), 1, func(context.Context) (map[int]int64, error) { return nil, nil })
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{config: config.Directory{WaitTimeout: time.Millisecond}, progress: progress, consumer: new(consumer.Consumer)}
	if err := s.wait(t.Context(), []int64{1}); !matrixerror.Is(err, "M_UNKNOWN") || matrixerror.From(err).Status != 503 {
		t.Errorf("timeout: %v", err)
	}
}

func TestAliasErrors(t *testing.T) { sqldbtest.Each(t, testAliasErrors) }

func testAliasErrors(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	put := func(room, creator string) error {
		_, err := api.PutAlias.Call(ctx, w.caller, &api.PutAliasRequest{Alias: "#x:test", RoomID: room, Creator: creator})
		return err
	}
	if err := put("!a:test", "@u:test"); err != nil {
		t.Fatal(err)
	}
	if err := put("!a:test", "@u:test"); err != nil {
		t.Errorf("again: %v", err)
	}
	if err := put("!b:test", "@u:test"); !matrixerror.Is(err, "M_ROOM_IN_USE") {
		t.Errorf("taken: %v", err)
	}
	if _, err := api.DeleteAlias.Call(ctx, w.caller, &api.DeleteAliasRequest{Alias: "#y:test"}); !matrixerror.Is(err, "M_NOT_FOUND") {
		t.Errorf("delete: %v", err)
	}
	if _, err := api.QueryAlias.Call(ctx, w.caller, &api.AliasRequest{Alias: "#y:test"}); !matrixerror.Is(err, "M_NOT_FOUND") {
		t.Errorf("query: %v", err)
	}
	up := api.Upgrade{RoomID: "!a:test", UserID: "@u:test", Version: "12"}
	if _, err := api.BeginUpgrade.Call(ctx, w.caller, &api.BeginUpgradeRequest{Upgrade: up}); err != nil {
		t.Error(err)
	}
	up.UserID = "@v:test"
	if _, err := api.BeginUpgrade.Call(ctx, w.caller, &api.BeginUpgradeRequest{Upgrade: up}); matrixerror.From(err) == nil || matrixerror.From(err).Status != 409 {
		t.Errorf("second upgrade: %v", err)
	}
}

func TestPublicRoomTokens(t *testing.T) { sqldbtest.Each(t, testPublicRoomTokens) }

func testPublicRoomTokens(t *testing.T) {
	w, ctx := newWorld(t), t.Context()
	for i := range 5 {
		id := fmt.Sprintf("!%d:test", i)
		w.state(0, id, "m.room.name", "", fmt.Sprintf(`{"name":"%d"}`, i), 5-i)
		if _, err := api.SetPublished.Call(ctx, w.caller, &api.SetPublishedRequest{RoomID: id, Published: true}); err != nil {
			t.Fatal(err)
		}
	}
	w.rooms("@nobody:test") // waits
	page := func(since string) (names, next, prev string) {
		t.Helper()
		res, err := api.QueryPublicRooms.Call(ctx, w.caller, &api.PublicRoomsRequest{Limit: 2, Since: since})
		if err != nil || res.Total != 5 {
			t.Fatal(res, err)
		}
		for _, r := range res.Rooms {
			names += r.Name
		}
		return names, res.Next, res.Prev
	}
	first, next, prev := page("")
	second, next2, prev2 := page(next)
	third, next3, prev3 := page(next2)
	back, _, prevBack := page(prev3)
	backTwice, _, prevFirst := page(prevBack)
	if first != "01" || prev != "" || second != "23" || prev2 == "" || third != "4" || next3 != "" || back != "23" || backTwice != "01" || prevFirst != "" {
		t.Errorf("%q %q %q %q %q, ends %q %q %q", first, second, third, back, backTwice, prev, next3, prevFirst)
	}
	for _, bad := range []string{"x", "n", "nAAAA", "nMSAhYQ=", "z" + next[1:], "n!!", next + next} {
		_, err := api.QueryPublicRooms.Call(ctx, w.caller, &api.PublicRoomsRequest{Since: bad})
		if !matrixerror.Is(err, "M_INVALID_PARAM") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func FuzzToken(f *testing.F) {
	f.Add("nNSAhcjp0ZXN0")
	f.Fuzz(func(t *testing.T, s string) {
		place, back, err := parseToken(s)
		if err != nil {
			return
		}
		direction := byte('n')
		if back {
			direction = 'p'
		}
		again, _, err := parseToken(token(direction, &api.Room{RoomID: place.RoomID, JoinedCount: place.Joined}))
		if err != nil || *again != *place {
			t.Fatalf("%q: %+v, %v", s, again, err)
		}
	})
}
