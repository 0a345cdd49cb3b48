package syncapi

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// slidOf is an answer of sliding sync as a client reads it.
type slidOf struct {
	Pos   string `json:"pos"`
	TxnID string `json:"txn_id"`
	Lists map[string]struct {
		Count int `json:"count"`
	} `json:"lists"`
	Rooms      map[string]slidRoomOf `json:"rooms"`
	Extensions struct {
		Account struct {
			Global []eventOf            `json:"global"`
			Rooms  map[string][]eventOf `json:"rooms"`
		} `json:"account_data"`
		Receipts struct {
			Rooms map[string]eventOf `json:"rooms"`
		} `json:"receipts"`
		Typing struct {
			Rooms map[string]eventOf `json:"rooms"`
		} `json:"typing"`
		Encryption struct {
			Counts map[string]int64 `json:"device_one_time_keys_count"`
			Unused []string         `json:"device_unused_fallback_key_types"`
			Lists  struct {
				Changed []string `json:"changed"`
			} `json:"device_lists"`
		} `json:"e2ee"`
		Threads  toldSubscriptions `json:"io.element.msc4308.thread_subscriptions"`
		Updated  updatedOf         `json:"io.element.msc4360.threads"`
		ToDevice struct {
			Next   string    `json:"next_batch"`
			Events []eventOf `json:"events"`
		} `json:"to_device"`
	} `json:"extensions"`
}

type slidRoomOf struct {
	Initial    bool           `json:"initial"`
	Membership string         `json:"membership"`
	Lists      []string       `json:"lists"`
	Stamp      int64          `json:"bump_stamp"`
	Name       *string        `json:"name"`
	RawName    jsontext.Value `json:"-"`
	Direct     *bool          `json:"is_dm"`
	Timeline   []eventOf      `json:"timeline"`
	State      []eventOf      `json:"required_state"`
	Invite     []eventOf      `json:"invite_state"`
	Stripped   []eventOf      `json:"stripped_state"`
	Limited    bool           `json:"limited"`
	Prev       string         `json:"prev_batch"`
	Live       int            `json:"num_live"`
	Expanded   bool           `json:"unstable_expanded_timeline"`
	Joined     *int           `json:"joined_count"`
	Invited    *int           `json:"invited_count"`
	Unread     *int           `json:"notification_count"`
	Highlights *int           `json:"highlight_count"`
	Heroes     []struct {
		ID   string `json:"user_id"`
		Name string `json:"displayname"`
	} `json:"heroes"`
}

// slideOn asks one instance.
func (m *model) slideOn(ctx context.Context, s *Server, user, pos, query, body string) (*slidOf, error) {
	r := httptest.NewRequestWithContext(ctx, "POST", "/sync?pos="+pos+query, strings.NewReader(body))
	v, err := s.slidingDraft(&httpapi.Request{Request: r, Device: &httpapi.Device{UserID: user, DeviceID: "D" + user}})
	if err != nil {
		return nil, err
	}
	var out slidOf
	if err := json.Unmarshal(v.(jsontext.Value), &out); err != nil {
		return nil, fmt.Errorf("%w in %s", err, v)
	}
	return &out, nil
}

// slide asks any instance.
func (m *model) slide(user, pos, body string) *slidOf {
	m.t.Helper()
	out, err := m.slideOn(m.t.Context(), m.all[rand.IntN(len(m.all))], user, pos, "", body)
	if err != nil {
		m.t.Fatalf("sliding sync of %s: %v", user, err)
	}
	return out
}

func typesOf(events []eventOf) []string { return batchOf{events}.types() }

// allRooms is a list of all rooms.
const allRooms = `{"lists":{"all":{"ranges":[[0,99]],"timeline_limit":10,"required_state":[["m.room.create",""],["m.room.topic",""],["m.room.member","$ME"]]}},
	"extensions":{"account_data":{"enabled":true},"receipts":{"enabled":true},"typing":{"enabled":true}}}`

func TestSlidingTellsWhatIsNew(t *testing.T) { both(t, slidingTellsWhatIsNew) }

