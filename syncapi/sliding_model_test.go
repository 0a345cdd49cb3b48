package syncapi

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/gomatrixserverlib"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// TestSlidingFollows: a client that follows by sliding sync, over several
// instances, with windows that change, answers that are lost and restarts, ends
// with the rooms, state and timelines that the room server has.
func TestSlidingFollows(t *testing.T) { both(t, slidingFollows) }

func slidingFollows(t *testing.T, m *model) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	k := &keepers{model: m, random: rand.New(rand.NewPCG(seed, 1))}
	for i := range 5 {
		id := fmt.Sprintf("!%d:test", i)
		k.rooms = append(k.rooms, id)
		m.create(id, alice, bob)
	}
	m.settle()
	f := &follower{keepers: k, user: bob, rooms: map[string]*followed{}, read: map[string]string{}}
	for range 50 {
		f.happen()
		if k.random.IntN(3) == 0 {
			f.ask()
		}
		if k.random.IntN(15) == 0 {
			m.restart()
		}
	}
	m.settle()
	f.check()
}

// follower is a client of sliding sync.
type follower struct {
	*keepers
	user, pos string
	rooms     map[string]*followed
	read      map[string]string // by alice
}

// followed is what the client has of a room.
type followed struct {
	membership string
	timeline   []string // since it was initial, without what is in gaps
	state      map[gomatrixserverlib.StateKey]string
	joined     int
	name       string
	account    string
	// read is where alice's receipt is; due tells that it moved while the client knew the room.
	read string
	due  bool
}

// happen changes something.
func (f *follower) happen() {
	room, text := f.keepers.rooms[f.random.IntN(len(f.keepers.rooms))], fmt.Sprint(f.random.IntN(1000))
	switch f.random.IntN(12) {
	case 0, 1, 2, 3:
		for range 1 + f.random.IntN(8) {
			f.message(room, alice, text)
		}
	case 4:
		f.topic(room, text)
	case 5:
		f.send(sent{room: room, sender: alice, typ: "m.room.name", key: stateKey(""), content: `{"name":"` + text + `"}`})
	case 6:
		f.member(room, carol, carol, "join")
		f.message(room, carol, text)
		if f.random.IntN(2) == 0 {
			f.member(room, carol, carol, "leave")
		}
	case 7:
		f.member(room, alice, bob, "leave")
		f.message(room, alice, "not for bob")
		if f.random.IntN(3) > 0 {
			f.member(room, bob, bob, "join")
		}
	case 8:
		f.member(room, bob, bob, "join")
	case 9:
		f.change(userapi.UserChange{UserID: bob, Kind: userapi.ChangeAccountData, RoomID: room, Type: "org.x", Content: jsontext.Value(`{"x":` + text + `}`)})
	case 10:
		f.read[room] = f.order[room][f.random.IntN(len(f.order[room]))]
		f.receipt(alice, room, f.read[room], receiptPublic, "")
		if c := f.rooms[room]; c != nil {
			c.due = true
		}
	case 11:
		f.evict(room)
	}
}

// ask asks for what is new, in one of several ways. Some answers are lost: then
// the same is asked again, perhaps otherwise.
func (f *follower) ask() {
	for f.random.IntN(4) == 0 {
		f.slide(f.user, f.pos, f.body(f.random.IntN(4)))
		if f.random.IntN(2) == 0 {
			f.happen()
		}
	}
	f.take(f.slide(f.user, f.pos, f.body(f.random.IntN(4))))
}

// body is a request for the first rooms, for some, or for all.
func (f *follower) body(way int) string {
	const extensions = `,"extensions":{"account_data":{"enabled":true},"receipts":{"enabled":true}}}`
	state := `"required_state":[["m.room.topic",""],["m.room.member","$ME"]]`
	switch way {
	case 0:
		return `{"lists":{"top":{"ranges":[[0,1]],"timeline_limit":2,` + state + `}}` + extensions
	case 1:
		return `{"room_subscriptions":{"` + f.keepers.rooms[0] + `":{"timeline_limit":20,"required_state":[["*","*"]]}}` + extensions
	case 2:
		return `{"lists":{"top":{"ranges":[[0,2]],"timeline_limit":1},"end":{"ranges":[[4,9]],"timeline_limit":5,` + state + `}}` + extensions
	}
	return allOfAll
}

const allOfAll = `{"lists":{"all":{"ranges":[[0,99]],"timeline_limit":3,"required_state":[["*","*"]]}},
	"extensions":{"account_data":{"enabled":true},"receipts":{"enabled":true}}}`

