package clientapi

import (
	"crypto/sha256"
	"fmt"
	"testing"

	directory "github.com/matrix-org/dendrite/directoryapi/api"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// testState is a room's state as the auth rules read it.
type testState map[gomatrixserverlib.StateKey]*gomatrixserverlib.Event

func (s testState) StateEvent(typ, stateKey string) *gomatrixserverlib.Event {
	return s[gomatrixserverlib.StateKey{Type: typ, StateKey: stateKey}]
}

// authorise builds a room's events one after the other and applies the room
// version's rules to each: what the room server will do.
func authorise(t *testing.T, version gomatrixserverlib.RoomVersion, roomID string, events []api.InputEvent, lines [][]byte) (testState, error) {
	t.Helper()
	state, last := testState{}, (*gomatrixserverlib.Event)(nil)
	for i, in := range events {
		var e *gomatrixserverlib.Event
		var err error
		if in.Proto == nil {
			e, err = gomatrixserverlib.ParseEvent(lines[0], version)
		} else {
			e, err = buildProto(version, roomID, i, in.Proto, state, last)
		}
		if err != nil {
			return nil, fmt.Errorf("event %d: %w", i, err)
		}
		if err := gomatrixserverlib.Authorise(e, state); err != nil {
			return nil, fmt.Errorf("event %d (%s): %w", i, e.Type(), err)
		}
		state[e.Key()], last = e, e
	}
	return state, nil
}

func buildProto(version gomatrixserverlib.RoomVersion, roomID string, n int, p *api.Proto, state testState, last *gomatrixserverlib.Event) (*gomatrixserverlib.Event, error) {
	b := gomatrixserverlib.EventBuilder{
		RoomID: roomID, Sender: p.Sender, Type: p.Type, StateKey: p.StateKey, Content: p.Content, Redacts: p.Redacts, OriginServerTS: 1, Depth: int64(n + 1),
	}
	given := version.Rules().GivenEventIDs()
	if given {
		b.EventID = fmt.Sprintf("$%d:test", n)
	}
	if last != nil {
		b.PrevEvents = []string{last.EventID()}
		if given {
			b.PrevHashes = [][sha256.Size]byte{last.ReferenceHash()}
		}
	}
	keys, err := gomatrixserverlib.AuthKeys(version, p.Type, p.Sender, p.StateKey, p.Content)
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		if e := state[key]; e != nil {
			b.AuthEvents = append(b.AuthEvents, e.EventID())
			if given {
				b.AuthHashes = append(b.AuthHashes, e.ReferenceHash())
			}
		}
	}
	return b.Build(version)
}

func testServer(t *testing.T) *Server {
	t.Helper()
	key, err := gomatrixserverlib.GenerateSigningKey("a_1", zeroes{})
	if err != nil {
		t.Fatal(err)
	}
	return &Server{serverName: "test", keys: []gomatrixserverlib.SigningKey{key}}
}

// zeroes is a source of the same key each time.
type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestCreateRoomObeysTheRules applies each version's rules to the events of
// each kind of room.
func TestCreateRoomObeysTheRules(t *testing.T) {
	bodies := []string{
		`{}`,
		`{"preset":"public_chat","name":"N","topic":"T","room_alias_name":"a"}`,
		`{"preset":"trusted_private_chat","invite":["@bob:test","@carol:test"],"is_direct":true}`,
		`{"initial_state":[{"type":"m.room.encryption","content":{"algorithm":"m.megolm.v1.aes-sha2"}},{"type":"m.room.join_rules","content":{"join_rule":"knock"}}]}`,
		`{"power_level_content_override":{"users_default":10,"events":{"m.room.name":100}},"name":"N"}`,
		`{"creation_content":{"m.federate":false,"type":"m.space"}}`,
	}
	s := testServer(t)
	for _, version := range gomatrixserverlib.SupportedRoomVersions() {
		for _, body := range bodies {
			events, err := testEvents(body, version)
			if err != nil {
				t.Fatal(err)
			}
			plan := &newRoom{version: version, ts: 1}
			if err := s.begin(plan, testCreator, events[0].Proto.Content, "seedseedseedseedseedseed"); err != nil {
				t.Fatalf("version %s: %s: %v", version, body, err)
			}
			if err := gomatrixserverlib.CheckRoomID(plan.id, version); err != nil {
				t.Errorf("version %s: %q: %v", version, plan.id, err)
			}
			if _, err := authorise(t, version, plan.id, append(plan.events, events[1:]...), plan.lines); err != nil {
				t.Errorf("version %s: %s: %v", version, body, err)
			}
		}
	}
}

func TestCreateRoomBreaksItsOwnRules(t *testing.T) {
	for _, body := range []string{
		`{"power_level_content_override":{"events":{"m.room.name":101},"users":{"@alice:test":100}},"name":"N"}`,
		`{"power_level_content_override":{"users":{"not a user":1}}}`,
		`{"power_level_content_override":{"ban":"high"}}`,
	} {
		events, err := testEvents(body, "11")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := authorise(t, "11", "!r:test", events, nil); err == nil {
			t.Errorf("%s: accepted", body)
		}
	}
}