func slidingTellsWhatIsNew(t *testing.T, m *model) {
	m.create(testRoom, alice, bob)
	m.send(sent{room: testRoom, sender: bob, typ: typeMember, key: stateKey(bob), content: `{"membership":"join","displayname":"Bob"}`})
	m.settle()
	first := m.slide(alice, "", allRooms)
	room := first.Rooms[testRoom]
	if first.Lists["all"].Count != 1 || !room.Initial || room.Membership != "join" || !slices.Equal(room.Lists, []string{"all"}) || room.Stamp == 0 {
		t.Fatalf("first: %+v", first)
	}
	if len(room.Timeline) != len(m.order[testRoom]) || room.Limited || room.Live != 0 || *room.Joined != 2 || room.Name != nil ||
		len(room.Heroes) != 1 || room.Heroes[0].ID != bob || room.Heroes[0].Name != "Bob" {
		t.Fatalf("first: %+v", room)
	}
	if got := typesOf(room.State); !slices.Equal(got, []string{"m.room.create", typeMember}) {
		t.Fatalf("required state %v", got)
	}
	again := m.slide(alice, first.Pos, allRooms)
	if len(again.Rooms) > 0 || again.Pos != first.Pos || again.Lists["all"].Count != 1 {
		t.Fatalf("nothing new: %+v", again)
	}
	named := m.send(sent{room: testRoom, sender: alice, typ: "m.room.name", key: stateKey(""), content: `{"name":"A name"}`})
	topic := m.topicSet(testRoom, "x")
	m.settle()
	for range 3 { // an answer that was lost is asked for again
		next := m.slide(alice, first.Pos, allRooms)
		room = next.Rooms[testRoom]
		if room.Initial || !slices.Equal(ids(room.Timeline), []string{named, topic}) || room.Live != 2 || room.Name == nil || *room.Name != "A name" ||
			len(room.State) != 1 || room.State[0].ID != topic || room.Joined == nil {
			t.Fatalf("news: %+v", room)
		}
		if over := m.slide(alice, next.Pos, allRooms); len(over.Rooms) > 0 {
			t.Fatalf("told again: %+v", over)
		}
	}
	if left := m.slide(alice, m.slide(alice, first.Pos, allRooms).Pos, `{}`); len(left.Rooms)+len(left.Lists) > 0 {
		t.Fatalf("without a list: %+v", left)
	}
}

// TestSlidingWindow: a list tells of its range, the most recent rooms first; what
// falls out of it and comes back is told from where it was left.
func TestSlidingWindow(t *testing.T) { both(t, slidingWindow) }

func slidingWindow(t *testing.T, m *model) {
	rooms := make([]string, 6)
	for i := range rooms {
		rooms[i] = fmt.Sprintf("!%d:test", i)
		m.create(rooms[i], alice, bob)
		m.message(rooms[i], bob, "last")
		m.pass()
	}
	m.settle()
	window := func(from, to int) string {
		return fmt.Sprintf(`{"lists":{"top":{"ranges":[[%d,%d]],"timeline_limit":1}}}`, from, to)
	}
	names := func(a *slidOf) (out []string) {
		for id := range a.Rooms {
			out = append(out, id)
		}
		slices.Sort(out)
		return out
	}
	first := m.slide(alice, "", window(0, 1))
	if got := names(first); !slices.Equal(got, rooms[4:]) || first.Lists["top"].Count != 6 {
		t.Fatalf("the last two are %v of %d", got, first.Lists["top"].Count)
	}
	grown := m.slide(alice, first.Pos, window(0, 3))
	if got := names(grown); !slices.Equal(got, rooms[2:4]) {
		t.Fatalf("two more are %v", got)
	}
	var missed []string
	for i := range 3 {
		missed = append(missed, m.message(rooms[5], bob, fmt.Sprint(i)))
	}
	m.pass()
	for _, id := range rooms[:3] {
		m.message(id, bob, "x")
		m.pass()
	}
	m.settle()
	narrow := m.slide(alice, grown.Pos, window(0, 2))
	if got := names(narrow); !slices.Equal(got, rooms[:3]) || narrow.Rooms[rooms[2]].Initial || !narrow.Rooms[rooms[0]].Initial {
		t.Fatalf("the window has %v", got)
	}
	back := m.slide(alice, narrow.Pos, `{"lists":{"top":{"ranges":[[0,5]],"timeline_limit":10}}}`)
	room := back.Rooms[rooms[5]]
	if room.Initial || !room.Expanded || room.Live != 0 {
		t.Fatalf("come back: %+v", room)
	}
	if got := ids(room.Timeline); !slices.Equal(got[len(got)-3:], missed) {
		t.Fatalf("come back: %v, missed %v", got, missed)
	}
	if got := names(back); !slices.Equal(got, rooms) {
		t.Fatalf("all are %v", got)
	}
}

