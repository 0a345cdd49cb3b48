package pushrules

import (
	"context"
	"fmt"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/gomatrixserverlib"
)

const alice, bob = "@alice:test", "@bob:test"

func testEvent(t testing.TB, typ, sender string, stateKey *string, content string) *gomatrixserverlib.Event {
	t.Helper()
	built, err := (&gomatrixserverlib.EventBuilder{RoomID: "!a:test", Sender: sender, Type: typ, StateKey: stateKey, Content: jsontext.Value(content),
		OriginServerTS: 1, Depth: 1, PrevEvents: []string{"$x"}, AuthEvents: []string{"$x"}}).Build("11")
	if err != nil {
		t.Fatal(err)
	}
	return built
}

func TestConditions(t *testing.T) {
	ev := testEvent(t, "m.room.message", alice, nil, `{"body":"Hello, exciting triple-whammy Bob","msgtype":"m.text","m.mentions":{"user_ids":["@bob:test"],"room":true},"a.b":{"n":3,"z":null}}`)
	in := &Surroundings{
		Members:     func(context.Context) (int64, error) { return 2, nil },
		DisplayName: func(context.Context) (string, error) { return "bob", nil },
		MayNotify: func(_ context.Context, sender, key string) (bool, error) {
			return sender == alice && key == "room", nil
		},
	}
	for text, want := range map[string]bool{
		`{"kind":"event_match","key":"type","pattern":"m.room.message"}`:                               true,
		`{"kind":"event_match","key":"type","pattern":"M.ROOM.*"}`:                                     true,
		`{"kind":"event_match","key":"type","pattern":"m.room"}`:                                       false,
		`{"kind":"event_match","key":"content.body","pattern":"ex*ple"}`:                               true,
		`{"kind":"event_match","key":"content.body","pattern":"hell"}`:                                 false,
		`{"kind":"event_match","key":"content.body","pattern":"HELLO"}`:                                true,
		`{"kind":"event_match","key":"content.body","pattern":"b?b"}`:                                  true,
		`{"kind":"event_match","key":"content.a\\.b.n","pattern":"3"}`:                                 false,
		`{"kind":"event_match","key":"state_key","pattern":"*"}`:                                       false,
		`{"kind":"event_match","key":"state_key","pattern":""}`:                                        false,
		`{"kind":"event_match","key":"content.body","pattern":""}`:                                     false,
		`{"kind":"event_match","key":"type"}`:                                                          false,
		`{"kind":"event_property_is","key":"content.msgtype","value":"m\u002etext"}`:                   true,
		`{"kind":"event_property_is","key":"content.m\\.mentions.room","value":true}`:                  true,
		`{"kind":"event_property_is","key":"content.m\\.mentions.room","value":"true"}`:                false,
		`{"kind":"event_property_is","key":"content.a\\.b.n","value":3}`:                               true,
		`{"kind":"event_property_is","key":"content.a\\.b.z","value":null}`:                            true,
		`{"kind":"event_property_is","key":"content.a\\.b","value":{}}`:                                false,
		`{"kind":"event_property_contains","key":"content.m\\.mentions.user_ids","value":"@bob:test"}`: true,
		`{"kind":"event_property_contains","key":"content.m\\.mentions.user_ids","value":":test"}`:     false,
		`{"kind":"event_property_contains","key":"content.body","value":"Hello"}`:                      false,
		`{"kind":"room_member_count","is":"2"}`:                                                        true, `{"kind":"room_member_count","is":"<3"}`: true, `{"kind":"room_member_count","is":">=3"}`: false,
		`{"kind":"room_member_count","is":"=<3"}`: false, `{"kind":"room_member_count","is":"x"}`: false, `{"kind":"room_member_count"}`: false,
		`{"kind":"contains_display_name"}`:                           true,
		`{"kind":"sender_notification_permission","key":"room"}`:     true,
		`{"kind":"sender_notification_permission","key":"everyone"}`: false,
		`{"kind":"org.example.unknown"}`:                             false,
	} {
		rules := Compile(jsontext.Value(`{"global":{"override":[{"rule_id":"x","conditions":[` + text + `],"actions":["notify"]}]}}`))
		if got, err := rules.Judge(context.Background(), NewSubject(ev), in); err != nil || got.Notify != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

func TestRuleOrder(t *testing.T) {
	const all = `{"global":{"override":[{"rule_id":".m.rule.master","enabled":%v,"conditions":[],"actions":[]}],
		"content":[{"rule_id":"c","pattern":"loud","actions":["notify",{"set_tweak":"highlight"}]},{"rule_id":"q","pattern":"quiet","actions":["dont_notify"]}],
		"room":[{"rule_id":"!other:test","actions":[]}],
		"sender":[{"rule_id":"@bob:test","actions":[]}],
		"underride":[{"rule_id":"u","conditions":[{"kind":"event_match","key":"type","pattern":"m.room.message"}],"actions":["notify",{"set_tweak":"highlight","value":false}]}]}}`
	for _, c := range []struct {
		master            bool
		sender, body      string
		notify, highlight bool
	}{
		{false, alice, "hello", true, false}, {false, alice, "a loud one", true, true}, {false, alice, "quiet", false, false},
		{false, bob, "hello", false, false}, {false, bob, "loud", true, true}, {true, alice, "loud", false, false},
	} {
		rules := Compile(jsontext.Value(fmt.Sprintf(all, c.master)))
		got, err := rules.Judge(context.Background(), NewSubject(testEvent(t, "m.room.message", c.sender, nil, `{"body":"`+c.body+`"}`)), &Surroundings{})
		if err != nil || got.Notify != c.notify || got.Highlight != c.highlight {
			t.Errorf("%+v: %v %v", c, got, err)
		}
	}
}

func FuzzRules(f *testing.F) {
	f.Add(`{"global":{"override":[{"rule_id":"x","conditions":[{"kind":"event_match","key":"content.body","pattern":"a*b?"},{"kind":"room_member_count","is":"<3"}],"actions":["notify",{"set_tweak":"highlight"}]}]}}`)
	ev := testEvent(f, "m.room.message", alice, nil, `{"body":"x","m.mentions":{"user_ids":[]}}`)
	in := &Surroundings{
		Members:      func(context.Context) (int64, error) { return 2, nil },
		DisplayName:  func(context.Context) (string, error) { return "bob", nil },
		MayNotify:    func(context.Context, string, string) (bool, error) { return true, nil },
		Subscription: func(context.Context, string) (Subscription, error) { return Subscribed, nil },
	}
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := Compile(jsontext.Value(text)).Judge(context.Background(), NewSubject(ev), in); err != nil {
			t.Fatal(err)
		}
	})
}

