package syncapi

import (
	"slices"
	"strconv"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/property"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

const testRoom = "!a:test"

func TestReceiptsPublicAndPrivate(t *testing.T) { both(t, receiptsPublicAndPrivate) }

func receiptsPublicAndPrivate(t *testing.T, m *model) {
	m.create(testRoom, alice, bob)
	id := m.message(testRoom, alice, "x")
	since := m.sync(alice, "").Next
	sinceBob := m.sync(bob, "").Next
	m.receipt(bob, testRoom, id, receiptPublic, "")
	m.receipt(bob, testRoom, id, receiptPrivate, "main")
	m.settle()
	ephemeral := func(a *answerOf) string {
		events := a.Rooms.Join[testRoom].Ephemeral.Events
		if len(events) != 1 || events[0].Type != "m.receipt" {
			t.Fatalf("ephemeral: %+v", events)
		}
		return string(events[0].Content)
	}
	if got, want := ephemeral(m.sync(alice, since)), `{"`+id+`":{"m.read":{"@bob:test":{"ts":5}}}}`; got != want {
		t.Errorf("alice sees %s", got)
	}
	private, _ := property.Member(jsontext.Value(ephemeral(m.sync(bob, sinceBob))), id)
	if got, _ := property.Member(private, receiptPrivate); string(got) != `{"@bob:test":{"ts":5,"thread_id":"main"}}` {
		t.Errorf("bob sees %s", private)
	}
	m.restart()
	if got := ephemeral(m.sync(alice, since)); len(got) < 10 {
		t.Errorf("after a restart: %s", got)
	}
}

func TestTypingAndPresence(t *testing.T) { sqldbtest.Each(t, testTypingAndPresence) }

func testTypingAndPresence(t *testing.T) {
	m := newModel(t)
	m.create(testRoom, alice, bob)
	since := m.sync(alice, "").Next
	m.sync(bob, "")
	m.ephemeral(userapi.Ephemeral{Typing: &userapi.Typing{RoomID: testRoom, UserIDs: []string{bob}}})
	m.ephemeral(userapi.Ephemeral{Presence: &userapi.Presence{UserID: bob, Presence: "online", CurrentlyActive: true}})
	m.ephemeral(userapi.Ephemeral{Presence: &userapi.Presence{UserID: carol, Presence: "online"}})
	waitFor(t, func() bool { return m.view.applied.Load().eph[0] == 3 })
	a := m.sync(alice, since)
	if got := a.Rooms.Join[testRoom].Ephemeral.Events; len(got) != 1 || string(got[0].Content) != `{"user_ids":["@bob:test"]}` {
		t.Errorf("typing: %+v", got)
	}
	if got := a.Presence.Events; len(got) != 1 || got[0].Sender != bob {
		t.Errorf("presence: %+v", got)
	}
	m.ephemeral(userapi.Ephemeral{Typing: &userapi.Typing{RoomID: testRoom, UserIDs: []string{}}})
	waitFor(t, func() bool { return m.view.applied.Load().eph[0] == 4 })
	b := m.sync(alice, a.Next)
	if got := b.Rooms.Join[testRoom].Ephemeral.Events; len(got) != 1 || string(got[0].Content) != `{"user_ids":[]}` {
		t.Errorf("typing ends: %+v", got)
	}
	if len(b.Presence.Events) != 0 {
		t.Errorf("presence again: %+v", b.Presence)
	}
}

// TestLogOfTypingPutBack: a token that has seen more of ephemeral than the log holds,
// since that was put back to an earlier time, is as good as any.
func TestLogOfTypingPutBack(t *testing.T) {
	m := newModel(t)
	m.create(testRoom, alice, bob)
	ahead, err := parseVector(m.sync(alice, "").Next, m.view.shape)
	if err != nil {
		t.Fatal(err)
	}
	ahead.eph[0] += 2
	since := m.sync(alice, ahead.String()).Next
	m.ephemeral(userapi.Ephemeral{Typing: &userapi.Typing{RoomID: testRoom, UserIDs: []string{bob}}})
	if got := m.sync(alice, since, "timeout", "10000").Rooms.Join[testRoom].Ephemeral.Events; len(got) != 1 {
		t.Errorf("typing: %+v", got)
	}
}

func TestAccountData(t *testing.T) { sqldbtest.Each(t, testAccountData) }

func testAccountData(t *testing.T) {
	m := newModel(t)
	m.create(testRoom, alice, bob)
	set := func(room, typ, content string) {
		m.change(userapi.UserChange{UserID: alice, Kind: userapi.ChangeAccountData, RoomID: room, Type: typ, Content: jsontext.Value(content)})
	}
	set("", "g.old", `{"a":1}`)
	first := m.sync(alice, "")
	if !slices.Equal(first.Account.types(), []string{"g.old"}) {
		t.Fatalf("initial: %v", first.Account.types())
	}
	set("", "g.new", `{"a":2}`)
	set(testRoom, "m.tag", `{"tags":{}}`)
	m.settle()
	for range 2 {
		a := m.sync(alice, first.Next)
		if !slices.Equal(a.Account.types(), []string{"g.new"}) || !slices.Equal(a.Rooms.Join[testRoom].Account.types(), []string{"m.tag"}) {
			t.Fatalf("%v, %v", a.Account.types(), a.Rooms.Join[testRoom].Account.types())
		}
		m.restart() // then the content has to be asked for
	}
	if got := m.sync(alice, first.Next, "filter", `{"account_data":{"types":[]},"room":{"account_data":{"not_types":["*"]}}}`); len(got.Account.Events)+len(got.Rooms.Join) > 0 {
		t.Errorf("filtered: %+v", got)
	}
}

func TestIgnoredUsers(t *testing.T) { both(t, ignoredUsers) }

func ignoredUsers(t *testing.T, m *model) {
	m.create(testRoom, bob, alice)
	since := m.sync(alice, "").Next
	m.change(userapi.UserChange{UserID: alice, Kind: userapi.ChangeAccountData, Type: userapi.TypeIgnoredUsers, Content: jsontext.Value(`{"ignored_users":{"@bob:test":{}}}`)})
	m.message(testRoom, bob, "hidden")
	m.send(sent{room: testRoom, sender: bob, typ: "m.room.topic", key: stateKey(""), content: `{"topic":"seen"}`})
	m.create("!b:test", bob)
	m.member("!b:test", bob, alice, "invite")
	m.settle()
	a := m.sync(alice, since)
	events := a.Rooms.Join[testRoom].Timeline.Events
	if len(events) != 1 || events[0].Type != "m.room.topic" || len(a.Rooms.Invite) != 0 {
		t.Fatalf("%+v", a.Rooms)
	}
}

// TestBlockedInvites: who blocks invites is shown none, old or new, until the
// block is lifted.
func TestBlockedInvites(t *testing.T) { both(t, blockedInvites) }

func blockedInvites(t *testing.T, m *model) {
	block := func(content string) {
		m.change(userapi.UserChange{UserID: alice, Kind: userapi.ChangeAccountData, Type: typeInvites, Content: jsontext.Value(content)})
	}
	m.create("!old:test", bob)
	m.member("!old:test", bob, alice, "invite")
	m.settle()
	since := m.sync(alice, "").Next
	block(`{"default_action":"block"}`)
	m.create("!new:test", bob)
	m.member("!new:test", bob, alice, "invite")
	m.settle()
	for range 2 {
		for _, from := range []string{"", since} {
			if got := m.sync(alice, from).Rooms.Invite; len(got) > 0 {
				t.Errorf("shown from %q: %v", from, got)
			}
		}
		m.restart()
	}
	block(`{}`)
	m.settle()
	if got := m.sync(alice, "").Rooms.Invite; len(got) != 2 {
		t.Errorf("shown once they are let in: %v", got)
	}
}

// TestFilteredInvites: who tells inviters apart is not shown the invites of those
// who are ignored.
func TestFilteredInvites(t *testing.T) { both(t, filteredInvites) }

func filteredInvites(t *testing.T, m *model) {
	filter := func(content string) {
		m.change(userapi.UserChange{UserID: alice, Kind: userapi.ChangeAccountData, Type: typeInviteFilter, Content: jsontext.Value(content)})
	}
	for room, inviter := range map[string]string{"!b:test": bob, "!c:test": carol} {
		m.create(room, inviter)
		m.member(room, inviter, alice, "invite")
	}
	filter(`{"ignored_users":["@b*:test"]}`)
	m.settle()
	for range 2 {
		if got := m.sync(alice, "").Rooms.Invite; len(got) != 1 || len(got["!c:test"].State.Events) == 0 {
			t.Errorf("shown: %v", got)
		}
		m.restart()
	}
	filter(`{"enabled":false,"ignored_users":["*"]}`)
	m.settle()
	if got := m.sync(alice, "").Rooms.Invite; len(got) != 2 {
		t.Errorf("shown without a filter: %v", got)
	}
}

func TestLazyMembers(t *testing.T) { both(t, lazyMembersOf) }

func lazyMembersOf(t *testing.T, m *model) {
	m.on(m.s) // another instance would not know what the client has, and tell it again
	const lazy = `{"room":{"state":{"lazy_load_members":true},"timeline":{"limit":1}}}`
	m.create(testRoom, alice, bob, carol)
	m.send(sent{room: testRoom, sender: alice, typ: "m.room.name", key: stateKey(""), content: `{"name":"n"}`})
	m.message(testRoom, bob, "x")
	first := m.sync(alice, "", "filter", lazy)
	members := func(r roomOf) []string {
		var out []string
		for _, e := range r.State.Events {
			if e.Type == typeMember {
				out = append(out, *e.StateKey)
			}
		}
		slices.Sort(out)
		return out
	}
	if got := members(first.Rooms.Join[testRoom]); !slices.Equal(got, []string{alice, bob}) {
		t.Fatalf("initial: %v", got)
	}
	m.message(testRoom, carol, "y")
	m.settle()
	second := m.sync(alice, first.Next, "filter", lazy)
	if got := members(second.Rooms.Join[testRoom]); !slices.Equal(got, []string{carol}) {
		t.Fatalf("a new sender: %v", got)
	}
	// The answer was lost: the same request gets the same member again.
	if got := members(m.sync(alice, first.Next, "filter", lazy).Rooms.Join[testRoom]); !slices.Equal(got, []string{carol}) {
		t.Fatalf("asked again: %v", got)
	}
	second = m.sync(alice, first.Next, "filter", lazy)
	m.message(testRoom, carol, "z")
	m.settle()
	if got := members(m.sync(alice, second.Next, "filter", lazy).Rooms.Join[testRoom]); len(got) != 0 {
		t.Fatalf("redundant: %v", got)
	}
	redundant := `{"room":{"state":{"lazy_load_members":true,"include_redundant_members":true}}}`
	if got := members(m.sync(alice, second.Next, "filter", redundant).Rooms.Join[testRoom]); !slices.Equal(got, []string{carol}) {
		t.Fatalf("redundant ones asked for: %v", got)
	}
}

func TestUnsignedOfOthers(t *testing.T) { both(t, unsignedOfOthers) }

func unsignedOfOthers(t *testing.T, m *model) {
	m.create(testRoom, alice, bob)
	topic := func(s string) string {
		return m.send(sent{room: testRoom, sender: alice, typ: "m.room.topic", key: stateKey(""), content: `{"topic":"` + s + `"}`})
	}
	topic("old")
	message := m.message(testRoom, bob, "secret")
	since := m.sync(bob, "").Next
	topic("new")
	m.send(sent{room: testRoom, sender: alice, typ: "m.room.redaction", content: `{"reason":"r"}`, redacts: message})
	m.settle()
	events := m.sync(bob, since).Rooms.Join[testRoom].Timeline.Events
	if len(events) != 2 || string(events[0].Unsigned.Prev) != `{"topic":"old"}` {
		t.Fatalf("prev_content: %+v", events)
	}
	for _, e := range m.sync(bob, "").Rooms.Join[testRoom].Timeline.Events {
		if e.ID == message && (string(e.Content) != "{}" || e.Unsigned.Because == nil || e.Unsigned.Because.Type != "m.room.redaction") {
			t.Fatalf("redacted: %+v", e)
		}
	}
}

func TestHistoryVisibilityOfNewMembers(t *testing.T) {
	sqldbtest.Each(t, testHistoryVisibilityOfNewMembers)
}

func testHistoryVisibilityOfNewMembers(t *testing.T) {
	for _, c := range []struct {
		visibility string
		want       int // messages seen: one before the invite, one after, one after the join
	}{{"joined", 1}, {"invited", 2}, {"shared", 3}, {"world_readable", 3}} {
		t.Run(c.visibility, func(t *testing.T) {
			m := newModelOn(t, true, 0)
			m.create(testRoom, alice)
			m.send(sent{room: testRoom, sender: alice, typ: "m.room.history_visibility", key: stateKey(""), content: `{"history_visibility":"` + c.visibility + `"}`})
			m.message(testRoom, alice, "1")
			m.member(testRoom, alice, bob, "invite")
			m.message(testRoom, alice, "2")
			m.member(testRoom, bob, bob, "join")
			m.message(testRoom, alice, "3")
			n := 0
			for _, e := range m.sync(bob, "").Rooms.Join[testRoom].Timeline.Events {
				if e.Type == "m.room.message" {
					n++
				}
			}
			if n != c.want {
				t.Errorf("sees %d messages, not %d", n, c.want)
			}
		})
	}
}

func TestForgottenRoom(t *testing.T) { both(t, forgottenRoom) }

func forgottenRoom(t *testing.T, m *model) {
	m.create(testRoom, alice, bob)
	left := m.member(testRoom, bob, bob, "leave")
	with := `{"room":{"include_leave":true}}`
	reads := func() error {
		return m.get(m.s.messages, bob, "dir=b", map[string]string{"roomId": testRoom}, &map[string]any{})
	}
	if got := m.sync(bob, "", "filter", with); len(got.Rooms.Leave) != 1 {
		t.Fatalf("left: %+v", got.Rooms)
	}
	if err := reads(); err != nil {
		t.Fatalf("who left reads what was before: %v", err)
	}
	m.change(userapi.UserChange{UserID: bob, Kind: userapi.ChangeForget, RoomID: testRoom, EventID: left})
	if err := reads(); !matrixerror.Is(err, "M_FORBIDDEN") {
		t.Fatalf("who forgot reads on: %v", err)
	}
	m.settle()
	for range 2 {
		if got := m.sync(bob, "", "filter", with); len(got.Rooms.Leave) != 0 {
			t.Fatalf("forgotten: %+v", got.Rooms)
		}
		m.restart()
	}
	m.member(testRoom, alice, bob, "invite")
	if got := m.sync(bob, ""); len(got.Rooms.Invite) != 1 {
		t.Fatalf("invited again: %+v", got.Rooms)
	}
}

func TestStoredFilterAndFormat(t *testing.T) { sqldbtest.Each(t, testStoredFilterAndFormat) }

func testStoredFilterAndFormat(t *testing.T) {
	m := newModel(t)
	m.create(testRoom, alice)
	if got := m.sync(alice, "", "filter", "7").Rooms.Join[testRoom].Timeline; len(got.Events) != 1 || !got.Limited {
		t.Errorf("stored filter: %+v", got)
	}
	if _, err := m.trySync(t.Context(), alice, "", "filter", "8"); err == nil {
		t.Error("an unknown filter is taken")
	}
	fed := m.sync(alice, "", "filter", `{"event_format":"federation"}`).Rooms.Join[testRoom].Timeline.Events
	if len(fed) != 3 || fed[0].RoomID != testRoom {
		t.Errorf("federation format: %+v", fed)
	}
	fields := m.sync(alice, "", "filter", `{"event_fields":["type"]}`).Rooms.Join[testRoom].Timeline.Events
	if len(fields) != 3 || fields[0].Type == "" || fields[0].Sender != "" {
		t.Errorf("event_fields: %+v", fields)
	}
}

// publish puts a record on room.output as it is, with the next Seq.
func (m *model) publish(rec *roomapi.OutputRecord, lines ...[]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := eventlog.PartitionFor(rec.RoomID, len(m.seqs))
	m.seqs[p]++
	rec.V, rec.RoomVersion, rec.Position = 1, string(testVersion), roomapi.Position{Partition: p, Seq: m.seqs[p]}
	value, err := rec.Encode(lines...)
	if err != nil {
		m.t.Fatal(err)
	}
	m.append(roomapi.TopicOutput, p, rec.RoomID, value)
}

// recordOf is the record of a plain event.
func recordOf(ev *roomapi.StoredEvent) *roomapi.OutputRecord {
	return &roomapi.OutputRecord{Kind: roomapi.OutputEvent, RoomID: ev.RoomID(), EventID: ev.EventID(), Type: ev.Type(), Sender: ev.Sender(), JoinedCount: 2}
}

func TestStateWithoutEvent(t *testing.T) { sqldbtest.Each(t, testStateWithoutEvent) }

func testStateWithoutEvent(t *testing.T) {
	m := newModel(t)
	m.create(testRoom, alice, bob)
	since := m.sync(bob, "").Next
	b := gomatrixserverlib.EventBuilder{RoomID: testRoom, Sender: alice, Type: "m.room.topic", StateKey: stateKey(""), Content: jsontext.Value(`{"topic":"resolved"}`),
		OriginServerTS: 9, Depth: 4, PrevEvents: []string{"$x"}, AuthEvents: []string{"$x"}}
	topic, err := b.Build(testVersion)
	if err != nil {
		t.Fatal(err)
	}
	m.publish(&roomapi.OutputRecord{Kind: roomapi.OutputState, RoomID: testRoom, JoinedCount: 2,
		Changes: []roomapi.StateChange{{Type: "m.room.topic", EventID: topic.EventID(), Line: 1}}}, nil, topic.JSON())
	id := m.message(testRoom, alice, "x")
	m.settle()
	room := m.sync(bob, since).Rooms.Join[testRoom]
	if !slices.Equal(room.State.types(), []string{"m.room.topic"}) || !slices.Equal(ids(room.Timeline.Events), []string{id}) {
		t.Fatalf("%+v", room)
	}
}

func TestInviteFromOutside(t *testing.T) { sqldbtest.Each(t, testInviteFromOutside) }

func testInviteFromOutside(t *testing.T) {
	m := newModel(t)
	since := m.sync(bob, "").Next
	b := gomatrixserverlib.EventBuilder{RoomID: "!x:remote", Sender: "@r:remote", Type: typeMember, StateKey: stateKey(bob), Content: jsontext.Value(`{"membership":"invite"}`),
		OriginServerTS: 9, Depth: 4, PrevEvents: []string{"$x"}, AuthEvents: []string{"$x"}}
	invite, err := b.Build(testVersion)
	if err != nil {
		t.Fatal(err)
	}
	m.publish(&roomapi.OutputRecord{Kind: roomapi.OutputOutOfRoom, RoomID: "!x:remote", EventID: invite.EventID(), Type: typeMember, StateKey: stateKey(bob),
		Sender: "@r:remote", Membership: "invite", StrippedState: jsontext.Value(`[{"type":"m.room.name","state_key":"","sender":"@r:remote","content":{"name":"far"}}]`)}, invite.JSON())
	m.settle()
	for range 2 {
		got, ok := m.sync(bob, since).Rooms.Invite["!x:remote"]
		if !ok || !slices.Equal(got.State.types(), []string{typeMember, "m.room.name"}) {
			t.Fatalf("%+v", got)
		}
		m.restart()
	}
}

func TestRecordsOutOfOrder(t *testing.T) { sqldbtest.Each(t, testRecordsOutOfOrder) }

func testRecordsOutOfOrder(t *testing.T) {
	m := newModel(t)
	m.create(testRoom, alice)
	since := m.sync(alice, "").Next
	p := eventlog.PartitionFor(testRoom, len(m.seqs))
	records, err := m.log.Read(t.Context(), roomapi.TopicOutput, p, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	// A publisher that starts again says again what it said.
	m.append(roomapi.TopicOutput, p, testRoom, records[1].Value)
	encoded := func(seq int64) []byte {
		ev := testEvent(t, "m.room.message", alice, `{"body":"`+strconv.FormatInt(seq, 10)+`"}`)
		rec := &roomapi.OutputRecord{V: 1, Kind: roomapi.OutputEvent, Position: roomapi.Position{Partition: p, Seq: seq}, RoomID: testRoom,
			RoomVersion: string(testVersion), EventID: ev.EventID(), Type: "m.room.message", Sender: alice}
		value, err := rec.Encode(ev.JSON())
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	n := m.seqs[p]
	m.append(roomapi.TopicOutput, p, testRoom, encoded(n+2))
	m.append(roomapi.TopicOutput, p, testRoom, encoded(n+1))
	m.append(roomapi.TopicOutput, p, testRoom, encoded(n+2))
	m.seqs[p] = n + 2
	m.settle()
	events := m.sync(alice, since).Rooms.Join[testRoom].Timeline.Events
	if len(events) != 2 || events[0].ID == events[1].ID {
		t.Fatalf("%+v", events)
	}
}