// pass waits until the clock that orders rooms has moved on.
func (m *model) pass() {
	at := time.Now().UnixMilli()
	waitFor(m.t, func() bool { return time.Now().UnixMilli() > at })
}

// TestSlidingSubscription: a room that is opened is told with more of its
// timeline and state, at once and once.
func TestSlidingSubscription(t *testing.T) { both(t, slidingSubscription) }

func slidingSubscription(t *testing.T, m *model) {
	m.create(testRoom, alice, bob)
	topic := m.topicSet(testRoom, "x")
	for range 5 {
		m.message(testRoom, bob, "x")
	}
	m.settle()
	list := `"lists":{"all":{"timeline_limit":1,"required_state":{"include":[{"type":"m.room.create","state_key":""}]}}}`
	first := m.slide(alice, "", `{`+list+`}`)
	if room := first.Rooms[testRoom]; len(room.Timeline) != 1 || !room.Limited || !slices.Equal(typesOf(room.State), []string{"m.room.create"}) {
		t.Fatalf("first: %+v", room)
	}
	open := `{` + list + `,"room_subscriptions":{"` + testRoom + `":{"timeline_limit":4,"required_state":{"include":[{"type":"m.room.topic"}],"lazy_members":true}},"!none:test":{"timeline_limit":1}}}`
	opened := m.slide(alice, first.Pos, open)
	room := opened.Rooms[testRoom]
	order := m.order[testRoom]
	if room.Initial || !room.Expanded || room.Live != 0 || !slices.Equal(ids(room.Timeline), order[len(order)-4:]) || len(opened.Rooms) != 1 {
		t.Fatalf("opened: %+v", opened.Rooms)
	}
	if !slices.Equal(typesOf(room.State), []string{typeMember, "m.room.topic"}) || room.State[len(room.State)-1].ID != topic {
		t.Fatalf("opened with %v", typesOf(room.State))
	}
	if again := m.slide(alice, opened.Pos, open); len(again.Rooms) > 0 {
		t.Fatalf("told again: %+v", again.Rooms)
	}
	shut := m.slide(alice, opened.Pos, `{`+list+`}`)
	if len(shut.Rooms) > 0 {
		t.Fatalf("shut: %+v", shut.Rooms)
	}
	next := m.topicSet(testRoom, "while it is shut")
	m.settle()
	shut = m.slide(alice, shut.Pos, `{`+list+`}`)
	if room := shut.Rooms[testRoom]; !slices.Equal(ids(room.Timeline), []string{next}) || len(room.State) > 0 {
		t.Fatalf("while it is shut: %+v", room)
	}
	opened = m.slide(alice, shut.Pos, open)
	if room := opened.Rooms[testRoom]; len(room.State) == 0 || room.State[len(room.State)-1].ID != next || room.Expanded {
		t.Fatalf("opened again: %+v", room)
	}
}

// TestSlidingMemberships: what happens to the user's own membership is told.
func TestSlidingMemberships(t *testing.T) { both(t, slidingMemberships) }

