package clientapi

import (
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
)

const testCreator = "@alice:test"

// testEvents makes the events of a createRoom body, m.room.create first.
func testEvents(body string, version gomatrixserverlib.RoomVersion) ([]api.InputEvent, error) {
	var req createRequest
	if err := json.Unmarshal([]byte(body), &req); err != nil {
		return nil, matrixerror.BadJSON("%v", err)
	}
	content, err := creationContent(&req, testCreator, version, "seedseedseedseedseedseed")
	if err != nil {
		return nil, err
	}
	alias := ""
	if req.RoomAliasName != "" {
		alias = "#" + req.RoomAliasName + ":test"
	}
	invites := make([]memberContent, len(req.Invite))
	for i := range invites {
		invites[i] = memberContent{Membership: "invite", IsDirect: req.IsDirect}
	}
	rest, err := roomEvents(&req, testCreator, version, alias, memberContent{Membership: "join", DisplayName: "Alice"}, invites)
	key := ""
	create := api.InputEvent{Proto: &api.Proto{Type: "m.room.create", StateKey: &key, Sender: testCreator, Content: content}}
	return append([]api.InputEvent{create}, rest...), err
}

// contents maps "type|state_key" to the last content, and order to the keys in
// the order of the events.
func contents(t *testing.T, events []api.InputEvent) (byKey map[string]map[string]any, order string) {
	t.Helper()
	byKey = map[string]map[string]any{}
	var keys []string
	for _, e := range events {
		var content map[string]any
		if err := json.Unmarshal(e.Proto.Content, &content); err != nil {
			t.Fatal(err)
		}
		key := strings.TrimPrefix(e.Proto.Type, "m.room.")
		if *e.Proto.StateKey != "" {
			key += "|" + *e.Proto.StateKey
		}
		byKey[key] = content
		keys = append(keys, key)
	}
	return byKey, strings.Join(keys, " ")
}

func TestCreateRoomPresets(t *testing.T) {
	tests := []struct {
		body, rule, guests string
	}{
		{`{}`, "invite", "can_join"},
		{`{"visibility":"private"}`, "invite", "can_join"},
		{`{"visibility":"public"}`, "public", "forbidden"},
		{`{"preset":"private_chat","visibility":"public"}`, "invite", "can_join"},
		{`{"preset":"public_chat"}`, "public", "forbidden"},
		{`{"preset":"trusted_private_chat","invite":["@bob:test"]}`, "invite", "can_join"},
	}
	for _, version := range gomatrixserverlib.SupportedRoomVersions() {
		rules := version.Rules()
		for _, tt := range tests {
			events, err := testEvents(tt.body, version)
			if err != nil {
				t.Fatalf("version %s: %s: %v", version, tt.body, err)
			}
			got, order := contents(t, events)
			if !strings.HasPrefix(order, "create member|@alice:test power_levels join_rules history_visibility guest_access") {
				t.Errorf("version %s: %s: order %s", version, tt.body, order)
			}
			if got["join_rules"]["join_rule"] != tt.rule || got["guest_access"]["guest_access"] != tt.guests || got["history_visibility"]["history_visibility"] != "shared" {
				t.Errorf("version %s: %s: %v", version, tt.body, got)
			}
			if got["create"]["room_version"] != string(version) || (got["create"]["creator"] == testCreator) != rules.CreatorInContent {
				t.Errorf("version %s: create %v", version, got["create"])
			}
			checkTrust(t, version, strings.Contains(tt.body, "trusted"), got)
		}
	}
}

