package syncapi

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/gomatrixserverlib"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/syncapi/api"
	"github.com/matrix-org/dendrite/syncapi/storage"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// TestReach: what is told of all events of a room is what is decided for each.
func TestReach(t *testing.T) {
	ev, err := (&gomatrixserverlib.EventBuilder{RoomID: testRoom, Type: "m.room.message", Sender: alice, Content: jsontext.Value(`{}`)}).Build("11")
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		var changes []storage.Membership
		for seq := int64(1); len(changes) < 1+random.IntN(6); seq += 1 + random.Int64N(4) {
			changes = append(changes, storage.Membership{Seq: seq, Membership: []string{"join", "leave", "invite", "ban", "knock"}[random.IntN(5)]})
		}
		reach := reachOf(testRoom, changes)
		for seq := int64(1); seq < 30; seq++ {
			for _, hv := range []string{"world_readable", "shared", "invited", "joined"} {
				e := fromStored(&roomapi.StoredEvent{Event: ev, Position: roomapi.Position{Seq: seq}, HistoryVisibility: hv})
				want := visible(changes, e, bob)
				if got := reach.Sees(gomatrixserverlib.HistoryVisibility(hv), seq); got != want {
					t.Fatalf("%+v: %s at %d: %v, %+v", changes, hv, seq, got, reach)
				}
			}
		}
	}
}

func TestShow(t *testing.T) { both(t, show) }

func show(t *testing.T, m *model) {
	const left, other = "!left:test", "!other:test"
	m.create(testRoom, alice, bob)
	m.create(left, alice, bob)
	m.create(other, alice)
	var ids []string
	for i := range 6 {
		ids = append(ids, m.message(testRoom, alice, fmt.Sprint("m", i)))
	}
	m.send(sent{room: testRoom, sender: alice, typ: "m.room.message", content: `{"body":"* n2","msgtype":"m.text","m.new_content":{"body":"n2","msgtype":"m.text"},` +
		`"m.relates_to":{"rel_type":"m.replace","event_id":"` + ids[2] + `"}}`})
	seen := m.message(left, alice, "seen")
	m.member(left, bob, bob, "leave")
	unseen, foreign := m.message(left, alice, "unseen"), m.message(other, alice, "foreign")
	m.settle()
	for _, s := range m.all {
		ask := func(r api.ShowRequest, refs ...api.EventRef) []api.Shown {
			t.Helper()
			r.UserID, r.DeviceID, r.Events, r.AtLeast = bob, "D", refs, m.heads().rooms
			res, err := s.queryShow(t.Context(), &r)
			if err != nil {
				t.Fatal(err)
			}
			return res.Events
		}
		got := ask(api.ShowRequest{Context: &api.ContextRequest{Before: 1, After: 2, Profiles: true}}, api.EventRef{RoomID: testRoom, EventID: ids[2]},
			api.EventRef{RoomID: left, EventID: unseen}, api.EventRef{RoomID: other, EventID: foreign}, api.EventRef{RoomID: left, EventID: seen}, api.EventRef{RoomID: left, EventID: ids[0]})
		if !strings.Contains(string(got[0].Event), ids[2]) || !strings.Contains(string(got[0].Event), `"body":"n2"`) || !strings.Contains(string(got[3].Event), seen) {
			t.Errorf("events: %s %s", got[0].Event, got[3].Event)
		}
		for _, i := range []int{1, 2, 4} {
			if got[i].Event != nil {
				t.Errorf("%d is shown: %s", i, got[i].Event)
			}
		}
		m.expectIDs("before", got[0].Before, ids[1])
		m.expectIDs("after", got[0].After, ids[3], ids[4])
		if _, there := got[0].Profiles[alice]; !there || len(got[0].Profiles) != 1 {
			t.Errorf("profiles: %v", got[0].Profiles)
		}
		var page struct {
			Chunk []eventOf `json:"chunk"`
		}
		if err := m.get(s.messages, bob, "dir=f&limit=2&from="+got[0].Start, map[string]string{"roomId": testRoom}, &page); err != nil ||
			len(page.Chunk) != 2 || page.Chunk[0].ID != ids[1] {
			t.Errorf("from the start: %+v %v", page, err)
		}
		if err := m.get(s.messages, bob, "dir=b&limit=1&from="+got[0].End, map[string]string{"roomId": testRoom}, &page); err != nil ||
			len(page.Chunk) != 1 || page.Chunk[0].ID != ids[4] {
			t.Errorf("from the end: %+v %v", page, err)
		}
		reach, err := s.queryReach(t.Context(), &api.ReachRequest{UserID: bob, AtLeast: m.heads().rooms})
		if err != nil || len(reach.Rooms) != 2 || reach.Rooms[0].RoomID != testRoom || reach.Rooms[1].RoomID != left {
			t.Fatalf("reach: %+v %v", reach, err)
		}
	}
	m.change(userapi.UserChange{UserID: bob, Kind: userapi.ChangeAccountData, Type: userapi.TypeIgnoredUsers, Content: jsontext.Value(`{"ignored_users":{"` + alice + `":{}}}`)})
	m.settle()
	for _, s := range m.all {
		res, err := s.queryShow(t.Context(), &api.ShowRequest{UserID: bob, Events: []api.EventRef{{RoomID: testRoom, EventID: ids[0]}}})
		if err != nil || res.Events[0].Event != nil {
			t.Errorf("ignored: %+v %v", res, err)
		}
		reach, err := s.queryReach(t.Context(), &api.ReachRequest{UserID: bob})
		if err != nil || !slices.Equal(reach.Ignored, []string{alice}) {
			t.Errorf("ignored: %+v %v", reach, err)
		}
	}
}

// expectIDs compares the IDs of an array of events.
func (m *model) expectIDs(what string, events jsontext.Value, want ...string) {
	m.t.Helper()
	var list []eventOf
	if err := json.Unmarshal(events, &list); err != nil {
		m.t.Fatal(what, err)
	}
	var got []string
	for _, e := range list {
		got = append(got, e.ID)
	}
	if !slices.Equal(got, want) {
		m.t.Errorf("%s: %v, not %v", what, got, want)
	}
}