func slidingMemberships(t *testing.T, m *model) {
	m.create(testRoom, alice)
	m.settle()
	pos := m.slide(bob, "", allRooms).Pos
	step := func(what string, check func(slidRoomOf) bool, do func()) {
		t.Helper()
		do()
		m.settle()
		a := m.slide(bob, pos, allRooms)
		if room, ok := a.Rooms[testRoom]; !ok || !check(room) {
			t.Fatalf("%s: %+v", what, a.Rooms)
		}
		if again := m.slide(bob, a.Pos, allRooms); len(again.Rooms) > 0 {
			t.Fatalf("%s is told again: %+v", what, again.Rooms)
		}
		pos = a.Pos
	}
	var id string
	last := func(r slidRoomOf) bool { return len(r.Timeline) > 0 && r.Timeline[len(r.Timeline)-1].ID == id }
	step("invited", func(r slidRoomOf) bool {
		return r.Initial && r.Membership == "invite" && slices.Contains(typesOf(r.Invite), "m.room.create") && r.Timeline == nil && r.Joined == nil
	}, func() { m.member(testRoom, alice, bob, "invite") })
	step("rejected", func(r slidRoomOf) bool {
		return r.Membership == "leave" && len(r.Timeline) == 1 && last(r) && len(r.State) == 1
	},
		func() { id = m.member(testRoom, bob, bob, "leave") })
	step("invited again", func(r slidRoomOf) bool { return r.Initial && len(r.Invite) > 0 }, func() { m.member(testRoom, alice, bob, "invite") })
	step("joined", func(r slidRoomOf) bool { return r.Initial && r.Membership == "join" && last(r) && *r.Joined == 2 },
		func() { id = m.member(testRoom, bob, bob, "join") })
	step("kicked", func(r slidRoomOf) bool { return !r.Initial && r.Membership == "leave" && last(r) && r.Joined == nil },
		func() { id = m.member(testRoom, alice, bob, "leave"); m.message(testRoom, alice, "not for bob") })
	if fresh := m.slide(bob, "", allRooms); fresh.Rooms[testRoom].Membership != "leave" || !last(fresh.Rooms[testRoom]) {
		t.Fatalf("kicked: %+v", fresh)
	}
	step("joined again", func(r slidRoomOf) bool { return r.Initial && r.Membership == "join" && last(r) },
		func() { id = m.member(testRoom, bob, bob, "join") })
	step("left", func(r slidRoomOf) bool { return !r.Initial && r.Membership == "leave" && last(r) },
		func() { id = m.member(testRoom, bob, bob, "leave") })
	if fresh := m.slide(bob, "", allRooms); len(fresh.Rooms) > 0 || fresh.Lists["all"].Count != 0 {
		t.Fatalf("left: %+v", fresh)
	}
}

// TestSlidingFilters: lists have the rooms that their filters say.
func TestSlidingFilters(t *testing.T) { sqldbtest.Each(t, testSlidingFilters) }

