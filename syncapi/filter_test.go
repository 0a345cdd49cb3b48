package syncapi

import (
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/gomatrixserverlib"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

func TestWildcard(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"m.room.message", "m.room.message", true}, {"m.room.*", "m.room.name", true}, {"*", "", true}, {"m.*.name", "m.room.name", true},
		{"m.*.name", "m.room.topic", false}, {"*name", "m.room.name", true}, {"a*b*c", "aXbYc", true}, {"a*b*c", "aXc", false},
		{"", "", true}, {"", "a", false}, {"**", "x", true}, {"m.room", "m.room.name", false},
	} {
		if got := wildcard(c.pattern, c.s); got != c.want {
			t.Errorf("%q on %q: %v", c.pattern, c.s, got)
		}
	}
}

func testEvent(t testing.TB, typ, sender, content string) *event {
	b := gomatrixserverlib.EventBuilder{RoomID: "!a:test", Sender: sender, Type: typ, Content: jsontext.Value(content), OriginServerTS: 1, Depth: 1,
		PrevEvents: []string{"$x"}, AuthEvents: []string{"$x"}}
	built, err := b.Build(testVersion)
	if err != nil {
		t.Fatal(err)
	}
	return fromStored(&roomapi.StoredEvent{Event: built})
}

func TestEventFilters(t *testing.T) {
	ev := testEvent(t, "m.room.message", alice, `{"url":"mxc://a/b"}`)
	for _, c := range []struct {
		filter string
		want   bool
	}{
		{`{}`, true}, {`{"types":["m.room.*"]}`, true}, {`{"types":[]}`, false}, {`{"types":null}`, true}, {`{"not_types":["m.*"]}`, false},
		{`{"types":["m.room.message"],"not_types":["m.room.message"]}`, false}, {`{"senders":["@alice:test"]}`, true}, {`{"senders":["@bob:test"]}`, false},
		{`{"not_senders":["@alice:test"]}`, false}, {`{"rooms":["!a:test"]}`, true}, {`{"rooms":["!b:test"]}`, false}, {`{"not_rooms":["!a:test"]}`, false},
		{`{"contains_url":true}`, true}, {`{"contains_url":false}`, false}, {`{"limit":3}`, true}, {`{"unknown":1}`, true},
	} {
		f, err := parseEventFilter(c.filter)
		if err != nil {
			t.Fatalf("%s: %v", c.filter, err)
		}
		if got := f.wantsEvent(ev); got != c.want {
			t.Errorf("%s: %v", c.filter, got)
		}
	}
}

func TestBadFilters(t *testing.T) {
	for _, text := range []string{`{`, `[]`, `{"room":3}`, `{"room":{"timeline":{"limit":-1}}}`, `{"event_format":"x"}`, `{"room":{"timeline":{"types":"x"}}}`} {
		if _, err := parseFilter([]byte(text)); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
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
		parsed.Room.Timeline.wantsEvent(ev)
		if parsed.fields != nil && !jsontext.Value(parsed.fields.project(nil, ev.JSON())).IsValid() {
			t.Fatalf("%q makes invalid JSON", text)
		}
	})
}
