package clientapi

import (
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	directory "github.com/matrix-org/dendrite/directoryapi/api"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
)

func TestTransactionID(t *testing.T) {
	base := transactionID(&httpapi.Device{UserID: "@a:t", DeviceID: "D"}, "PUT", "/p", "1")
	if len(base) != 32 || base != transactionID(&httpapi.Device{UserID: "@a:t", DeviceID: "D"}, "PUT", "/p", "1") {
		t.Errorf("not stable: %q", base)
	}
	seen := map[string]bool{base: true}
	for _, other := range []string{
		transactionID(&httpapi.Device{UserID: "@b:t", DeviceID: "D"}, "PUT", "/p", "1"),
		transactionID(&httpapi.Device{UserID: "@a:t", DeviceID: "E"}, "PUT", "/p", "1"),
		transactionID(&httpapi.Device{UserID: "@a:t", DeviceID: "D"}, "POST", "/p", "1"),
		transactionID(&httpapi.Device{UserID: "@a:t", DeviceID: "D"}, "PUT", "/q", "1"),
		transactionID(&httpapi.Device{UserID: "@a:t", DeviceID: "D"}, "PUT", "/p", "2"),
		newRequestID(), newRequestID(),
	} {
		if seen[other] {
			t.Errorf("%q twice", other)
		}
		seen[other] = true
	}
}

func TestCanonicalAliases(t *testing.T) {
	tests := []struct {
		content, want, code string
	}{
		{`{}`, "", ""},
		{`{"alias":null,"alt_aliases":[]}`, "", ""},
		{`{"alias":""}`, "", ""},
		{`{"alias":"#a:t","alt_aliases":["#b:t","#a:t","#b:t"]}`, "#a:t #b:t", ""},
		{`{"alt_aliases":["#b:t"]}`, "#b:t", ""},
		{`{"alias":1}`, "", "M_BAD_JSON"},
		{`{"alt_aliases":"#b:t"}`, "", "M_BAD_JSON"},
		{`{"alt_aliases":[null]}`, "", ""},
		{`{"alt_aliases":[` + strings.Repeat(`"#a:t",`, 100) + `"#a:t"]}`, "", "M_INVALID_PARAM"},
	}
	for _, tt := range tests {
		got, err := canonicalAliases(jsontext.Value(tt.content))
		if strings.TrimSpace(strings.Join(got, " ")) != tt.want || (err == nil) != (tt.code == "") || err != nil && !matrixerror.Is(err, tt.code) {
			t.Errorf("%s: %v, %v", tt.content, got, err)
		}
	}
}

func TestWithoutAlias(t *testing.T) {
	tests := []struct {
		content, want string
		changed       bool
	}{
		{`{"alias":"#a:t","alt_aliases":["#b:t"],"x":1}`, `{"alt_aliases":["#b:t"],"x":1}`, true},
		{`{"alias":"#b:t","alt_aliases":["#a:t","#c:t"]}`, `{"alias":"#b:t","alt_aliases":["#c:t"]}`, true},
		{`{"alias":"#b:t"}`, ``, false},
		{`{"alias":1,"alt_aliases":{}}`, ``, false},
		{`[]`, ``, false},
	}
	for _, tt := range tests {
		got, changed := withoutAlias(jsontext.Value(tt.content), "#a:t")
		if string(got) != tt.want || changed != tt.changed {
			t.Errorf("%s: %s, %v", tt.content, got, changed)
		}
	}
	if _, changed := withoutAlias(nil, "#a:t"); changed {
		t.Error("nothing was changed")
	}
}

func FuzzCanonicalAlias(f *testing.F) {
	f.Add(`{"alias":"#a:t","alt_aliases":["#b:t"]}`)
	f.Add(`{"alt_aliases":[null,1]}`)
	f.Fuzz(func(t *testing.T, content string) {
		if !jsontext.Value(content).IsValid() {
			return
		}
		all, err := canonicalAliases(jsontext.Value(content))
		if err != nil && matrixerror.From(err) == nil {
			t.Fatal(err)
		}
		for _, alias := range all {
			rest, changed := withoutAlias(jsontext.Value(content), alias)
			if !changed {
				continue
			}
			if left, err := canonicalAliases(rest); err == nil {
				for _, l := range left {
					if l == alias {
						t.Fatalf("%s is still in %s", alias, rest)
					}
				}
			}
		}
	})
}

func TestSplitRedacts(t *testing.T) {
	tests := []struct {
		content, rest, redacts, code string
	}{
		{`{"reason":"r"}`, `{"reason":"r"}`, "", ""},
		{`{"redacts":"$e","reason":"r"}`, `{"reason":"r"}`, "$e", ""},
		{`{"redacts":1}`, "", "", "M_BAD_JSON"},
	}
	for _, tt := range tests {
		rest, redacts, err := splitRedacts(jsontext.Value(tt.content))
		if string(rest) != tt.rest || redacts != tt.redacts || (err == nil) != (tt.code == "") {
			t.Errorf("%s: %s, %s, %v", tt.content, rest, redacts, err)
		}
	}
}