func testSlidingFilters(t *testing.T) {
	m := newModel(t)
	const plain, secret, space, chat, invited = "!plain:test", "!secret:test", "!space:test", "!chat:test", "!invited:test"
	for _, id := range []string{plain, secret, chat} {
		m.create(id, bob, alice)
	}
	m.send(sent{room: space, sender: bob, typ: "m.room.create", key: stateKey(""), content: `{"room_version":"11","type":"m.space"}`})
	m.member(space, bob, bob, "join")
	m.member(space, alice, alice, "join")
	m.create(invited, bob)
	m.member(invited, bob, alice, "invite")
	m.send(sent{room: space, sender: bob, typ: "m.space.child", key: stateKey(plain), content: `{"via":["test"]}`})
	m.send(sent{room: space, sender: bob, typ: "m.space.child", key: stateKey(secret), content: `{}`})
	m.send(sent{room: secret, sender: bob, typ: "m.room.encryption", key: stateKey(""), content: `{"algorithm":"x"}`})
	data := func(room, typ, content string) {
		m.change(userapi.UserChange{UserID: alice, Kind: userapi.ChangeAccountData, RoomID: room, Type: typ, Content: jsontext.Value(content)})
	}
	data("", "m.direct", `{"@bob:test":["`+chat+`",7],"@x:test":["`+chat+`"]}`)
	data(plain, "m.tag", `{"tags":{"m.favourite":{},"u.x":{}}}`)
	data(secret, "m.tag", `{"tags":{"m.favourite":{}}}`)
	m.settle()
	check := func() {
		t.Helper()
		for filter, want := range map[string][]string{
			`{}`:                                          {chat, invited, plain, secret, space},
			`{"is_dm":true}`:                              {chat},
			`{"is_dm":false,"is_invite":false}`:           {plain, secret, space},
			`{"is_encrypted":true}`:                       {secret},
			`{"is_encrypted":false}`:                      {chat, invited, plain, space},
			`{"is_invite":true}`:                          {invited},
			`{"is_invited":true}`:                         {invited},
			`{"room_types":["m.space"]}`:                  {space},
			`{"room_types":[null]}`:                       {chat, invited, plain, secret},
			`{"not_room_types":["m.space"]}`:              {chat, invited, plain, secret},
			`{"room_types":["x"]}`:                        nil,
			`{"spaces":["` + space + `"]}`:                {plain},
			`{"spaces":["!none:test"]}`:                   nil,
			`{"tags":["m.favourite"]}`:                    {plain, secret},
			`{"tags":["m.favourite"],"not_tags":["u.x"]}`: {secret},
			`{"not_tags":["m.favourite"]}`:                {chat, invited, space},
		} {
			a := m.slide(alice, "", `{"lists":{"l":{"ranges":[[0,0]],"timeline_limit":0,"filters":`+filter+`},"m":{"timeline_limit":0,"filters":`+filter+`}}}`)
			var got []string
			for id := range a.Rooms {
				got = append(got, id)
			}
			if slices.Sort(got); !slices.Equal(got, want) || a.Lists["l"].Count != len(want) {
				t.Errorf("%s: %v (%d), not %v", filter, got, a.Lists["l"].Count, want)
			}
		}
	}
	check()
	m.restart()
	check()
	body := `{"lists":{"l":{"timeline_limit":1,"filters":{"is_encrypted":true}}}}`
	pos := m.slide(alice, "", body).Pos
	m.send(sent{room: chat, sender: bob, typ: "m.room.encryption", key: stateKey(""), content: `{"algorithm":"x"}`})
	m.settle()
	if a := m.slide(alice, pos, body); a.Lists["l"].Count != 2 || !a.Rooms[chat].Initial {
		t.Errorf("encrypted from now on: %+v", a)
	}
	pos = m.slide(alice, "", `{"lists":{"l":{"timeline_limit":1}}}`).Pos
	data("", "m.direct", `{}`)
	m.settle()
	if a := m.slide(alice, pos, `{"lists":{"l":{"timeline_limit":1}}}`); len(a.Rooms) != 1 || a.Rooms[chat].Direct == nil || *a.Rooms[chat].Direct {
		t.Errorf("no direct chat any more: %+v", a.Rooms)
	}
}

// TestSlidingExtensions: account data, receipts and typing, and counts.
func TestSlidingExtensions(t *testing.T) { both(t, slidingExtensions) }

