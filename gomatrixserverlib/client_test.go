package gomatrixserverlib

import (
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

func TestAppendClient(t *testing.T) {
	id := "$" + someHash
	message := `{"auth_events":[],"content":{"body":"\"x\""},"depth":1,"hashes":{"sha256":"x"},"origin_server_ts":5,"prev_events":[],` +
		`"room_id":"!r:d","sender":"@a:d","signatures":{},"type":"m.room.message","unsigned":{"age":99,"forged":true},"z":1}`
	topic := `{"content":{"topic":"x"},"depth":1,"origin_server_ts":5,"room_id":"!r:d","sender":"@a:d","state_key":"k\n","type":"m.room.topic"}`
	tests := []struct {
		name, json string
		opts       ClientFormat
		want       string
	}{
		{"message", message, ClientFormat{},
			`{"content":{"body":"\"x\""},"event_id":"` + id + `","origin_server_ts":5,"room_id":"!r:d","sender":"@a:d","type":"m.room.message"}`},
		{"without room", message, ClientFormat{OmitRoomID: true},
			`{"content":{"body":"\"x\""},"event_id":"` + id + `","origin_server_ts":5,"sender":"@a:d","type":"m.room.message"}`},
		{"unsigned", message, ClientFormat{OmitRoomID: true, Unsigned: []byte(`{"age":1}`)},
			`{"content":{"body":"\"x\""},"event_id":"` + id + `","origin_server_ts":5,"sender":"@a:d","type":"m.room.message","unsigned":{"age":1}}`},
		{"state", topic, ClientFormat{},
			`{"content":{"topic":"x"},"event_id":"` + id + `","origin_server_ts":5,"room_id":"!r:d","sender":"@a:d","state_key":"k\n","type":"m.room.topic"}`},
		{"stripped", topic, ClientFormat{Stripped: true, Unsigned: []byte(`{}`)},
			`{"content":{"topic":"x"},"sender":"@a:d","state_key":"k\n","type":"m.room.topic"}`},
		{"federation", topic, ClientFormat{Federation: true}, topic},
		{"federation drops unsigned", message, ClientFormat{Federation: true},
			strings.Replace(message, `"unsigned":{"age":99,"forged":true},`, "", 1)},
		{"federation with unsigned", message, ClientFormat{Federation: true, Unsigned: []byte(`{"age":1}`)},
			strings.Replace(message, `{"age":99,"forged":true}`, `{"age":1}`, 1)},
		{"federation with unsigned added", topic, ClientFormat{Federation: true, Unsigned: []byte(`{"age":1}`)},
			strings.TrimSuffix(topic, "}") + `,"unsigned":{"age":1}}`},
	}
	for _, test := range tests {
		e, err := ParseStoredEvent([]byte(test.json), RoomVersionV10, id)
		if err != nil {
			t.Fatal(err)
		}
		got := string(e.AppendClient([]byte("before"), test.opts))
		if got != "before"+test.want {
			t.Errorf("%s:\ngot  %s\nwant before%s", test.name, got, test.want)
		}
	}
}

// TestAppendClientOverwritesRedacts: what a v10 redaction has in its content
// already must not differ from what it redacts.
func TestAppendClientOverwritesRedacts(t *testing.T) {
	b := testBuilder(RoomVersionV10)
	b.Type, b.Redacts, b.Content = "m.room.redaction", "$right", jsontext.Value(`{"redacts":"$wrong"}`)
	got := mustBuild(t, RoomVersionV10, b).AppendClient(nil, ClientFormat{})
	if string(member(got, "content")) != `{"redacts":"$right"}` {
		t.Errorf("got %s", got)
	}
}