// builtEvent makes an event of a room that is upgraded.
func builtEvent(t *testing.T, v gomatrixserverlib.RoomVersion, typ, sender, content string) *gomatrixserverlib.Event {
	t.Helper()
	key := ""
	b := gomatrixserverlib.EventBuilder{RoomID: "!old:test", Sender: sender, Type: typ, StateKey: &key, Content: jsontext.Value(content), OriginServerTS: 1, Depth: 1}
	if v.Rules().RoomIDFromCreate && typ == "m.room.create" {
		b.RoomID = ""
	} else if v.Rules().RoomIDFromCreate {
		b.RoomID = "!" + strings.Repeat("a", 43)
	}
	if v.Rules().GivenEventIDs() {
		b.EventID = "$x:test"
	}
	e, err := b.Build(v)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestUpgradedLevels(t *testing.T) {
	tests := []struct {
		name, from, to, levels string
		creators               []string
		first, last            string // what the users have; last "" for none
		tombstone              float64
	}{
		{"same power", "10", "11", `{"users":{"@alice:test":100}}`, nil, `{"@alice:test":100}`, "", 0},
		{"less power", "10", "11", `{"users":{"@alice:test":60,"@bob:test":120}}`, nil, `{"@alice:test":120,"@bob:test":120}`, `{"@alice:test":60,"@bob:test":120}`, 0},
		{"strings", "9", "10", `{"users":{"@alice:test":"100","@bob:test":" 50 "},"ban":"60"}`, nil, `{"@alice:test":100,"@bob:test":50}`, "", 0},
		{"to creators", "11", "12", `{"users":{"@alice:test":100,"@bob:test":100,"@carol:test":100}}`, []string{"@carol:test"}, `{"@bob:test":100}`, "", 150},
		{"high default", "11", "12", `{"users":{},"state_default":500}`, nil, `{}`, "", 501},
		{"from creators", "12", "11", `{"users":{"@bob:test":50}}`, nil, `{"@alice:test":100,"@bob:test":50}`, "", 0},
		{"none", "11", "12", ``, nil, `{}`, "", 150},
	}
	for _, tt := range tests {
		from := gomatrixserverlib.RoomVersion(tt.from)
		old := &oldRoom{version: from, create: builtEvent(t, from, "m.room.create", testCreator, `{"creator":"@alice:test"}`)}
		if tt.levels != "" {
			old.levels = builtEvent(t, from, "m.room.power_levels", testCreator, tt.levels)
		}
		first, last, err := upgradedLevels(&directory.Upgrade{UserID: testCreator, Version: tt.to, Creators: tt.creators}, old)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if got := usersOf(t, first); got != tt.first {
			t.Errorf("%s: first %s", tt.name, got)
		}
		if got := usersOf(t, last); got != tt.last {
			t.Errorf("%s: last %s", tt.name, got)
		}
		if _, err := versionContent(gomatrixserverlib.RoomVersion(tt.to), first); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		var content struct {
			Events map[string]float64 `json:"events"`
		}
		if err := json.Unmarshal(first, &content); err != nil || tt.tombstone != 0 && content.Events[typeTombstone] != tt.tombstone {
			t.Errorf("%s: %s, %v", tt.name, first, err)
		}
	}
}

func usersOf(t *testing.T, levels jsontext.Value) string {
	t.Helper()
	if levels == nil {
		return ""
	}
	var content struct {
		Users jsontext.Value `json:"users"`
	}
	if err := json.Unmarshal(levels, &content); err != nil {
		t.Fatal(err)
	}
	return string(content.Users)
}

func TestJoinRulesFor(t *testing.T) {
	tests := []struct{ version, content, want string }{
		{"12", `{"join_rule":"knock_restricted","allow":[]}`, `{"join_rule":"knock_restricted","allow":[]}`},
		{"8", `{"join_rule":"knock_restricted"}`, `{"join_rule":"invite"}`},
		{"6", `{"join_rule":"knock"}`, `{"join_rule":"invite"}`},
		{"6", `{"join_rule":"public"}`, `{"join_rule":"public"}`},
		{"6", `{"join_rule":3}`, `{"join_rule":"invite"}`},
	}
	for _, tt := range tests {
		if got := joinRulesFor(gomatrixserverlib.RoomVersion(tt.version), jsontext.Value(tt.content)); string(got) != tt.want {
			t.Errorf("%+v: %s", tt, got)
		}
	}
}

func TestDirectWith(t *testing.T) {
	tests := []struct {
		direct, want string
		changed      bool
	}{
		{`{"@b:test":["!old:t"],"@c:test":["!x:t"]}`, `{"@b:test":["!old:t","!new:t"],"@c:test":["!x:t"]}`, true},
		{`{"@b:test":["!old:t","!new:t"]}`, ``, false},
		{`{"@b:test":"!old:t"}`, ``, false},
		{`[]`, ``, false},
	}
	for _, tt := range tests {
		got, changed := directWith(jsontext.Value(tt.direct), "!old:t", "!new:t")
		if string(got) != tt.want || changed != tt.changed {
			t.Errorf("%s: %s, %v", tt.direct, got, changed)
		}
	}
	for create, want := range map[string]string{
		`{"predecessor":{"room_id":"!old:t"}}`: "!old:t", `{}`: "", `{"predecessor":1}`: "", `{"predecessor":{"room_id":"x"}}`: "",
	} {
		if got := predecessor(jsontext.Value(create)); got != want {
			t.Errorf("%s: %q", create, got)
		}
	}
}