func slidingExtensions(t *testing.T, m *model) {
	m.create(testRoom, alice, bob)
	id := m.message(testRoom, bob, "hello")
	data := func(room, content string) {
		m.change(userapi.UserChange{UserID: alice, Kind: userapi.ChangeAccountData, RoomID: room, Type: "org.x", Content: jsontext.Value(content)})
	}
	data("", `{"a":1}`)
	data(testRoom, `{"a":2}`)
	m.settle()
	first := m.slide(alice, "", allRooms)
	if x := first.Extensions; len(x.Account.Global) != 1 || len(x.Account.Rooms[testRoom]) != 1 || len(x.Receipts.Rooms)+len(x.Typing.Rooms) > 0 {
		t.Fatalf("first: %+v", x)
	}
	unread := *first.Rooms[testRoom].Unread
	if unread == 0 {
		t.Fatalf("nothing is unread: %+v", first.Rooms)
	}
	for _, each := range m.all { // who types is noted where somebody listens
		if _, err := m.slideOn(t.Context(), each, alice, first.Pos, "", allRooms); err != nil {
			t.Fatal(err)
		}
	}
	m.receipt(alice, testRoom, id, receiptPrivate, "")
	m.receipt(bob, testRoom, id, receiptPublic, "main")
	data(testRoom, `{"a":3}`)
	m.ephemeral(userapi.Ephemeral{Typing: &userapi.Typing{RoomID: testRoom, UserIDs: []string{bob}}})
	m.settle()
	for _, each := range m.all {
		waitFor(t, func() bool {
			a, err := m.slideOn(t.Context(), each, alice, first.Pos, "", allRooms)
			return err == nil && len(a.Extensions.Typing.Rooms) == 1
		})
	}
	next := m.slide(alice, first.Pos, allRooms)
	x := next.Extensions
	if len(x.Account.Global) > 0 || len(x.Account.Rooms[testRoom]) != 1 || string(x.Account.Rooms[testRoom][0].Content) != `{"a":3}` {
		t.Fatalf("account data: %+v", x.Account)
	}
	if r := x.Receipts.Rooms[testRoom]; r.Type != "m.receipt" || !strings.Contains(string(r.Content), receiptPrivate) || !strings.Contains(string(r.Content), bob) {
		t.Fatalf("receipts: %+v", x.Receipts)
	}
	if r := x.Typing.Rooms[testRoom]; r.Type != "m.typing" || string(r.Content) != `{"user_ids":["@bob:test"]}` {
		t.Fatalf("typing: %+v", x.Typing)
	}
	if room := next.Rooms[testRoom]; room.Unread == nil || *room.Unread != 0 || len(room.Timeline) > 0 {
		t.Fatalf("read: %+v", room)
	}
	if bobs := m.slide(bob, "", allRooms); strings.Contains(string(bobs.Extensions.Receipts.Rooms[testRoom].Content), alice) {
		t.Fatalf("bob sees what alice read in private: %+v", bobs.Extensions)
	}
	over := m.slide(alice, next.Pos, allRooms)
	if x := over.Extensions; len(x.Account.Rooms)+len(x.Receipts.Rooms)+len(x.Typing.Rooms) > 0 {
		t.Fatalf("told again: %+v", x)
	}
	// What is asked for later is told as a whole, once.
	bare := m.slide(alice, "", `{"lists":{"all":{"timeline_limit":1}}}`)
	later := m.slide(alice, bare.Pos, allRooms)
	if x := later.Extensions; len(x.Account.Global) != 1 || len(x.Account.Rooms[testRoom]) != 1 || len(x.Receipts.Rooms) != 1 || len(x.Typing.Rooms) != 1 {
		t.Fatalf("asked for later: %+v", x)
	}
	if x := m.slide(alice, later.Pos, allRooms).Extensions; len(x.Account.Rooms)+len(x.Receipts.Rooms)+len(x.Typing.Rooms) > 0 {
		t.Fatalf("told again: %+v", x)
	}
}

// TestSlidingIdle: a request that waits costs no question, is woken by what is
// new, and is answered early with its own token when the server stops.
func TestSlidingEncryption(t *testing.T) { both(t, slidingEncryption) }

func slidingEncryption(t *testing.T, m *model) {
	m.create(testRoom, alice, bob)
	const device = "D" + alice
	m.left(alice, device, 7, userapi.CurveAlgorithm)
	const sent = maxToDevice + 20
	for n := range sent {
		m.toDevice(alice, device, n)
	}
	m.settle()
	pos, since, n := "", "", 0
	ask := func() *slidOf {
		t.Helper()
		of := m.slide(alice, pos, `{"lists":{"all":{"ranges":[[0,9]],"timeline_limit":1}},"extensions":{"e2ee":{"enabled":true},"to_device":{"enabled":true`+since+`}}}`)
		for _, e := range of.Extensions.ToDevice.Events {
			if want := fmt.Sprintf(`{"n":%d}`, n); string(e.Content) != want {
				t.Fatalf("a message says %s, not %s", e.Content, want)
			}
			n++
		}
		return of
	}
	lost := ask() // nobody got this answer
	n = 0
	first := ask()
	if e := first.Extensions.Encryption; n != maxToDevice || e.Counts[userapi.CurveAlgorithm] != 7 || len(e.Unused) != 1 || len(lost.Extensions.ToDevice.Events) != n {
		t.Errorf("%d messages, and %+v", n, e)
	}
	pos, since = first.Pos, `,"since":"`+first.Extensions.ToDevice.Next+`"`
	next := ask()
	if n != sent {
		t.Errorf("%d messages", n)
	}
	pos, since = next.Pos, `,"since":"`+next.Extensions.ToDevice.Next+`"`
	m.listed(bob)
	m.settle()
	if changed := ask().Extensions.Encryption.Lists.Changed; !slices.Equal(changed, []string{bob}) || n != sent {
		t.Errorf("the keys of %v changed, and there are %d messages", changed, n)
	}
	if left := len(m.inboxes.messages[[2]string{alice, device}]); left != 0 {
		t.Errorf("%d messages are kept, which the device has", left)
	}
}

