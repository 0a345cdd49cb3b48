package gomatrixserverlib

import (
	"errors"
	"math"
	"testing"
)

// Changes are by m (50) of a room where he may send m.room.power_levels.
func TestAuthorisePowerLevelChanges(t *testing.T) {
	before := func(rest string) []string {
		return []string{`m.room.power_levels @a:s "" {"users":{"@a:s":100,"@m:t":50,"@u:t":10,"@v:t":50}` + rest + `}`}
	}
	by := func(content string) string { return `m.room.power_levels @m:t "" ` + content }
	const (
		users      = `"users":{"@a:s":100,"@m:t":50,"@u:t":10,"@v:t":50}`
		current    = "1:10.3.1 6:9.3.1 10:9.5.1 12:10.6.1"
		changed    = "1:10.3.2 6:9.3.2 10:9.5.2 12:10.6.2"
		eventWas   = "1:10.4.1 6:9.4.1 10:9.6.1 12:10.7.1"
		eventIs    = "1:10.5.1 6:9.5.1 10:9.7.1 12:10.8.1"
		userWas    = "1:10.6.1 6:9.6.1 10:9.8.1 12:10.9.1"
		userIs     = "1:10.7.1 6:9.7.1 10:9.9.1 12:10.10.1"
		notifyWas  = "1:- 6:9.4.1 10:9.6.1 12:10.7.1"
		notifyIs   = "1:- 6:9.5.1 10:9.7.1 12:10.8.1"
		unreadable = "1:10.3.2 6:9.3.2 10:9.1 12:10.1"
	)
	cases := []authCase{
		{"nothing", by(`{` + users + `}`), before(``), "-"},
		{"same number as text", by(`{"ban":"50",` + users + `}`), before(`,"ban":50`), "1:- 10:9.1 12:10.1"},
		{"events entry lowered", by(`{"events":{"x":1},` + users + `}`), before(`,"events":{"x":50}`), "-"},
		{"events entry raised too far", by(`{"events":{"x":51},` + users + `}`), before(`,"events":{"x":50}`), eventIs},
		{"events entry added too high", by(`{"events":{"y":51},` + users + `}`), before(``), eventIs},
		{"events entry was too high", by(`{"events":{"x":50},` + users + `}`), before(`,"events":{"x":51}`), eventWas},
		{"events entry removed", by(`{"events":{},` + users + `}`), before(`,"events":{"x":51}`), eventWas},
		{"events removed", by(`{` + users + `}`), before(`,"events":{"x":51}`), eventWas},
		{"events stay", by(`{"events":{"x":51},` + users + `}`), before(`,"events":{"x":51}`), "-"},
		{"notifications raised", by(`{"notifications":{"room":51},` + users + `}`), before(``), notifyIs},
		{"notifications removed", by(`{` + users + `}`), before(`,"notifications":{"room":51}`), notifyWas},
		{"notifications lowered", by(`{"notifications":{"room":1},` + users + `}`), before(`,"notifications":{"room":50}`), "-"},
		{"user raised", by(`{"users":{"@a:s":100,"@m:t":50,"@u:t":50,"@v:t":50}}`), before(``), "-"},
		{"user raised too far", by(`{"users":{"@a:s":100,"@m:t":50,"@u:t":51,"@v:t":50}}`), before(``), userIs},
		{"user added too high", by(`{"users":{"@a:s":100,"@m:t":50,"@u:t":10,"@v:t":50,"@w:t":51}}`), before(``), userIs},
		{"user removed", by(`{"users":{"@a:s":100,"@m:t":50,"@v:t":50}}`), before(``), "-"},
		{"equal removed", by(`{"users":{"@a:s":100,"@m:t":50,"@u:t":10}}`), before(``), userWas},
		{"equal lowered", by(`{"users":{"@a:s":100,"@m:t":50,"@u:t":10,"@v:t":49}}`), before(``), userWas},
		{"stronger removed", by(`{"users":{"@m:t":50,"@u:t":10,"@v:t":50}}`), before(``), userWas},
		{"oneself lowered", by(`{"users":{"@a:s":100,"@m:t":49,"@u:t":10,"@v:t":50}}`), before(``), "-"},
		{"oneself raised", by(`{"users":{"@a:s":100,"@m:t":51,"@u:t":10,"@v:t":50}}`), before(``), userIs},
		{"users gone", by(`{}`), before(``), userWas},
		{"first of the room", `m.room.power_levels @c:s "" {"ban":1000,"users":{"@c:t":1000}}`, []string{"without m.room.power_levels "}, "-"},
		{"first, events no object", `m.room.power_levels @c:s "" {"events":[]}`, []string{"without m.room.power_levels "}, "1:- 10:9.2 12:10.2"},
		{"events of texts", by(`{"events":{"x":"1"},` + users + `}`), before(``), "1:- 10:9.2 12:10.2"},
		{"notifications null", by(`{"notifications":null,` + users + `}`), before(``), "1:- 10:9.2 12:10.2"},
		{"notifications of objects", by(`{"notifications":{"room":{}},` + users + `}`), before(``), "1:- 6:9.5.1 10:9.2 12:10.2"},
		{"events of lists", by(`{"events":{"x":[1]},` + users + `}`), before(``), "1:10.5.1 6:9.5.1 10:9.2 12:10.2"},
		{"users no object", by(`{"users":[]}`), before(``), "1:10.1 6:9.1 10:9.3 12:10.3"},
		{"users null", by(`{"users":null}`), before(``), "1:10.1 6:9.1 10:9.3 12:10.3"},
		{"user ID bad", by(`{"users":{"u":1}}`), before(``), "1:10.1 6:9.1 10:9.3 12:10.3"},
		{"user's level bad", by(`{"users":{"@u:t":true}}`), before(``), "1:10.1 6:9.1 10:9.3 12:10.3"},
		{"user's level text", by(`{"users":{"@a:s":"100","@m:t":" +50 ","@u:t":"0010","@v:t":50}}`), before(``), "1:- 10:9.3 12:10.3"},
		{"user's level no text of a number", by(`{"users":{"@u:t":"1.0"}}`), before(``), "1:10.1 6:9.1 10:9.3 12:10.3"},
		{"creator among users", `m.room.power_levels @a:s "" {"users":{"@a:s":100,"@m:t":50,"@u:t":10,"@v:t":50,"@c:s":5}}`, before(``), "1:- 12:10.4"},
		{"creator changes all", `m.room.power_levels @c:s "" {"ban":9007199254740991,"users":{"@z:t":9007199254740991}}`, before(``), "1:8 6:7 12:-"},
	}
	for i := range numLevels {
		name := `"` + levelName(i) + `":`
		if i == levelStateDefault || i == levelUsersDefault {
			continue // decide about the sender too
		}
		cases = append(cases,
			authCase{name + "added", by(`{` + name + `50,` + users + `}`), before(``), "-"},
			authCase{name + "added too high", by(`{` + name + `51,` + users + `}`), before(``), changed},
			authCase{name + "too high", by(`{` + name + `51,` + users + `}`), before(`,` + name + `50`), changed},
			authCase{name + "was too high", by(`{` + name + `50,` + users + `}`), before(`,` + name + `51`), current},
			authCase{name + "removed", by(`{` + users + `}`), before(`,` + name + `51`), current},
			authCase{name + "stays", by(`{` + name + `51,` + users + `}`), before(`,` + name + `51`), "-"},
			authCase{name + "unreadable", by(`{` + name + `[],` + users + `}`), before(``), unreadable},
		)
	}
	runAuthCases(t, cases)
}

