package gomatrixserverlib

import (
	"errors"
	"slices"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

func TestAuthKeys(t *testing.T) {
	const create, levels, rules, sender = "m.room.create|", "m.room.power_levels|", "m.room.join_rules|", "m.room.member|@u:t"
	cases := []struct {
		typ, key, content string
		want              []string // without create
		restricted        []string // from version 8 on, if it differs
	}{
		{"m.room.message", "-", `{}`, []string{levels, sender}, nil},
		{"m.room.topic", "", `{}`, []string{levels, sender}, nil},
		{"m.room.member", "@u:t", `{"membership":"join"}`, []string{levels, sender, rules}, nil},
		{"m.room.member", "@u:t", `{"membership":"knock"}`, []string{levels, sender, rules}, nil},
		{"m.room.member", "@u:t", `{"membership":"leave"}`, []string{levels, sender}, nil},
		{"m.room.member", "@v:t", `{"membership":"ban"}`, []string{levels, sender, "m.room.member|@v:t"}, nil},
		{"m.room.member", "@v:t", `{"membership":"invite"}`, []string{levels, sender, "m.room.member|@v:t", rules}, nil},
		{"m.room.member", "@v:t", `{"membership":"invite","third_party_invite":{"signed":{"token":"tok"}}}`,
			[]string{levels, sender, "m.room.member|@v:t", rules, "m.room.third_party_invite|tok"}, nil},
		{"m.room.member", "@v:t", `{"membership":"invite","third_party_invite":{"signed":{"token":5}}}`,
			[]string{levels, sender, "m.room.member|@v:t", rules}, nil},
		{"m.room.member", "@v:t", `{"membership":"ban","third_party_invite":{"signed":{"token":"tok"}}}`,
			[]string{levels, sender, "m.room.member|@v:t"}, nil},
		{"m.room.member", "@u:t", `{"membership":"join","join_authorised_via_users_server":"@w:t"}`,
			[]string{levels, sender, rules}, []string{levels, sender, rules, "m.room.member|@w:t"}},
		{"m.room.member", "@u:t", `{"membership":"join","join_authorised_via_users_server":"@u:t"}`, []string{levels, sender, rules}, nil},
		{"m.room.member", "@u:t", `{"membership":"invite","join_authorised_via_users_server":"@w:t"}`, []string{levels, sender, rules}, nil},
		{"m.room.member", "@u:t", `{"membership":["join"]}`, []string{levels, sender}, nil},
		{"m.room.member", "-", `[]`, []string{levels, sender}, nil},
	}
	for _, v := range SupportedRoomVersions() {
		for _, c := range cases {
			key := &c.key
			if c.key == "-" {
				key = nil
			}
			got, err := AuthKeys(v, c.typ, "@u:t", key, jsontext.Value(c.content))
			if err != nil {
				t.Fatal(err)
			}
			want := c.want
			if c.restricted != nil && v.Rules().RestrictedAllowed {
				want = c.restricted
			}
			if v != RoomVersionV12 {
				want = append([]string{create}, want...)
			}
			var texts []string
			for _, k := range got {
				texts = append(texts, k.Type+"|"+k.StateKey)
			}
			if !slices.Equal(texts, want) {
				t.Errorf("version %s, %s %s: got %q, want %q", v, c.typ, c.content, texts, want)
			}
		}
		if keys, err := AuthKeys(v, "m.room.create", "@u:t", ptr(""), jsontext.Value(`{}`)); err != nil || keys != nil {
			t.Errorf("create: %v, %v", keys, err)
		}
	}
	if _, err := AuthKeys("13", "m.room.create", "@u:t", nil, nil); !errors.Is(err, ErrUnsupportedRoomVersion) {
		t.Errorf("unknown version: %v", err)
	}
}

func TestCheckAuthEvents(t *testing.T) {
	for _, v := range SupportedRoomVersions() {
		t.Run("v"+string(v), func(t *testing.T) {
			r := newAuthRoom(t, v, "")
			v12 := v == RoomVersionV12
			none := []*Event{}
			if !v12 {
				none = []*Event{r.create}
			}
			levels := r.line(`m.room.power_levels @u:t ""`)
			join := r.line(member_("@u:t", "@u:t", "join"))
			others := newAuthRoom(t, v, `,"x":2`)
			others.now = 5000
			if !v12 {
				others.create = nil // another room ID
			}
			b := others.builder("m.room.power_levels", "@u:t", ptr(""), "{}", nil, none)
			if !v12 {
				b.RoomID = "!other:s"
			}
			foreign := mustBuild(t, v, b)
			notState := r.line(`m.room.power_levels @u:t -`)
			rejected := r.line(`m.room.power_levels @u:t "" {"ban":1}`)
			with := func(events ...*Event) []*Event { return append(slices.Clone(none), events...) }
			for _, c := range []struct {
				name string
				auth []*Event
				want string
			}{
				{"good", with(levels, join), "-"},
				{"few", with(), "-"},
				{"same twice", with(levels, levels), "1:2.1 12:3.1"},
				{"two of a key", with(levels, rejected), "1:2.1 12:3.1"},
				{"topic", with(r.line(`m.room.topic @u:t ""`)), "1:2.2 12:3.2"},
				{"member who has no part", with(r.line(member_("@v:t", "@v:t", "join"))), "1:2.2 12:3.2"},
				{"join rules", with(r.line(rules_("public"))), "1:2.2 12:3.2"},
				{"not state", with(notState), "1:2.2 12:3.2"},
				{"rejected", with(rejected), "1:2.3 12:3.3"},
				{"no create", []*Event{join}, "1:2.4 12:-"},
				{"create", []*Event{r.create, join}, "1:- 12:3.2"},
				{"other room", with(foreign), "1:2.5 12:3.4"},
			} {
				e := r.add("m.room.message", "@u:t", nil, "{}", c.auth, []*Event{join})
				backwards := slices.Clone(c.auth)
				slices.Reverse(backwards)
				for _, auth := range [][]*Event{c.auth, backwards} {
					err := CheckAuthEvents(e, auth, func(id string) bool { return id == rejected.EventID() })
					t.Run(c.name, func(t *testing.T) { requireRule(t, err, ruleFor(v, c.want)) })
				}
			}
			e := r.add("m.room.message", "@u:t", nil, "{}", with(levels, join), []*Event{join})
			var missing *MissingEventsError
			if err := CheckAuthEvents(e, with(levels), nil); !errors.As(err, &missing) || !slices.Equal(missing.EventIDs, []string{join.EventID()}) {
				t.Errorf("missing: %v", err)
			}
			if err := CheckAuthEvents(r.create, nil, nil); err != nil {
				t.Errorf("create: %v", err)
			}
		})
	}
}

// cachedState counts how often the parsed power levels are asked for.
type cachedState struct {
	StateEvents
	levels *PowerLevels
	asked  int
}

func (c *cachedState) PowerLevels() *PowerLevels { c.asked++; return c.levels }

func TestAuthoriseWithParsedPowerLevels(t *testing.T) {
	for _, v := range SupportedRoomVersions() {
		r := newAuthRoom(t, v, "")
		state := &cachedState{StateEvents: r.state(baseState()...)}
		current := state.StateEvent("m.room.power_levels", "")
		other := r.line(`m.room.power_levels @a:s "" {"users":{"@u:t":100}}`)
		topic := r.line(`m.room.topic @u:t ""`)
		for _, event := range []*Event{nil, current, other} {
			state.levels = nil
			if event != nil {
				var err error
				if state.levels, err = NewPowerLevels(v, r.create, event); err != nil {
					t.Fatal(err)
				}
			}
			requireRule(t, Authorise(topic, state), ruleFor(v, "1:8 6:7 12:8"))
		}
		if state.asked != 3 {
			t.Errorf("asked %d times", state.asked)
		}
	}
}
