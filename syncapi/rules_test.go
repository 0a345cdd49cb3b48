package syncapi

import (
	"context"
	"fmt"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

func TestConditions(t *testing.T) {
	ev := testEvent(t, "m.room.message", alice, `{"body":"Hello, exciting triple-whammy Bob","msgtype":"m.text","m.mentions":{"user_ids":["@bob:test"],"room":true},"a.b":{"n":3,"z":null}}`)
	in := &surroundings{
		members:     func() int64 { return 2 },
		displayName: func(context.Context) (string, error) { return "bob", nil },
		mayNotify: func(_ context.Context, sender, key string) (bool, error) {
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
		rules := parseRules(jsontext.Value(`{"global":{"override":[{"rule_id":"x","conditions":[` + text + `],"actions":["notify"]}]}}`))
		if got, _, err := rules.judge(context.Background(), ev, in); err != nil || got != want {
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
		rules := parseRules(jsontext.Value(fmt.Sprintf(all, c.master)))
		notify, highlight, err := rules.judge(context.Background(), testEvent(t, "m.room.message", c.sender, `{"body":"`+c.body+`"}`), &surroundings{})
		if err != nil || notify != c.notify || highlight != c.highlight {
			t.Errorf("%+v: %v %v %v", c, notify, highlight, err)
		}
	}
}

func FuzzRules(f *testing.F) {
	f.Add(`{"global":{"override":[{"rule_id":"x","conditions":[{"kind":"event_match","key":"content.body","pattern":"a*b?"},{"kind":"room_member_count","is":"<3"}],"actions":["notify",{"set_tweak":"highlight"}]}]}}`)
	ev := testEvent(f, "m.room.message", alice, `{"body":"x","m.mentions":{"user_ids":[]}}`)
	in := &surroundings{
		members:     func() int64 { return 2 },
		displayName: func(context.Context) (string, error) { return "bob", nil },
		mayNotify:   func(context.Context, string, string) (bool, error) { return true, nil },
	}
	f.Fuzz(func(t *testing.T, text string) {
		if _, _, err := parseRules(jsontext.Value(text)).judge(context.Background(), ev, in); err != nil {
			t.Fatal(err)
		}
	})
}