// TestDefaultVerdicts: what users who have changed nothing are told of.
// spec: client-server-api §predefined-rules
func TestDefaultVerdicts(t *testing.T) {
	rules, err := Load(nil, bob, Features{})
	if err != nil {
		t.Fatal(err)
	}
	content, err := rules.Content()
	if err != nil {
		t.Fatal(err)
	}
	another, err := Load(nil, alice, Features{})
	if err != nil {
		t.Fatal(err)
	}
	anothers, err := another.Content()
	if err != nil {
		t.Fatal(err)
	}
	general, shared := CompileFor(anothers, alice)
	if !shared {
		t.Error("the default rules serve only one user")
	}
	for name, set := range map[string]*Ruleset{"own": Compile(content), "shared": general} {
		t.Run(name, func(t *testing.T) { testDefaultVerdicts(t, set) })
	}
}

func testDefaultVerdicts(t *testing.T, set *Ruleset) {
	empty, me := "", bob
	for _, c := range []struct {
		name, typ string
		stateKey  *string
		content   string
		members   int64
		want      string
	}{
		{"message", "m.room.message", nil, `{"body":"x","msgtype":"m.text"}`, 3, `["notify"]`},
		{"one to one", "m.room.message", nil, `{"body":"x"}`, 2, `["notify",{"set_tweak":"sound","value":"default"}]`},
		{"encrypted", "m.room.encrypted", nil, `{}`, 3, `["notify"]`},
		{"encrypted one to one", "m.room.encrypted", nil, `{}`, 2, `["notify",{"set_tweak":"sound","value":"default"}]`},
		{"notice", "m.room.message", nil, `{"body":"x","msgtype":"m.notice"}`, 2, `[]`},
		{"invite", "m.room.member", &me, `{"membership":"invite"}`, 2, `["notify",{"set_tweak":"sound","value":"default"}]`},
		{"another's join", "m.room.member", new(string), `{"membership":"join"}`, 2, `[]`},
		{"mention", "m.room.message", nil, `{"body":"x","m.mentions":{"user_ids":["@bob:test"]}}`, 3, `["notify",{"set_tweak":"sound","value":"default"},{"set_tweak":"highlight"}]`},
		{"another's mention", "m.room.message", nil, `{"body":"@bob:test","m.mentions":{"user_ids":["@carol:test"]}}`, 3, `["notify"]`},
		{"room mention", "m.room.message", nil, `{"body":"x","m.mentions":{"room":true}}`, 3, `["notify",{"set_tweak":"highlight"}]`},
		{"tombstone", "m.room.tombstone", &empty, `{"replacement_room":"!b:test"}`, 3, `["notify",{"set_tweak":"highlight"}]`},
		{"no tombstone", "m.room.tombstone", nil, `{}`, 3, `[]`},
		{"reaction", "m.reaction", nil, `{}`, 2, `[]`},
		{"server ACL", "m.room.server_acl", &empty, `{}`, 2, `[]`},
		{"edit", "m.room.message", nil, `{"body":"* x","m.relates_to":{"rel_type":"m.replace","event_id":"$a"}}`, 2, `[]`},
		{"edit that mentions", "m.room.message", nil, `{"body":"* x","m.mentions":{"user_ids":["@bob:test"]},"m.relates_to":{"rel_type":"m.replace","event_id":"$a"}}`, 2,
			`["notify",{"set_tweak":"sound","value":"default"},{"set_tweak":"highlight"}]`},
		{"call", "m.call.invite", nil, `{}`, 3, `["notify",{"set_tweak":"sound","value":"ring"}]`},
		{"topic", "m.room.topic", &empty, `{"topic":"x"}`, 2, `[]`},
	} {
		in := &Surroundings{UserID: bob, Members: func(context.Context) (int64, error) { return c.members, nil }, MayNotify: func(context.Context, string, string) (bool, error) { return true, nil }}
		v, err := set.Judge(t.Context(), NewSubject(testEvent(t, c.typ, alice, c.stateKey, c.content)), in)
		if err != nil {
			t.Fatal(err)
		}
		got, err := json.Marshal(v.Actions, json.FormatNilSliceAsNull(false))
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %s, %v, not %s", c.name, got, err, c.want)
		}
		if v.Notify != (c.want != "[]") {
			t.Errorf("%s: notify is %v", c.name, v.Notify)
		}
	}
}

