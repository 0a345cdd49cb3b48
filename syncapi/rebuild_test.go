package syncapi

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// cut is a log that has dropped the beginning of a topic.
type cut struct {
	eventlog.Log
	topic  string
	starts []int64
}

// cutTo drops all but so many records of each of a topic's partitions.
func cutTo(t *testing.T, log eventlog.Log, topic string, partitions int, left int64) cut {
	c := cut{Log: log, topic: topic}
	for p := range partitions {
		_, end, err := log.Bounds(t.Context(), topic, p)
		if err != nil {
			t.Fatal(err)
		}
		c.starts = append(c.starts, max(0, end-left))
	}
	return c
}

func (l cut) Bounds(ctx context.Context, topic string, partition int) (start, end int64, err error) {
	start, end, err = l.Log.Bounds(ctx, topic, partition)
	if topic == l.topic {
		start = max(start, l.starts[partition])
	}
	return start, end, err
}

func (l cut) Read(ctx context.Context, topic string, partition int, from int64, maxBytes int) ([]eventlog.Record, error) {
	if start, _, err := l.Bounds(ctx, topic, partition); err != nil || from < start {
		return nil, errors.Join(err, eventlog.ErrOffsetOutOfRange)
	}
	return l.Log.Read(ctx, topic, partition, from, maxBytes)
}

func (l cut) ReadMany(ctx context.Context, topic string, from map[int]int64, maxBytes int) (map[int][]eventlog.Record, error) {
	for p, offset := range from {
		if start, _, err := l.Bounds(ctx, topic, p); err != nil || offset < start {
			return nil, errors.Join(err, eventlog.ErrOffsetOutOfRange)
		}
	}
	return l.Log.ReadMany(ctx, topic, from, maxBytes)
}

// leaveBehind does the first half of what happens, with a second database, behind.db,
// that then hears of nothing more.
func (m *model) leaveBehind(note func()) (root string) {
	root = firstHalf(m, note)
	m.stop()
	m.db = "behind.db"
	m.start()
	m.settle()
	m.stop()
	m.db = "sync.db"
	m.start()
	return root
}

// TestRebuild: a view that is new, or has fallen behind what the log still
// holds, answers as one that has read every record.
func TestRebuild(t *testing.T) {
	t.Run("alone", func(t *testing.T) { rebuildWith(t, 0) })
	t.Run("instances", func(t *testing.T) { rebuildWith(t, 2) })
}

func rebuildWith(t *testing.T, instances int) {
	m := newModelOn(t, true, instances)
	var tokens []string
	note := func() {
		m.settle()
		tokens = append(tokens, m.sync(bob, "").Next)
	}
	root := m.leaveBehind(note)
	secondHalf(m, root, note)
	m.settle()
	m.restart() // with nothing in memory, as a rebuilt one
	want := everything(t, m, tokens, root)
	for _, room := range []string{"!far:remote", "!ended:remote", "!knock:test", "!invited:test", "!again:test"} {
		if !slices.ContainsFunc(want, func(s shownAnswer) bool { return s.names(room) }) {
			t.Errorf("no answer tells of %s", room)
		}
	}
	whole := m.log
	for i, db := range []string{"behind.db", "new.db", "new.db"} {
		m.stop()
		m.log, m.db = cutTo(t, whole, roomapi.TopicOutput, len(m.view.shape.rooms), int64(i)), db
		m.start()
		m.settle()
		if m.view.applied.Load().rooms[0] == unbuilt {
			t.Fatal("what is not built is shown")
		}
		if known, err := m.view.store.KnownRooms(t.Context(), "", 100); err != nil || slices.Contains(known, "!gone:test") {
			t.Errorf("%s has rows of a purged room: %v, %v", db, known, err)
		}
		for i, got := range everything(t, m, tokens, root) {
			if !reflect.DeepEqual(got, want[i]) {
				t.Errorf("%s, %s:\ngot  %v\nwant %v", db, got.of, got.value, want[i].value)
			}
		}
	}
	after := m.message(testRoom, alice, "after")
	m.settle()
	if tl := m.sync(bob, tokens[len(tokens)-1]).Rooms.Join[testRoom].Timeline.Events; len(tl) == 0 || tl[len(tl)-1].ID != after {
		t.Errorf("what came later is not shown: %v", ids(tl))
	}
}

// leaves lets bob leave a room and forget it.
func (m *model) leaveAndForget(room string) {
	id := m.member(room, bob, bob, "leave")
	m.change(userapi.UserChange{UserID: bob, Kind: userapi.ChangeForget, RoomID: room, EventID: id})
}

func (m *model) outside(room, membership string) {
	b := gomatrixserverlib.EventBuilder{RoomID: room, Sender: "@r:remote", Type: typeMember, StateKey: stateKey(bob), Depth: 1,
		Content: jsontext.Value(`{"membership":"` + membership + `"}`), PrevEvents: []string{"$x"}, AuthEvents: []string{"$x"}}
	ev, err := b.Build(testVersion)
	if err != nil {
		m.t.Fatal(err)
	}
	m.real.submit(roomapi.InputRecord{Origin: "remote", RoomID: room, RoomVersion: string(testVersion), Kind: roomapi.KindOutOfRoom,
		StrippedState: jsontext.Value(`[{"type":"m.room.name","state_key":"","sender":"@r:remote","content":{"name":"Far"}}]`),
		Events:        []roomapi.InputEvent{{EventID: ev.EventID()}}}, ev.JSON())
}