func TestAuthorisePowerLevelsAdditionalCreators(t *testing.T) {
	r := newAuthRoom(t, RoomVersionV12, `,"additional_creators":["@d:t"]`)
	state := r.state(baseState()...)
	requireRule(t, Authorise(r.line(`m.room.power_levels @c:s "" {"users":{"@d:t":1}}`), state), "10.4")
	requireRule(t, Authorise(r.line(member_("@d:t", "@d:t", "leave")), state), "5.5.1")
	for _, e := range []*Event{r.line(member_("@d:t", "@d:t", "join"))} {
		state[e.Key()] = e
	}
	requireRule(t, Authorise(r.line(`m.room.power_levels @d:t "" {"ban":101}`), state), "-")
	requireRule(t, Authorise(r.line(member_("@c:s", "@d:t", "ban")), state), "5.6.3")
}

// What room versions 1 to 5 take for a level, through events as they stand.
func TestFloatLevels(t *testing.T) {
	cases := []struct {
		raw  string
		want level
	}{
		{`50.57`, level{50, levelOK}}, {`-0.9`, level{0, levelOK}}, {`5.114698E4`, level{51146, levelOK}},
		{`1e3`, level{1000, levelOK}}, {`1e300`, level{math.MaxInt64, levelOK}}, {`-1e300`, level{math.MinInt64, levelOK}},
		{`9223372036854775808`, level{math.MaxInt64, levelOK}}, {`1e999`, level{0, levelOutOfRange}},
		{`true`, level{0, levelMalformed}}, {`null`, level{0, levelMalformed}}, {`{}`, level{0, levelMalformed}},
	}
	for _, v := range SupportedRoomVersions() {
		for _, c := range cases {
			want := c.want
			if v.Rules().StrictJSON {
				want = level{kind: levelMalformed}
			}
			if got := parseLevel([]byte(c.raw), v.Rules()); got != want {
				t.Errorf("version %s: %s is %v, want %v", v, c.raw, got, want)
			}
		}
	}
	r := newAuthRoom(t, RoomVersionV1, "")
	json := []byte(`{"content":{"ban":1e999},"event_id":"$p:s","room_id":"!room:s","sender":"@c:s","state_key":"","type":"m.room.power_levels"}`)
	e, err := ParseStoredEvent(json, RoomVersionV1, "")
	if err != nil {
		t.Fatal(err)
	}
	requireRule(t, Authorise(e, r.state(member_("@c:s", "@c:s", "join"))), "10.1")
}

