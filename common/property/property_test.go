package property

import (
	"slices"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

func TestPath(t *testing.T) {
	for path, want := range map[string][]string{
		"type": {"type"}, "content.body": {"content", "body"}, `content.m\.mentions.room`: {"content", "m.mentions", "room"},
		`a\\.b`: {`a\`, "b"}, `a\b`: {`a\b`}, "": {""}, "a.": {"a", ""},
	} {
		if got := Path(path); !slices.Equal(got, want) {
			t.Errorf("%s: %q, not %q", path, got, want)
		}
	}
}

func TestMember(t *testing.T) {
	for _, c := range []struct {
		object, name, want string
		there              bool
	}{
		{`{"a":{"b":1},"b":2}`, "b", "2", true}, {`{"a":null}`, "a", "null", true}, {`{"a":1}`, "b", "", false},
		{`["a"]`, "a", "", false}, {``, "a", "", false}, {`{"a"`, "a", "", false}, {`{"\u0061":1}`, "a", "1", true},
	} {
		if got, there := Member(jsontext.Value(c.object), c.name); string(got) != c.want || there != c.there {
			t.Errorf("%s of %s: %s, %v", c.name, c.object, got, there)
		}
	}
	if text, ok := Text(jsontext.Value(`"a\"b"`)); !ok || text != `a"b` {
		t.Errorf("%q, %v", text, ok)
	}
	if _, ok := Text(jsontext.Value(`1`)); ok {
		t.Error("a number is no text")
	}
}
