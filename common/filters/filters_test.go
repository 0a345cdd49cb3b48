package filters

import (
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/gomatrixserverlib"
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

func TestEventFilters(t *testing.T) {
	b := gomatrixserverlib.EventBuilder{RoomID: "!a:test", Sender: "@alice:test", Type: "m.room.message", Content: jsontext.Value(`{"url":"mxc://a/b"}`),
		OriginServerTS: 1, Depth: 1, PrevEvents: []string{"$x"}, AuthEvents: []string{"$x"}}
	ev, err := b.Build("11")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		filter string
		want   bool
	}{
		{`{}`, true}, {`{"types":["m.room.*"]}`, true}, {`{"types":[]}`, false}, {`{"types":null}`, true}, {`{"not_types":["m.*"]}`, false},
		{`{"types":["m.room.message"],"not_types":["m.room.message"]}`, false}, {`{"senders":["@alice:test"]}`, true}, {`{"senders":["@bob:test"]}`, false},
		{`{"not_senders":["@alice:test"]}`, false}, {`{"rooms":["!a:test"]}`, true}, {`{"rooms":["!b:test"]}`, false}, {`{"not_rooms":["!a:test"]}`, false},
		{`{"contains_url":true}`, true}, {`{"contains_url":false}`, false}, {`{"limit":3}`, true}, {`{"unknown":1}`, true},
	} {
		f, err := ParseEvent(c.filter)
		if err != nil {
			t.Fatalf("%s: %v", c.filter, err)
		}
		if got := f.WantsEvent(ev); got != c.want {
			t.Errorf("%s: %v", c.filter, got)
		}
	}
}

func TestBadFilters(t *testing.T) {
	for _, text := range []string{`{`, `[]`, `{"room":3}`, `{"room":{"timeline":{"limit":-1}}}`, `{"event_format":"x"}`, `{"room":{"timeline":{"types":"x"}}}`} {
		if _, err := Parse([]byte(text)); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
}
