package syncapi

import (
	"fmt"
	"math/rand/v2"
	"testing"

	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/syncapi/api"
)

// countsOf asks an instance for what is unread, as of an event or of all there is.
func (m *model) countsOf(s *Server, r api.UnreadRequest) api.UnreadResponse {
	m.t.Helper()
	res, err := s.queryUnread(m.t.Context(), &r)
	if err != nil {
		m.t.Fatal(err)
	}
	return *res
}

func TestQueryUnread(t *testing.T) { both(t, queryUnread) }

func queryUnread(t *testing.T, m *model) {
	const other = "!other:test"
	m.create(testRoom, alice, bob)
	m.create(other, alice, bob)
	first := m.message(testRoom, alice, "one")
	m.message(testRoom, alice, "two!")
	m.message(other, alice, "three")
	for _, id := range []string{"1", "2"} {
		m.send(sent{room: other, sender: alice, typ: "m.call.invite", content: `{"call_id":"` + id + `"}`})
	}
	for _, s := range m.all {
		s.judge = func(*user, *room) judging { return s.judgeByRules(&user{rules: callRules()}, nil) }
	}
	place := func(room, id string) roomapi.Position {
		res, err := roomapi.QueryEvents.Call(t.Context(), m.calls, &roomapi.EventsRequest{RoomID: room, EventIDs: []string{id}})
		if err != nil || len(res.Events) != 1 {
			t.Fatal(res, err)
		}
		return res.Events[0].Position
	}
	expect := func(what string, r api.UnreadRequest, want api.UnreadResponse) {
		t.Helper()
		m.settle()
		r.UserID = bob
		if r.EventID != "" {
			r.Position = place(r.RoomID, r.EventID)
		}
		for _, s := range m.all {
			if got := m.countsOf(s, r); got != want {
				t.Errorf("%s: %+v, not %+v", what, got, want)
			}
		}
	}
	expect("all", api.UnreadRequest{RoomID: testRoom, EventID: first}, api.UnreadResponse{Notifications: 5, Highlights: 1, Rooms: 2, MissedCalls: 2})
	m.send(sent{room: other, sender: bob, typ: "m.call.answer", content: `{"call_id":"1"}`})
	expect("one call taken", api.UnreadRequest{}, api.UnreadResponse{Notifications: 5, Highlights: 1, Rooms: 2, MissedCalls: 1})
	m.receipt(bob, testRoom, first, receiptPublic, "")
	expect("one read", api.UnreadRequest{RoomID: testRoom, EventID: first}, api.UnreadResponse{Notifications: 4, Highlights: 1, Rooms: 2, MissedCalls: 1, Read: true})
	m.member(other, bob, bob, "leave")
	expect("left", api.UnreadRequest{}, api.UnreadResponse{Notifications: 1, Highlights: 1, Rooms: 1})
}

// callRules notify of messages and calls, and highlight those with an exclamation mark.
func callRules() []byte {
	return []byte(`{"global":{"override":[
		{"rule_id":"a","conditions":[{"kind":"event_match","key":"content.body","pattern":"two!"}],"actions":["notify",{"set_tweak":"highlight"}]},
		{"rule_id":"b","conditions":[{"kind":"event_match","key":"type","pattern":"m.room.message"}],"actions":["notify"]},
		{"rule_id":"c","conditions":[{"kind":"event_match","key":"type","pattern":"m.call.invite"}],"actions":["notify"]}]}}`)
}

// TestCountsAreThoseOfSync: what other components are told is at any time what a
// sync tells, added up.
func TestCountsAreThoseOfSync(t *testing.T) { both(t, countsAreThoseOfSync) }

func countsAreThoseOfSync(t *testing.T, m *model) {
	random := rand.New(rand.NewPCG(5, 5))
	rooms := []string{testRoom, "!b:test", "!c:test"}
	events := map[string][]string{}
	for _, id := range rooms {
		m.create(id, alice, bob)
	}
	for i := range 60 {
		room := rooms[random.IntN(len(rooms))]
		if list := events[room]; len(list) > 0 && random.IntN(4) == 0 {
			m.receipt(bob, room, list[random.IntN(len(list))], receiptPublic, "")
		} else {
			events[room] = append(list, m.message(room, alice, fmt.Sprint("x", []string{"", "!"}[random.IntN(2)])))
		}
		if i%5 != 0 {
			continue
		}
		m.settle()
		want := api.UnreadResponse{}
		for _, r := range m.sync(bob, "").Rooms.Join {
			want.Notifications += r.Unread.Notifications
			want.Highlights += r.Unread.Highlights
			want.Rooms += min(r.Unread.Notifications, 1)
		}
		for _, s := range m.all {
			if got := m.countsOf(s, api.UnreadRequest{UserID: bob}); got != want {
				t.Fatalf("step %d: %+v, a sync says %+v", i, got, want)
			}
		}
	}
	ahead := api.UnreadRequest{UserID: bob, UserSeq: 1 << 40}
	m.s.maxLag = 1
	if _, err := m.s.queryUnread(t.Context(), &ahead); err == nil {
		t.Error("counts as of a change that is not there")
	}
}