func TestSlidingIdle(t *testing.T) { sqldbtest.Each(t, testSlidingIdle) }

func testSlidingIdle(t *testing.T) {
	m := newModel(t)
	m.create(testRoom, alice, bob)
	m.settle()
	pos := m.slide(alice, "", allRooms).Pos
	wait := func(pos string) <-chan *slidOf {
		return polling(m, alice, func() (*slidOf, error) {
			return m.slideOn(context.Background(), m.s, alice, pos, "&timeout=60000", allRooms)
		})
	}
	m.mu.Lock()
	clear(m.asked)
	m.mu.Unlock()
	got := wait(pos)
	m.mu.Lock()
	if len(m.asked) > 0 {
		t.Errorf("an idle connection asked %v", m.asked)
	}
	m.mu.Unlock()
	id := m.message(testRoom, bob, "wake up")
	a := <-got
	if !slices.Equal(ids(a.Rooms[testRoom].Timeline), []string{id}) {
		t.Fatalf("woken with %+v", a)
	}
	got = wait(a.Pos)
	m.s.Stop()
	if early := <-got; early.Pos != a.Pos {
		t.Fatalf("answered early with %s, not %s", early.Pos, a.Pos)
	}
}

// TestSlidingTokens: what is no token of the device, or of nobody, is refused, and
// what is stored of connections is bounded.
func TestSlidingTokens(t *testing.T) { sqldbtest.Each(t, testSlidingTokens) }