// checkTrust checks who has power in a room.
func checkTrust(t *testing.T, version gomatrixserverlib.RoomVersion, trusted bool, got map[string]map[string]any) {
	t.Helper()
	users := got["power_levels"]["users"].(map[string]any)
	events := got["power_levels"]["events"].(map[string]any)
	if version.Rules().CreatorsPrivileged {
		_, additional := got["create"]["additional_creators"]
		if len(users) != 0 || additional != trusted || events[typeTombstone] != 150.0 {
			t.Errorf("version %s: users %v, create %v, tombstone %v", version, users, got["create"], events[typeTombstone])
		}
		if got["create"][entropyKey] == nil {
			t.Errorf("version %s: no entropy", version)
		}
		return
	}
	if users[testCreator] != 100.0 || (users["@bob:test"] == 100.0) != trusted || got["create"]["additional_creators"] != nil {
		t.Errorf("version %s: users %v", version, users)
	}
}

func TestCreateRoomOptions(t *testing.T) {
	body := `{"name":"N","topic":"T","room_alias_name":"pub","is_direct":true,"invite":["@bob:test","@carol:test"],
		"creation_content":{"m.federate":false,"type":"m.space","creator":"@evil:test","room_version":"1"},
		"initial_state":[{"type":"m.room.name","content":{"name":"overridden"}},
			{"type":"m.room.join_rules","content":{"join_rule":"knock"}},{"type":"x.y","state_key":"k","content":{"a":1}}],
		"power_level_content_override":{"users_default":5,"events":{"m.room.name":7}}}`
	for _, version := range []gomatrixserverlib.RoomVersion{"1", "10", "11", "12"} {
		events, err := testEvents(body, version)
		if err != nil {
			t.Fatal(err)
		}
		got, order := contents(t, events)
		want := "create member|@alice:test power_levels canonical_alias history_visibility guest_access join_rules x.y|k name topic member|@bob:test member|@carol:test"
		if order != want {
			t.Errorf("version %s: order %s", version, order)
		}
		if got["create"]["m.federate"] != false || got["create"]["type"] != "m.space" || got["create"]["room_version"] != string(version) {
			t.Errorf("version %s: create %v", version, got["create"])
		}
		if c, ok := got["create"]["creator"]; ok && (c != testCreator || !version.Rules().CreatorInContent) {
			t.Errorf("version %s: creator %v", version, c)
		}
		if got["canonical_alias"]["alias"] != "#pub:test" || got["name"]["name"] != "N" || got["join_rules"]["join_rule"] != "knock" {
			t.Errorf("version %s: %v", version, got)
		}
		if got["member|@bob:test"]["is_direct"] != true || got["member|@alice:test"]["displayname"] != "Alice" {
			t.Errorf("version %s: members %v", version, got)
		}
		text := got["topic"]["m.topic"].(map[string]any)["m.text"].([]any)[0].(map[string]any)
		if got["topic"]["topic"] != "T" || text["body"] != "T" {
			t.Errorf("version %s: topic %v", version, got["topic"])
		}
		levels := got["power_levels"]["events"].(map[string]any)
		if got["power_levels"]["users_default"] != 5.0 || levels["m.room.name"] != 7.0 || (levels[typeTombstone] == 150.0) != version.Rules().CreatorsPrivileged {
			t.Errorf("version %s: levels %v", version, got["power_levels"])
		}
	}
}

