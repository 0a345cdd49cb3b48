package gomatrixserverlib

import (
	"strconv"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

func TestRedactMembers(t *testing.T) {
	all := `{"auth_events":[],"content":{},"depth":1,"event_id":"$x:d","hashes":{"sha256":"x"},"membership":"join",` +
		`"origin":"d","origin_server_ts":2,"prev_events":[],"prev_state":[],"redacts":"$y","replaces_state":"$z","room_id":"!r:d",` +
		`"sender":"@a:d","signatures":{"d":{}},"state_key":"","type":"m.room.topic","unsigned":{"age":1},"zzz":{"content":1}}`
	before := `{"auth_events":[],"content":{},"depth":1,"event_id":"$x:d","hashes":{"sha256":"x"},"membership":"join",` +
		`"origin":"d","origin_server_ts":2,"prev_events":[],"prev_state":[],"room_id":"!r:d",` +
		`"sender":"@a:d","signatures":{"d":{}},"state_key":"","type":"m.room.topic"}`
	updated := `{"auth_events":[],"content":{},"depth":1,"event_id":"$x:d","hashes":{"sha256":"x"},` +
		`"origin_server_ts":2,"prev_events":[],"room_id":"!r:d",` +
		`"sender":"@a:d","signatures":{"d":{}},"state_key":"","type":"m.room.topic"}`
	for _, v := range SupportedRoomVersions() {
		e, err := ParseStoredEvent([]byte(all), v, "$x")
		if err != nil {
			t.Fatal(err)
		}
		redacted, err := e.Redact()
		if err != nil {
			t.Fatal(err)
		}
		want := before
		if v == RoomVersionV11 || v == RoomVersionV12 {
			want = updated
		}
		if string(redacted.JSON()) != want || !redacted.Redacted() {
			t.Errorf("v%s: got %s\nwant %s", v, redacted.JSON(), want)
		}
	}
}

// TestRedactContent has, for each type, what the content becomes from which
// room version on.
func TestRedactContent(t *testing.T) {
	type from map[int]string
	tests := []struct {
		typ, content string
		want         from
	}{
		{"m.room.message", `{"body":"x","membership":"join"}`, from{1: `{}`}},
		{"m.room.member", `{"displayname":"A","join_authorised_via_users_server":"@a:d","membership":"join","third_party_invite":{"display_name":"x","signed":{"mxid":"@a:d","token":"t"}}}`,
			from{1: `{"membership":"join"}`, 9: `{"join_authorised_via_users_server":"@a:d","membership":"join"}`,
				11: `{"join_authorised_via_users_server":"@a:d","membership":"join","third_party_invite":{"signed":{"mxid":"@a:d","token":"t"}}}`}},
		{"m.room.member", `{"membership":"join","third_party_invite":{"display_name":"x"}}`,
			from{1: `{"membership":"join"}`, 11: `{"membership":"join","third_party_invite":{}}`}},
		{"m.room.member", `{"membership":"join","third_party_invite":"x"}`, from{1: `{"membership":"join"}`}},
		{"m.room.create", `{"creator":"@a:d","m.federate":false,"room_version":"x"}`,
			from{1: `{"creator":"@a:d"}`, 11: `{"creator":"@a:d","m.federate":false,"room_version":"x"}`}},
		{"m.room.join_rules", `{"allow":[{"x":1}],"join_rule":"restricted","z":1}`,
			from{1: `{"join_rule":"restricted"}`, 8: `{"allow":[{"x":1}],"join_rule":"restricted"}`}},
		{"m.room.power_levels", `{"ban":1,"events":{"a":2},"events_default":3,"invite":4,"kick":5,"notifications":{"room":6},"redact":7,"state_default":8,"users":{"@a:d":9},"users_default":10}`,
			from{1: `{"ban":1,"events":{"a":2},"events_default":3,"kick":5,"redact":7,"state_default":8,"users":{"@a:d":9},"users_default":10}`,
				11: `{"ban":1,"events":{"a":2},"events_default":3,"invite":4,"kick":5,"redact":7,"state_default":8,"users":{"@a:d":9},"users_default":10}`}},
		{"m.room.aliases", `{"aliases":["#a:d"],"x":1}`, from{1: `{"aliases":["#a:d"]}`, 6: `{}`}},
		{"m.room.history_visibility", `{"history_visibility":"shared","x":1}`, from{1: `{"history_visibility":"shared"}`}},
		{"m.room.redaction", `{"reason":"x","redacts":"$y"}`, from{1: `{}`, 11: `{"redacts":"$y"}`}},
		{"m.room.encryption", `{"algorithm":"x"}`, from{1: `{}`}},
	}
	for _, test := range tests {
		want := ""
		for n, v := range SupportedRoomVersions() {
			if w, ok := test.want[n+1]; ok {
				want = w
			}
			e, err := ParseStoredEvent([]byte(`{"content":`+test.content+`,"type":`+strconv.Quote(test.typ)+`}`), v, "$x")
			if err != nil {
				t.Fatal(err)
			}
			redacted, err := e.Redact()
			if err != nil {
				t.Fatal(err)
			}
			if got := string(redacted.Content()); got != want {
				t.Errorf("v%s %s: got %s, want %s", v, test.typ, got, want)
			}
			again, err := redacted.Redact()
			if err != nil || string(again.JSON()) != string(redacted.JSON()) {
				t.Errorf("v%s %s: redacting again gave %s, %v", v, test.typ, again.JSON(), err)
			}
		}
	}
}

func TestRedactKeepsIDAndSignatures(t *testing.T) {
	key := testKey(t)
	for _, v := range SupportedRoomVersions() {
		b := testBuilder(v)
		b.Type, b.StateKey = "m.room.member", &b.Sender
		b.Content = jsontext.Value(`{"membership":"join","displayname":"Alice","third_party_invite":{"signed":{},"x":1}}`)
		e, err := mustBuild(t, v, b).Sign("domain", key)
		if err != nil {
			t.Fatal(err)
		}
		redacted, err := e.Redact()
		if err != nil {
			t.Fatal(err)
		}
		if redacted.ReferenceHash() != e.ReferenceHash() || redacted.EventID() != e.EventID() || redacted.Membership() != "join" {
			t.Errorf("v%s: redaction changed the event's identity", v)
		}
		if err := redacted.VerifySignature("domain", key.ID, key.Public()); err != nil {
			t.Errorf("v%s: %v", v, err)
		}
		received, err := ParseEvent(redacted.JSON(), v)
		if err != nil || received.EventID() != e.EventID() || !received.Redacted() {
			t.Errorf("v%s: received: %v", v, err)
		}
	}
}