func TestStringLevels(t *testing.T) {
	cases := []struct {
		text string
		want level
	}{
		{`100`, level{100, levelOK}}, {`000100`, level{100, levelOK}}, {`+100`, level{100, levelOK}}, {`-100`, level{-100, levelOK}},
		{" \t\n 00100  ", level{100, levelOK}}, {` +100 `, level{100, levelOK}}, {"\u00a0-7\u2003", level{-7, levelOK}}, {`-0`, level{0, levelOK}},
		{`99999999999999999999999`, level{math.MaxInt64, levelOK}}, {`-99999999999999999999999`, level{math.MinInt64, levelOK}},
		{``, level{kind: levelMalformed}}, {` `, level{kind: levelMalformed}}, {`+`, level{kind: levelMalformed}}, {`- 1`, level{kind: levelMalformed}},
		{`+-1`, level{kind: levelMalformed}}, {`--1`, level{kind: levelMalformed}}, {`1.0`, level{kind: levelMalformed}}, {`1e2`, level{kind: levelMalformed}},
		{`1_0`, level{kind: levelMalformed}}, {`0x1`, level{kind: levelMalformed}}, {`١`, level{kind: levelMalformed}}, {`1 0`, level{kind: levelMalformed}},
	}
	for _, v := range SupportedRoomVersions() {
		for _, c := range cases {
			want := c.want
			if v.Rules().IntegerPowerLevels {
				want = level{kind: levelMalformed}
			}
			raw := appendString(nil, c.text)
			if got := parseLevel(raw, v.Rules()); got != want {
				t.Errorf("version %s: %s is %v, want %v", v, raw, got, want)
			}
		}
	}
}

func TestPowerLevelDefaults(t *testing.T) {
	for _, v := range SupportedRoomVersions() {
		r := newAuthRoom(t, v, `,"additional_creators":["@d:t","@d:t",7,"@c:s"]`)
		none, err := NewPowerLevels(v, r.create, nil)
		if err != nil {
			t.Fatal(err)
		}
		empty, err := NewPowerLevels(v, r.create, r.line(`m.room.power_levels @c:s "" {}`))
		if err != nil {
			t.Fatal(err)
		}
		odd, err := NewPowerLevels(v, r.create, r.line(`m.room.power_levels @c:s "" {"ban":[],"invite":{},"kick":null,"redact":"x","state_default":"","events_default":"-","users_default":false,"events":{"m.x":[]},"users":{"@u:t":[]},"notifications":{"room":{}}}`))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range []*PowerLevels{none, empty, odd} {
			got := [...]int64{p.Ban(), p.Kick(), p.Redact(), p.Invite(), p.StateDefault(), p.EventsDefault(), p.UsersDefault(),
				p.EventLevel("m.x", true), p.EventLevel("m.x", false), p.Notification("room"), p.UserLevel("@u:t")}
			if want := [...]int64{50, 50, 50, 0, 50, 0, 0, 50, 0, 50, 0}; got != want {
				t.Errorf("version %s: got %v, want %v", v, got, want)
			}
		}
		creator, additional := int64(100), int64(0)
		if v.Rules().CreatorsPrivileged {
			creator, additional = math.MaxInt64, math.MaxInt64
		}
		if none.UserLevel("@c:s") != creator || none.UserLevel("@d:t") != additional {
			t.Errorf("version %s: creators have %d and %d", v, none.UserLevel("@c:s"), none.UserLevel("@d:t"))
		}
		if creator == 100 {
			creator = 0
		}
		if empty.UserLevel("@c:s") != creator {
			t.Errorf("version %s: with power levels the creator has %d", v, empty.UserLevel("@c:s"))
		}
		if _, err := NewPowerLevels(v, empty.Event(), nil); !errors.Is(err, ErrBadEvent) {
			t.Errorf("create of another type: %v", err)
		}
		if _, err := NewPowerLevels(v, r.create, r.create); !errors.Is(err, ErrBadEvent) {
			t.Errorf("power levels of another type: %v", err)
		}
	}
	if _, err := NewPowerLevels("13", nil, nil); !errors.Is(err, ErrUnsupportedRoomVersion) {
		t.Errorf("unknown version: %v", err)
	}
}

func TestRedactionApplies(t *testing.T) {
	for _, v := range SupportedRoomVersions() {
		r := newAuthRoom(t, v, "")
		levels, err := NewPowerLevels(v, r.create, r.line(`m.room.power_levels @a:s "" {"users":{"@a:s":50}}`))
		if err != nil {
			t.Fatal(err)
		}
		original := r.line(`m.room.message @u:t - {}`)
		redaction := func(sender, redacts string) *Event {
			b := r.builder("m.room.redaction", sender, nil, "{}", nil, []*Event{r.create})
			b.Redacts = redacts
			return mustBuild(t, v, b)
		}
		early := v.Rules().RedactionAuth
		for sender, want := range map[string]bool{"@u:t": true, "@v:t": true, "@a:s": true, "@b:s": early} {
			if got := RedactionApplies(redaction(sender, original.EventID()), original, levels); got != want {
				t.Errorf("version %s, %s: %v", v, sender, got)
			}
		}
		if RedactionApplies(redaction("@a:s", r.create.EventID()), original, levels) {
			t.Errorf("version %s: redacts another event", v)
		}
	}
}