func TestCreateRoomRefused(t *testing.T) {
	tests := []struct {
		name, body, version, code string
	}{
		{"preset", `{"preset":"nonsense"}`, "12", "M_INVALID_PARAM"},
		{"initial_state without type", `{"initial_state":[{"content":{}}]}`, "12", "M_INVALID_PARAM"},
		{"initial_state without content", `{"initial_state":[{"type":"x"}]}`, "12", "M_BAD_JSON"},
		{"initial_state create", `{"initial_state":[{"type":"m.room.create","content":{}}]}`, "12", "M_INVALID_ROOM_STATE"},
		{"initial_state member", `{"initial_state":[{"type":"m.room.member","state_key":"@x:test","content":{}}]}`, "12", "M_INVALID_ROOM_STATE"},
		{"alias of another room", `{"initial_state":[{"type":"m.room.canonical_alias","content":{"alias":"#x:test"}}]}`, "12", "M_BAD_ALIAS"},
		{"long type", `{"initial_state":[{"type":"` + strings.Repeat("x", 256) + `","content":{}}]}`, "12", "M_TOO_LARGE"},
		{"float in strict version", `{"initial_state":[{"type":"x","content":{"a":1.5}}]}`, "12", "M_BAD_JSON"},
		{"float in lenient version", `{"initial_state":[{"type":"x","content":{"a":1.5}}]}`, "5", ""},
		{"creation_content array", `{"creation_content":[]}`, "12", "M_BAD_JSON"},
		{"creation_content null", `{"creation_content":null}`, "12", ""},
		{"creators", `{"creation_content":{"additional_creators":"@x:test"}}`, "12", "M_BAD_JSON"},
		{"creators no users", `{"creation_content":{"additional_creators":["x"]}}`, "12", "M_INVALID_PARAM"},
		{"override array", `{"power_level_content_override":[]}`, "12", "M_BAD_JSON"},
		{"override events", `{"power_level_content_override":{"events":[]}}`, "12", "M_BAD_JSON"},
		{"state_default", `{"power_level_content_override":{"events":{},"state_default":"x"}}`, "12", "M_BAD_JSON"},
		{"name no string", `{"name":1}`, "12", "M_BAD_JSON"},
		{"large content", `{"initial_state":[{"type":"x","content":{"a":"` + strings.Repeat("x", 70000) + `"}}]}`, "12", "M_TOO_LARGE"},
	}
	for _, tt := range tests {
		_, err := testEvents(tt.body, gomatrixserverlib.RoomVersion(tt.version))
		code := ""
		if e := matrixerror.From(err); e != nil {
			code = e.Code
		} else if err != nil {
			code = err.Error()
		}
		if code != tt.code {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.code)
		}
	}
}

func TestTombstoneAboveStateDefault(t *testing.T) {
	for body, want := range map[string]float64{
		`{"power_level_content_override":{"events":{},"state_default":200}}`:                   201,
		`{"power_level_content_override":{"events":{}}}`:                                       150,
		`{"power_level_content_override":{"events":{"m.room.tombstone":60}}}`:                  60,
		`{"power_level_content_override":{"events":null,"state_default":9007199254740991}}`:    9007199254740991,
		`{"power_level_content_override":{"events":{"a":1},"state_default":9007199254740990}}`: 9007199254740991,
	} {
		events, err := testEvents(body, "12")
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		got, _ := contents(t, events)
		if level := got["power_levels"]["events"].(map[string]any)[typeTombstone]; level != want {
			t.Errorf("%s: %v", body, level)
		}
	}
}

// FuzzCreateRoom looks for bodies that panic, or that make what is not canonical.
func FuzzCreateRoom(f *testing.F) {
	for _, body := range []string{
		`{}`, `{"preset":"trusted_private_chat","invite":["@b:test"]}`, `{"initial_state":[{"type":"x","content":{"a":[1,null]}}]}`,
		`{"creation_content":{"additional_creators":["@x:test"]},"power_level_content_override":{"events":null}}`,
		`{"name":"\u0000","topic":"\ud83d\ude00","room_alias_name":"a:b"}`,
	} {
		f.Add(body, 12)
	}
	f.Fuzz(func(t *testing.T, body string, n int) {
		all := gomatrixserverlib.SupportedRoomVersions()
		version := all[uint(n)%uint(len(all))]
		events, err := testEvents(body, version)
		if err != nil {
			if matrixerror.From(err) == nil {
				t.Fatalf("not a Matrix error: %v", err)
			}
			return
		}
		for _, e := range events {
			if jsontext.Value(e.Proto.Content).Kind() != '{' {
				t.Fatalf("content %s", e.Proto.Content)
			}
			if _, err := versionContent(version, e.Proto.Content); err != nil {
				t.Fatalf("content %s: %v", e.Proto.Content, err)
			}
		}
	})
}
