package syncapi

import (
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

// build makes an event that nobody has published.
func (m *model) build(e sent) *event {
	m.clock++
	b := gomatrixserverlib.EventBuilder{RoomID: e.room, Sender: e.sender, Type: e.typ, StateKey: e.key, Content: jsontext.Value(e.content),
		OriginServerTS: m.clock, Depth: 1, PrevEvents: []string{"$x"}, AuthEvents: []string{"$x"}}
	built, err := b.Build(testVersion)
	if err != nil {
		m.t.Fatal(err)
	}
	return fromStored(&roomapi.StoredEvent{Event: built, HistoryVisibility: "shared"})
}

// tell publishes a record of the room: of the event, if it has one, and of the
// changes, whose events are in it (carried) or only named. The model's room
// changes accordingly.
func (m *model) tell(rec roomapi.OutputRecord, own *event, carried bool, changes ...*event) {
	r := m.room(rec.RoomID)
	pos := roomapi.Position{Partition: r.partition, Seq: m.seqs[r.partition] + 1}
	lines := [][]byte{nil}
	if own != nil {
		lines[0] = own.JSON()
		rec.EventID, rec.Type, rec.StateKey, rec.Sender = own.EventID(), own.Type(), own.StateKey(), own.Sender()
		rec.HistoryVisibility = "shared"
		if own.Position = pos; rec.Place != (roomapi.Position{}) {
			own.Position = rec.Place
		}
		if at := slices.IndexFunc(r.events, func(ev *event) bool { return own.Position.Less(ev.Position) }); at >= 0 {
			r.events = slices.Insert(r.events, at, own)
		} else {
			r.events = append(r.events, own)
		}
	}
	for _, ev := range changes {
		c := roomapi.StateChange{Type: ev.Type(), StateKey: *ev.StateKey(), EventID: ev.EventID()}
		if ev != own {
			r.only = append(r.only, ev)
			if carried {
				lines = append(lines, ev.JSON())
				c.Line = len(lines) - 1
			}
		} else if ev.Type() == typeMember {
			rec.Membership = ev.Membership()
		}
		rec.Changes = append(rec.Changes, c)
		r.set(pos.Seq, ev.Key(), ev)
	}
	r.latest = pos.Seq
	rec.JoinedCount, rec.InvitedCount = r.count("join"), r.count("invite")
	m.publish(&rec, lines...)
	m.settle()
}

func topicOf(sender, text string) sent {
	return sent{room: testRoom, sender: sender, typ: "m.room.topic", key: stateKey(""), content: `{"topic":"` + text + `"}`}
}

func memberOf(user, membership string) sent {
	return sent{room: testRoom, sender: user, typ: typeMember, key: stateKey(user), content: `{"membership":"` + membership + `"}`}
}

// stateOf is what the state section or, where it was asked for, state_after
// says of an entry.
func (r *roomOf) stateOf(typ, key string) string {
	events := r.State.Events
	if r.StateAfter != nil {
		events = r.StateAfter.Events
	}
	for _, ev := range events {
		if ev.Type == typ && *ev.StateKey == key {
			return ev.ID
		}
	}
	return ""
}

// TestStateChangesWithoutEvents: what a resolution changes is told once, also
// where the record only names the events, where it is large, and where the
// changes come with an event.
func TestStateChangesWithoutEvents(t *testing.T) { sqldbtest.Each(t, testStateChangesWithoutEvents) }

func testStateChangesWithoutEvents(t *testing.T) {
	kinds := map[string]func(*model, *event, *event){
		"carried": func(m *model, a, b *event) {
			m.tell(roomapi.OutputRecord{Kind: roomapi.OutputState, RoomID: testRoom}, nil, true, a, b)
		},
		"named": func(m *model, a, b *event) {
			m.tell(roomapi.OutputRecord{Kind: roomapi.OutputStateCompleted, RoomID: testRoom}, nil, false, a, b)
		},
		"with an event": func(m *model, a, b *event) {
			own := m.build(sent{room: testRoom, sender: alice, typ: "m.room.message", content: `{"body":"fork"}`})
			m.tell(roomapi.OutputRecord{Kind: roomapi.OutputEvent, RoomID: testRoom}, own, false, a, b)
		},
		"with an event that lost": func(m *model, a, b *event) {
			m.tell(roomapi.OutputRecord{Kind: roomapi.OutputEvent, RoomID: testRoom}, m.build(topicOf(bob, "lost")), true, a, b)
		},
		"soft-failed": func(m *model, a, b *event) {
			m.tell(roomapi.OutputRecord{Kind: roomapi.OutputState, RoomID: testRoom, SoftFailed: true}, nil, true, a, b)
		},
		"large": func(m *model, a, b *event) {
			changes := []*event{a, b}
			for i := range maxTailChanges {
				changes = append(changes, m.build(sent{room: testRoom, sender: alice, typ: "x", key: stateKey(string(rune('A' + i))), content: `{}`}))
			}
			m.tell(roomapi.OutputRecord{Kind: roomapi.OutputState, RoomID: testRoom}, nil, false, changes...)
		},
	}
	for name, publish := range kinds {
		t.Run(name, func(t *testing.T) {
			m := newModel(t)
			m.create(testRoom, alice, bob)
			since := m.sync(bob, "").Next
			topic, joined := m.build(topicOf(alice, "resolved")), m.build(memberOf(carol, "join"))
			publish(m, topic, joined)
			later := m.message(testRoom, alice, "x")
			m.settle()
			for _, args := range [][]string{nil, {"use_state_after", "true"}, {"filter", `{"room":{"state":{"lazy_load_members":true}}}`},
				{"filter", `{"room":{"timeline":{"limit":1}}}`}, {"full_state", "true"}} {
				got := m.sync(bob, since, args...)
				room := got.Rooms.Join[testRoom]
				if id := room.stateOf("m.room.topic", ""); id != topic.EventID() {
					t.Errorf("%v: the topic is %q", args, id)
				}
				if id := room.stateOf(typeMember, carol); id != joined.EventID() && (args == nil || !strings.Contains(args[1], "lazy") && args[0] != "full_state") {
					t.Errorf("%v: carol is %q", args, id)
				}
				if room.Summary == nil || room.Summary.Joined != 3 {
					t.Errorf("%v: summary %+v", args, room.Summary)
				}
				if n := len(room.Timeline.Events); n == 0 || room.Timeline.Events[n-1].ID != later {
					t.Errorf("%v: timeline %v", args, ids(room.Timeline.Events))
				}
				if again := m.sync(bob, got.Next); len(again.Rooms.Join) > 0 {
					t.Errorf("%v: told again: %+v", args, again)
				}
			}
			if room := m.sync(bob, "").Rooms.Join[testRoom]; room.stateOf("m.room.topic", "") != topic.EventID() && name != "with an event that lost" {
				t.Errorf("a fresh client is told %v", room.State)
			}
			if c := m.sync(carol, "").Rooms.Join[testRoom]; len(c.Timeline.Events) == 0 {
				t.Errorf("carol, who joined by a resolution, sees %+v", c)
			}
		})
	}
}

// TestOwnMembershipResolved: a resolution takes a user out of a room and brings
// the user back.
func TestOwnMembershipResolved(t *testing.T) { sqldbtest.Each(t, testOwnMembershipResolved) }

func testOwnMembershipResolved(t *testing.T) {
	m := newModel(t)
	m.create(testRoom, alice, bob)
	joined := m.room(testRoom).state[gomatrixserverlib.StateKey{Type: typeMember, StateKey: bob}]
	since := m.sync(bob, "").Next
	left := m.build(memberOf(bob, "leave"))
	m.tell(roomapi.OutputRecord{Kind: roomapi.OutputState, RoomID: testRoom}, nil, false, left)
	m.message(testRoom, alice, "not for bob")
	m.settle()
	got := m.sync(bob, since)
	room, ok := got.Rooms.Leave[testRoom]
	if !ok || len(got.Rooms.Join) > 0 || !slices.Equal(ids(room.Timeline.Events), []string{left.EventID()}) {
		t.Fatalf("left by a resolution: %+v", got.Rooms)
	}
	if r := m.sync(alice, "").Rooms.Join[testRoom]; r.Summary.Joined != 1 {
		t.Errorf("joined count: %+v", r.Summary)
	}
	m.tell(roomapi.OutputRecord{Kind: roomapi.OutputState, RoomID: testRoom}, nil, true, joined)
	m.restart()
	again := m.sync(bob, got.Next).Rooms.Join[testRoom]
	if len(again.Timeline.Events) == 0 {
		t.Fatalf("joined by a resolution: %+v", again)
	}
}

// TestBackfilledIsHistory: what is fetched of the past shows in history alone,
// and counts for nothing.
func TestBackfilledIsHistory(t *testing.T) { sqldbtest.Each(t, testBackfilledIsHistory) }

func testBackfilledIsHistory(t *testing.T) {
	m := newModel(t)
	m.create(testRoom, alice, bob)
	gap := m.build(sent{room: testRoom, sender: "@r:remote", typ: "m.room.message", content: `{"body":"after the gap"}`})
	since := m.sync(bob, "").Next
	m.room(testRoom).gap = []string{"$missing"}
	m.tell(roomapi.OutputRecord{Kind: roomapi.OutputEvent, RoomID: testRoom, Limited: true}, gap, false)
	live := m.message(testRoom, alice, "live")
	m.settle()
	tl := m.sync(bob, since).Rooms.Join[testRoom].Timeline
	if !tl.Limited || !slices.Equal(ids(tl.Events), []string{gap.EventID(), live}) || tl.Prev != timelineToken(before(gap.Position)) {
		t.Fatalf("across a gap: %+v", tl)
	}
	unread := m.unreadNow(bob)[mainThread]
	upToDate := m.sync(bob, "").Next
	var old []string
	for i := range int64(3) {
		ev := m.build(sent{room: testRoom, sender: "@r:remote", typ: "m.room.message", content: `{"body":"old!"}`})
		place := gap.Position
		place.Sub = -1 - i
		m.tell(roomapi.OutputRecord{Kind: roomapi.OutputBackfilled, RoomID: testRoom, Place: place}, ev, false)
		old = append(old, ev.EventID())
	}
	got := m.sync(bob, upToDate)
	if len(got.Rooms.Join) > 0 || got.Next == upToDate {
		t.Errorf("backfilled events are told: %+v", got)
	}
	if again := m.unreadNow(bob)[mainThread]; again != unread {
		t.Errorf("unread %v, before %v", again, unread)
	}
	for range 2 {
		tl = m.sync(bob, since).Rooms.Join[testRoom].Timeline
		if !tl.Limited || !slices.Equal(ids(tl.Events), []string{gap.EventID(), live}) {
			t.Errorf("across a gap that was filled: %+v", tl)
		}
		m.restart()
	}
	if again := m.unreadNow(bob)[mainThread]; again != unread {
		t.Errorf("counted anew: %v, before %v", again, unread)
	}
	var page struct {
		Chunk []eventOf `json:"chunk"`
	}
	if err := m.get(m.s.messages, bob, "dir=b&limit=3&from="+tl.Prev, map[string]string{"roomId": testRoom}, &page); err != nil || !slices.Equal(ids(page.Chunk), old) {
		t.Errorf("history: %v %v", ids(page.Chunk), err)
	}
	if fresh := m.sync(carolIn(m), "").Rooms.Join[testRoom].Timeline; !slices.Contains(ids(fresh.Events), old[0]) {
		t.Errorf("a fresh client sees %v", ids(fresh.Events))
	}
}

func carolIn(m *model) string {
	m.member(testRoom, carol, carol, "join")
	m.settle()
	return carol
}

// TestUnrejected: an event that is accepted after all is told, where it has its
// place at the end.
func TestUnrejected(t *testing.T) { sqldbtest.Each(t, testUnrejected) }

func testUnrejected(t *testing.T) {
	m := newModel(t)
	m.create(testRoom, alice, bob)
	since := m.sync(bob, "").Next
	ev := m.build(topicOf(alice, "after all"))
	m.tell(roomapi.OutputRecord{Kind: roomapi.OutputUnrejected, RoomID: testRoom}, ev, false, ev)
	past := m.build(sent{room: testRoom, sender: alice, typ: "m.room.message", content: `{"body":"past"}`})
	m.tell(roomapi.OutputRecord{Kind: roomapi.OutputUnrejected, RoomID: testRoom, Place: roomapi.Position{Partition: ev.Position.Partition, Seq: 2, Sub: -1}}, past, false)
	if tl := m.sync(bob, since).Rooms.Join[testRoom].Timeline; !slices.Equal(ids(tl.Events), []string{ev.EventID()}) {
		t.Fatalf("%+v", tl)
	}
}

// TestOutOfRoom: an invite of a room of others, and its end, of which the room
// server knows nothing more.
func TestOutOfRoom(t *testing.T) { sqldbtest.Each(t, testOutOfRoom) }

func testOutOfRoom(t *testing.T) {
	const far = "!far:remote"
	m := newModel(t)
	since := m.sync(bob, "").Next
	member := func(sender, membership string) *event {
		return m.build(sent{room: far, sender: sender, typ: typeMember, key: stateKey(bob), content: `{"membership":"` + membership + `"}`})
	}
	publish := func(ev *event, stripped jsontext.Value) {
		m.publish(&roomapi.OutputRecord{Kind: roomapi.OutputOutOfRoom, RoomID: far, EventID: ev.EventID(), Type: typeMember, StateKey: stateKey(bob),
			Sender: ev.Sender(), Membership: ev.Membership(), StrippedState: stripped}, ev.JSON())
		m.settle()
	}
	delete(m.rooms, far)
	publish(member("@r:remote", "invite"), jsontext.Value(`[7,{"type":"m.room.create","state_key":"","sender":"@r:remote","content":{},"event_id":"$e","signatures":{}},{"type":"x"}]`))
	invited := m.sync(bob, since)
	room, ok := invited.Rooms.Invite[far]
	if !ok || !slices.Equal(room.State.types(), []string{"m.room.create", typeMember}) || room.State.Events[0].ID != "" {
		t.Fatalf("invited: %+v", invited.Rooms)
	}
	end := member("@r:remote", "leave")
	publish(end, nil)
	for range 2 {
		over := m.sync(bob, invited.Next)
		if left, ok := over.Rooms.Leave[far]; !ok || !slices.Equal(ids(left.Timeline.Events), []string{end.EventID()}) {
			t.Fatalf("taken back: %+v", over.Rooms)
		}
		if all := m.sync(bob, "", "filter", `{"room":{"include_leave":true}}`); len(all.Rooms.Leave) != 1 {
			t.Fatalf("with rooms left: %+v", all.Rooms)
		}
		if again := m.sync(bob, over.Next); len(again.Rooms.Leave) > 0 {
			t.Fatalf("told again: %+v", again.Rooms)
		}
		m.restart()
	}
	publish(member("@r:remote", "invite"), jsontext.Value("null"))
	if room := m.sync(bob, "").Rooms.Invite[far]; !slices.Equal(room.State.types(), []string{typeMember}) {
		t.Fatalf("an invite that tells nothing: %+v", room)
	}
}

// TestPurged: nothing is left of a purged room, and what comes later counts.
func TestPurged(t *testing.T) { sqldbtest.Each(t, testPurged) }

func testPurged(t *testing.T) {
	m := newModel(t)
	m.create(testRoom, alice, bob)
	other := "!other:test"
	m.create(other, bob)
	since := m.sync(bob, "").Next
	m.message(testRoom, alice, "x")
	m.receipt(bob, testRoom, "$x", receiptPublic, "")
	delete(m.rooms, testRoom)
	for range 2 {
		m.sync(bob, since) // gone, and not yet told
		if got := m.sync(bob, "", "full_state", "true"); len(got.Rooms.Join) == 0 {
			t.Fatalf("the other room is gone too: %+v", got.Rooms)
		}
		m.restart()
	}
	m.publish(&roomapi.OutputRecord{Kind: roomapi.OutputPurged, RoomID: testRoom})
	m.settle()
	if got := m.sync(bob, since); len(got.Rooms.Join) > 0 {
		t.Fatalf("purged: %+v", got.Rooms)
	}
	for range 2 {
		if got := m.sync(bob, ""); len(got.Rooms.Join) != 1 {
			t.Fatalf("purged: %+v", got.Rooms)
		}
		m.restart()
	}
	p := eventlog.PartitionFor(testRoom, len(m.seqs))
	m.seqs[p]++
	value, err := (&roomapi.OutputRecord{V: 1, Kind: roomapi.OutputPurged, Position: roomapi.Position{Partition: p, Seq: m.seqs[p]}}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	m.append(roomapi.TopicOutput, p, testRoom, value) // of what is not known any more
	m.create(testRoom, bob)
	m.settle()
	for range 2 {
		if got := m.sync(bob, "").Rooms.Join[testRoom]; len(got.Timeline.Events) != 3 {
			t.Fatalf("made again: %+v", got)
		}
		m.restart()
	}
}
