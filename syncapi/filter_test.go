package syncapi

import (
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/gomatrixserverlib"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

func testEvent(t testing.TB, typ, sender, content string) *event {
	b := gomatrixserverlib.EventBuilder{RoomID: "!a:test", Sender: sender, Type: typ, Content: jsontext.Value(content), OriginServerTS: 1, Depth: 1,
		PrevEvents: []string{"$x"}, AuthEvents: []string{"$x"}}
	built, err := b.Build(testVersion)
	if err != nil {
		t.Fatal(err)
	}
	return fromStored(&roomapi.StoredEvent{Event: built})
}

func TestFields(t *testing.T) {
	for _, c := range []struct {
		fields []string
		want   string
	}{
		{[]string{"content.body"}, `{"content":{"body":"x"}}`},
		{[]string{"content", "content.body", "type"}, `{"content":{"body":"x","a.b":1,"o":{"p":2}},"type":"t"}`},
		{[]string{"content.body", "content"}, `{"content":{"body":"x","a.b":1,"o":{"p":2}}}`},
		{[]string{`content.a\.b`}, `{"content":{"a.b":1}}`},
		{[]string{"content.o.p", "sender"}, `{"content":{"o":{"p":2}}}`},
		{[]string{"nothing"}, `{}`},
	} {
		if got := string(newFieldTree(c.fields).project(nil, []byte(`{"content":{"body":"x","a.b":1,"o":{"p":2}},"type":"t"}`))); got != c.want {
			t.Errorf("%v: %s", c.fields, got)
		}
	}
}

func FuzzFilter(f *testing.F) {
	f.Add(`{"room":{"timeline":{"types":["a*b"],"contains_url":true,"limit":5}},"event_fields":["content.body"]}`)
	f.Add(`{"event_fields":["a\\.b","..",""]}`)
	f.Fuzz(func(t *testing.T, text string) {
		ev := testEvent(t, "m.room.message", alice, `{"body":"x"}`)
		parsed, err := parseFilter([]byte(text))
		if err != nil {
			return
		}
		parsed.Room.Timeline.WantsEvent(ev.Event)
		if parsed.fields != nil && !jsontext.Value(parsed.fields.project(nil, ev.JSON())).IsValid() {
			t.Fatalf("%q makes invalid JSON", text)
		}
	})
}