func testSlidingTokens(t *testing.T) {
	m := newModelOn(t, false, 2)
	m.create(testRoom, alice, bob)
	m.settle()
	pos := m.slide(alice, "", allRooms).Pos
	m.s.maxLag = 10 * time.Millisecond
	future := m.view.applied.Load().clone()
	future.rooms[3] += 1000
	for name, token := range map[string]string{"garbage": "x", "of nobody": pos[:len(pos)-3] + "abc", "of /sync": m.sync(alice, "").Next,
		"from the future": posOf(future, pos[len(pos)-hashBytes:])} {
		if _, err := m.slideOn(t.Context(), m.s, alice, token, "", allRooms); !matrixerror.Is(err, "M_UNKNOWN_POS") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := m.slideOn(t.Context(), m.s, bob, pos, "", allRooms); !matrixerror.Is(err, "M_UNKNOWN_POS") {
		t.Errorf("another's token: %v", err)
	}
	if _, err := m.slideOn(t.Context(), m.s, alice, pos, "", `{"conn_id":"other"}`); !matrixerror.Is(err, "M_UNKNOWN_POS") {
		t.Errorf("another connection's token: %v", err)
	}
	var page pageOf
	if err := m.get(m.s.messages, alice, "dir=b&limit=2&from="+pos, map[string]string{"roomId": testRoom}, &page); err != nil || len(page.Chunk) != 2 {
		t.Errorf("history from a token: %v %v", page, err)
	}
	for i := range maxConnections + 1 {
		m.slide(alice, "", fmt.Sprintf(`{"conn_id":"c%d",%s`, i, allRooms[1:]))
		m.pass()
	}
	for _, s := range m.all {
		s.conns = newConnections() // as if it had been restarted
	}
	if _, err := m.slideOn(t.Context(), m.s, alice, pos, "", allRooms); !matrixerror.Is(err, "M_UNKNOWN_POS") {
		t.Errorf("one connection too many: %v", err)
	}
	for name, body := range map[string]string{
		"ranges": `{"lists":{"a":{"ranges":[[5,1]]}}}`, "conn_id": `{"conn_id":"` + strings.Repeat("x", 256) + `"}`,
		"limit": `{"lists":{"a":{"timeline_limit":-1}}}`, "timeout": `{"timeout":-1}`, "presence": `{"set_presence":"gone"}`,
		"lists":         `{"lists":{` + many(101, `"%d":{}`) + `}}`,
		"subscriptions": `{"room_subscriptions":{` + many(101, `"!%d:test":{}`) + `}}`,
		"many ranges":   `{"lists":{"a":{"ranges":[` + many(21, `[%[1]d,%[1]d]`) + `]}}}`,
		"state":         `{"lists":{"a":{"required_state":[` + many(1001, `["%d",""]`) + `]}}}`,
		"filter":        `{"lists":{"a":{"filters":{"tags":[` + many(101, `"%d"`) + `]}}}}`,
	} {
		if _, err := m.slideOn(t.Context(), m.s, alice, "", "", body); !matrixerror.Is(err, "M_INVALID_PARAM") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func many(n int, format string) string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf(format, i)
	}
	return strings.Join(out, ",")
}

// TestSlidingStableNames: the proposal's own path has the proposal's names.
func TestSlidingStableNames(t *testing.T) { sqldbtest.Each(t, testSlidingStableNames) }

func testSlidingStableNames(t *testing.T) {
	m := newModel(t)
	m.create(testRoom, alice)
	m.member(testRoom, alice, bob, "invite")
	m.settle()
	ask := func(pos, list string) jsontext.Value {
		t.Helper()
		body := `{"pos":"` + pos + `","txn_id":"t","lists":{"all":` + list + `}}`
		v, err := m.s.sliding(&httpapi.Request{Request: httptest.NewRequest("POST", "/", strings.NewReader(body)), Device: &httpapi.Device{UserID: bob, DeviceID: "D"}})
		if err != nil {
			t.Fatal(err)
		}
		return v.(jsontext.Value)
	}
	var first slidOf
	if err := json.Unmarshal(ask("", `{"range":[0,9],"timeline_limit":1}`), &first); err != nil || len(first.Rooms[testRoom].Stripped) == 0 || first.TxnID != "t" {
		t.Fatalf("%v: %+v", err, first)
	}
	m.member(testRoom, bob, bob, "join")
	topic := m.topicSet(testRoom, "x")
	m.settle()
	all := `{"range":[0,9],"timeline_limit":1,"required_state":{"include":[{}],"exclude":[{"type":"m.room.create"}],"lazy_members":true}}`
	var joined slidOf
	if err := json.Unmarshal(ask(first.Pos, all), &joined); err != nil {
		t.Fatal(err)
	}
	if got := typesOf(joined.Rooms[testRoom].State); !slices.Equal(got, []string{typeMember, "m.room.power_levels", "m.room.topic"}) || joined.Rooms[testRoom].Unread != nil {
		t.Fatalf("state %v", got)
	}
	if raw := string(ask(joined.Pos, strings.Replace(all, `limit":1`, `limit":5`, 1))); !strings.Contains(raw, `"expanded_timeline":true`) {
		t.Fatalf("expanded: %s", raw)
	}
	// An entry of state that is gone leaves a stub.
	m.room(testRoom).set(m.seqs[m.room(testRoom).partition]+1, m.room(testRoom).state[topicKey()].Key(), nil)
	m.publish(&roomapi.OutputRecord{Kind: roomapi.OutputState, RoomID: testRoom, JoinedCount: 2, Changes: []roomapi.StateChange{{Type: "m.room.topic", Replaced: topic}}})
	m.settle()
	if raw := string(ask(joined.Pos, all)); !strings.Contains(raw, `"required_state":[{"type":"m.room.topic","state_key":""}]`) {
		t.Fatalf("removed: %s", raw)
	}
}

func (m *model) topicSet(room, text string) string { return m.send(topicIn(room, text)) }

func topicKey() gomatrixserverlib.StateKey { return gomatrixserverlib.StateKey{Type: "m.room.topic"} }