// TestNotShared: rules in which a user's ID stands for itself are that user's only.
func TestNotShared(t *testing.T) {
	for _, kinds := range []string{
		`"content":[{"rule_id":"x","pattern":"@alice:test","actions":["notify"]}]`,
		`"sender":[{"rule_id":"@alice:test","actions":["notify"]}]`,
		`"override":[{"rule_id":"x","conditions":[{"kind":"event_match","key":"sender","pattern":"\u0040alice:test"}],"actions":["notify"]}]`,
		`"override":[{"rule_id":"x","enabled":false,"conditions":[{"kind":"event_match","key":"sender","pattern":"@alice:test"}],"actions":["notify"]}]`,
	} {
		if _, shared := CompileFor(jsontext.Value(`{"global":{`+kinds+`}}`), alice); shared {
			t.Errorf("%s: shared", kinds)
		}
	}
}

// TestThreadVerdicts: what is in a thread notifies those who are subscribed to it,
// also in a room that is muted, and nobody who is not, but for mentions; where
// nothing was ever said of threads, all is as elsewhere.
func TestThreadVerdicts(t *testing.T) {
	const inThread = `,"m.relates_to":{"rel_type":"m.thread","event_id":"$root"}`
	const named = `,"m.mentions":{"user_ids":["@bob:test"]}`
	for _, muted := range []bool{false, true} {
		rules, err := Load(nil, bob, Features{ThreadSubscriptions: true})
		if err != nil {
			t.Fatal(err)
		}
		if muted {
			if err := rules.Put("room", "", "", Rule{ID: "!a:test", Actions: []jsontext.Value{}}); err != nil {
				t.Fatal(err)
			}
		}
		content, err := rules.Content()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			more           string
			is             Subscription
			notify, inMute bool
		}{
			{"", Subscribed, true, false}, {"", Unsubscribed, true, false},
			{inThread, NoSubscriptions, true, false}, {inThread, Subscribed, true, true}, {inThread, Unsubscribed, false, false},
			{inThread + named, Unsubscribed, true, true},
			{`,"m.relates_to":{"rel_type":"m.reference","event_id":"$root"}`, Unsubscribed, true, false},
		} {
			in := &Surroundings{Members: func(context.Context) (int64, error) { return 3, nil }, Subscription: func(_ context.Context, root string) (Subscription, error) {
				if root != "$root" {
					t.Errorf("it is asked about the thread of %s", root)
				}
				return c.is, nil
			}}
			want := c.notify
			if muted {
				want = c.inMute
			}
			got, err := Compile(content).Judge(t.Context(), NewSubject(testEvent(t, "m.room.message", alice, nil, `{"body":"x"`+c.more+`}`)), in)
			if err != nil || got.Notify != want {
				t.Errorf("muted %v, %+v: %+v, %v", muted, c, got, err)
			}
		}
	}
}