// TestBeginIsRepeatable: an upgrade that is taken up again makes the same room.
func TestBeginIsRepeatable(t *testing.T) {
	s := testServer(t)
	for _, version := range []gomatrixserverlib.RoomVersion{"11", "12"} {
		ids := map[string]bool{}
		for _, seed := range []string{"aaaaaaaaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbbbb"} {
			content, err := creationContent(&createRequest{}, testCreator, version, seed)
			if err != nil {
				t.Fatal(err)
			}
			plan := &newRoom{version: version, ts: 1}
			if err := s.begin(plan, testCreator, content, seed); err != nil {
				t.Fatal(err)
			}
			ids[plan.id] = true
		}
		if len(ids) != 2 {
			t.Errorf("version %s: %v", version, ids)
		}
	}
}

// TestUpgradedRoomObeysTheRules upgrades rooms from each version to each.
func TestUpgradedRoomObeysTheRules(t *testing.T) {
	s := testServer(t)
	for _, from := range gomatrixserverlib.SupportedRoomVersions() {
		for _, to := range gomatrixserverlib.SupportedRoomVersions() {
			old := &oldRoom{
				version: from,
				create:  builtEvent(t, from, "m.room.create", "@carol:test", `{"creator":"@carol:test","type":"m.space"}`),
				levels:  builtEvent(t, from, "m.room.power_levels", "@carol:test", `{"users":{"@alice:test":60,"@bob:test":100},"events":{"m.room.tombstone":50,"m.room.power_levels":100}}`),
				state:   map[gomatrixserverlib.StateKey]*api.StoredEvent{},
			}
			for typ, content := range map[string]string{
				"m.room.name": `{"name":"N"}`, "m.room.join_rules": `{"join_rule":"restricted","allow":[]}`, typeCanonicalAlias: `{"alias":"#a:test"}`,
			} {
				e := builtEvent(t, from, typ, "@carol:test", content)
				old.state[e.Key()] = &api.StoredEvent{Event: e}
			}
			up := &directory.Upgrade{RoomID: "!old:test", UserID: testCreator, Version: string(to), Creators: []string{"@dan:test"}, EventID: "$last", Seed: "seedseedseedseedseedseed", TS: 1}
			plan, err := s.upgradePlan(up, old, memberContent{Membership: "join"})
			if err != nil {
				t.Fatalf("%s to %s: %v", from, to, err)
			}
			state, err := authorise(t, to, plan.id, plan.events, plan.lines)
			if err != nil {
				t.Errorf("%s to %s: %v", from, to, err)
				continue
			}
			levels, err := gomatrixserverlib.NewPowerLevels(to, state.StateEvent("m.room.create", ""), state.StateEvent("m.room.power_levels", ""))
			if err != nil {
				t.Fatal(err)
			}
			want := int64(60)
			switch {
			case to.Rules().CreatorsPrivileged:
				want = levels.UserLevel("@dan:test")
			case from.Rules().CreatorsPrivileged:
				want = levelAdmin
			}
			if got := levels.UserLevel(testCreator); got != want || levels.UserLevel("@bob:test") != 100 {
				t.Errorf("%s to %s: level %d, want %d", from, to, got, want)
			}
			if name := state.StateEvent("m.room.name", ""); name == nil || string(name.Content()) != `{"name":"N"}` {
				t.Errorf("%s to %s: the name was not copied", from, to)
			}
		}
	}
}

func TestClosedLevels(t *testing.T) {
	tests := []struct{ levels, want string }{
		{`{"users":{"@alice:test":100}}`, `{"events_default":50,"invite":50,"users":{"@alice:test":100}}`},
		{`{"users":{"@alice:test":100},"users_default":60}`, `{"events_default":61,"invite":61,"users":{"@alice:test":100},"users_default":60}`},
		{`{"users":{"@alice:test":100},"events_default":70,"invite":70}`, ``},
		{`{"users":{"@alice:test":40}}`, ``},
		{`{"users":{"@alice:test":50},"users_default":60,"events":{"m.room.power_levels":50}}`, ``},
	}
	for _, tt := range tests {
		create := builtEvent(t, "11", "m.room.create", "@carol:test", `{}`)
		event := builtEvent(t, "11", "m.room.power_levels", "@carol:test", tt.levels)
		levels, err := gomatrixserverlib.NewPowerLevels("11", create, event)
		if err != nil {
			t.Fatal(err)
		}
		got := closedLevels(&oldRoom{levels: event}, &powers{levels: levels, userID: testCreator, membership: "join", version: "11"})
		if string(got) != tt.want {
			t.Errorf("%s: %s", tt.levels, got)
		}
	}
}