func (m *model) relating(sender, relType, parent, body string) string {
	return m.send(sent{room: testRoom, sender: sender, typ: "m.room.message", content: `{"body":"` + body + `","msgtype":"m.text","m.new_content":{"body":"new"},` +
		`"m.relates_to":{"rel_type":"` + relType + `","event_id":"` + parent + `"}}`})
}

// firstHalf makes rooms of all kinds; it returns a thread's root.
func firstHalf(m *model, note func()) string {
	m.create(testRoom, alice, bob)
	root := m.message(testRoom, alice, "root!")
	m.relating(alice, relThread, root, "in a thread!")
	note()
	for _, room := range []string{"!gone:test", "!left:test", "!forgotten:test", "!again:test"} {
		m.create(room, alice, bob)
		m.message(room, alice, "x")
	}
	m.create("!invited:test", alice)
	m.create("!knock:test", alice)
	m.send(sent{room: "!knock:test", sender: alice, typ: "m.room.join_rules", key: stateKey(""), content: `{"join_rule":"knock"}`})
	note()
	m.outside("!far:remote", "invite")
	m.outside("!ended:remote", "invite")
	m.receipt(bob, testRoom, root, receiptPublic, "")
	note()
	m.leaveAndForget("!again:test")
	return root
}

// secondHalf changes what firstHalf made.
func secondHalf(m *model, root string, note func()) {
	m.member("!invited:test", alice, bob, "invite")
	m.member("!knock:test", bob, bob, "knock")
	m.member("!left:test", alice, bob, "ban")
	m.leaveAndForget("!forgotten:test")
	m.member("!again:test", bob, bob, "join")
	note()
	m.member("!again:test", bob, bob, "leave")
	m.outside("!ended:remote", "leave")
	m.real.submit(roomapi.InputRecord{Origin: testServer, RoomID: "!gone:test", Kind: roomapi.KindPurge})
	m.send(sent{room: testRoom, sender: bob, typ: typeMember, key: stateKey(bob), content: `{"membership":"join","displayname":"Bob"}`})
	edited := m.message(testRoom, alice, "one!")
	m.relating(alice, relReplace, edited, "two!")
	taken := m.relating(bob, relThread, root, "taken back!")
	m.relating(alice, relReference, root, "see!")
	m.send(sent{room: testRoom, sender: bob, typ: "m.room.redaction", content: `{"redacts":"` + taken + `"}`, redacts: taken})
	note()
	m.message(testRoom, alice, "last!")
	m.receipt(bob, testRoom, edited, receiptPrivate, "main")
	m.receipt(alice, testRoom, edited, receiptPublic, "")
}

// shownAnswer is an answer in a form that is the same for the same content.
type shownAnswer struct {
	of    string
	value any
}

func (s shownAnswer) names(room string) bool {
	body, ok := s.value.(map[string]any)
	if !ok {
		return false
	}
	sections, _ := body["rooms"].(map[string]any)
	for _, section := range sections {
		if rooms, ok := section.(map[string]any); ok && rooms[room] != nil {
			return true
		}
	}
	return false
}

// everything is what two users are shown, from all of the tokens on.
func everything(t *testing.T, m *model, tokens []string, root string) (out []shownAnswer) {
	add := func(of string, v any, err error) {
		var shown any
		if err == nil {
			raw, ok := v.(jsontext.Value)
			if !ok {
				raw, err = json.Marshal(v)
			}
			err = errors.Join(err, json.Unmarshal(raw, &shown))
		}
		if err != nil {
			t.Fatalf("%s: %v", of, err)
		}
		out = append(out, shownAnswer{of, settled(shown, "")})
	}
	for _, user := range []string{alice, bob} {
		for i, since := range append([]string{""}, tokens...) {
			for _, args := range []string{"", "&full_state=true", "&use_state_after=true", `&filter={"room":{"include_leave":true,"state":{"lazy_load_members":true}}}`,
				`&filter={"room":{"timeline":{"limit":2,"unread_thread_notifications":true}}}`} {
				target := "/sync?timeout=0" + args
				if since != "" {
					target += "&since=" + since
				}
				v, err := m.s.sync(request(user, "D", target, nil))
				add(fmt.Sprintf("%s from token %d%s", user, i, args), v, err)
			}
		}
		path := map[string]string{"roomId": testRoom, "eventId": root}
		v, err := m.s.relations(request(user, "D", "/x", path))
		add(user+" asks for relations", v, err)
		v, err = m.s.threads(request(user, "D", "/x", path))
		add(user+" asks for threads", v, err)
		_, err = m.s.messages(request(user, "D", "/x?dir=b", map[string]string{"roomId": "!gone:test"}))
		add(user+" asks for what is purged", fmt.Sprint(err), nil)
	}
	return out
}

// settled drops what tells of the time, and sorts what has no order.
func settled(v any, name string) any {
	switch v := v.(type) {
	case map[string]any:
		delete(v, "age")
		for k := range v {
			if name == "state" || strings.HasSuffix(k, "_state") || strings.HasPrefix(k, "state") {
				v[k] = settled(v[k], "state")
			} else {
				v[k] = settled(v[k], k)
			}
		}
	case []any:
		for i := range v {
			v[i] = settled(v[i], "")
		}
		if name == "state" {
			slices.SortFunc(v, func(a, b any) int {
				x, y := fmt.Sprint(a), fmt.Sprint(b)
				return slices.Compare([]byte(x), []byte(y))
			})
		}
	}
	return v
}