// take applies an answer as a client does.
func (f *follower) take(a *slidOf) {
	f.pos = a.Pos
	for id, r := range a.Rooms {
		c := f.rooms[id]
		if c == nil || r.Initial {
			if !r.Initial {
				f.t.Fatalf("%s is new, and not initial: %+v", id, r)
			}
			account := ""
			if c != nil {
				account = c.account
			}
			c = &followed{state: map[gomatrixserverlib.StateKey]string{}, account: account}
			f.rooms[id] = c
		}
		if r.Membership != "" {
			c.membership = r.Membership
		}
		if r.Joined != nil {
			c.joined = *r.Joined
		}
		if r.Name != nil {
			c.name = *r.Name
		}
		for _, ev := range r.State {
			c.state[gomatrixserverlib.StateKey{Type: ev.Type, StateKey: *ev.StateKey}] = ev.ID
		}
		c.add(f.t, r)
	}
	for id, events := range a.Extensions.Account.Rooms {
		if c := f.rooms[id]; c != nil {
			c.account = string(events[0].Content)
		}
	}
	for id, ev := range a.Extensions.Receipts.Rooms {
		var content map[string]map[string]map[string]jsontext.Value
		if err := json.Unmarshal(ev.Content, &content); err != nil {
			f.t.Fatal(err)
		}
		for event, types := range content {
			if _, ok := types[receiptPublic][alice]; ok && f.rooms[id] != nil {
				f.rooms[id].read = event
			}
		}
	}
}

// add adds events to a timeline: behind what is there, or in place of it, where
// the answer goes further back.
func (c *followed) add(t testing.TB, r slidRoomOf) {
	news := ids(r.Timeline)
	if r.Expanded {
		if n := len(c.timeline); n > 0 && !r.Limited && !slices.Contains(news, c.timeline[n-1]) {
			t.Fatalf("the expanded timeline %v leaves out %s", news, c.timeline[n-1])
		}
		c.timeline = news
		return
	}
	if r.Limited {
		c.timeline = nil
	}
	for _, id := range news {
		if slices.Contains(c.timeline, id) {
			t.Fatalf("%s is told twice", id)
		}
	}
	c.timeline = append(c.timeline, news...)
}

// check asks for everything and compares with the room server.
func (f *follower) check() {
	f.t.Helper()
	f.take(f.slide(f.user, f.pos, allOfAll))
	f.take(f.slide(f.user, f.pos, allOfAll))
	if again := f.slide(f.user, f.pos, allOfAll); len(again.Rooms) > 0 {
		f.t.Errorf("told again: %+v", again.Rooms)
	}
	for _, id := range f.keepers.rooms {
		res, err := roomapi.QueryState.Call(f.t.Context(), f.calls, &roomapi.StateRequest{RoomID: id})
		if err != nil {
			f.t.Fatal(err)
		}
		f.checkRoom(id, stateFrom(res.Events))
	}
}

func (f *follower) checkRoom(id string, state stateMap) {
	f.t.Helper()
	c, me := f.rooms[id], state[gomatrixserverlib.StateKey{Type: typeMember, StateKey: f.user}]
	if c == nil || c.membership != me.Membership() {
		f.t.Errorf("%s: %+v, not %s", id, c, me.Membership())
		return
	}
	if c.membership != "join" {
		if n := len(c.timeline); n == 0 || c.timeline[n-1] != me.EventID() {
			f.t.Errorf("%s was left with %s, the timeline is %v", id, me.EventID(), c.timeline)
		}
		return
	}
	want, joined := map[gomatrixserverlib.StateKey]string{}, 0
	for key, ev := range state {
		want[key] = ev.EventID()
		if key.Type == typeMember && ev.Membership() == "join" {
			joined++
		}
	}
	if !maps.Equal(c.state, want) || c.joined != joined {
		f.t.Errorf("%s: state %v with %d joined, not %v with %d", id, c.state, c.joined, want, joined)
	}
	if order := f.order[id]; len(c.timeline) == 0 || !slices.Equal(c.timeline, order[max(len(order)-len(c.timeline), 0):]) {
		f.t.Errorf("%s: timeline %v, of %v", id, c.timeline, order)
	}
	if ev := state[nameKey()]; ev != nil {
		if name, _ := textOf(ev, "name"); string(name) != `"`+c.name+`"` {
			f.t.Errorf("%s: name %s, not %s", id, c.name, name)
		}
	}
	if c.due && c.read != f.read[id] {
		f.t.Errorf("%s: read up to %s, not %s", id, c.read, f.read[id])
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if want := string(f.account[f.user][id]["org.x"]); c.account != want {
		f.t.Errorf("%s: account data %s, not %s", id, c.account, want)
	}
}
