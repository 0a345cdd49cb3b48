package gomatrixserverlib

import (
	"errors"
	"strings"
	"testing"
)

const someHash = "Rqnc-F-dvnEYJTyHq_iKxU2bZ1CI92-kuZq3a5lr5Zg"

// parserTest says what a parser of identifiers makes of its input: the parts
// joined by a bar, or nothing if it must refuse.
type parserTest struct{ in, want string }

func runParser(t *testing.T, name string, parse func(string) (string, string, error), tests []parserTest) {
	t.Helper()
	for _, test := range tests {
		a, b, err := parse(test.in)
		switch {
		case test.want == "" && !errors.Is(err, ErrBadIdentifier):
			t.Errorf("%s(%q) = %q, %q, %v; want an error", name, test.in, a, b, err)
		case test.want != "" && (err != nil || a+"|"+b != test.want):
			t.Errorf("%s(%q) = %q, %q, %v; want %s", name, test.in, a, b, err, test.want)
		}
	}
}

func TestParseServerName(t *testing.T) {
	long := strings.Repeat("a", MaxServerNameBytes)
	runParser(t, "ParseServerName", ParseServerName, []parserTest{
		{"matrix.org", "matrix.org|"}, {"matrix.org:8888", "matrix.org|8888"}, {"1.2.3.4", "1.2.3.4|"},
		{"1.2.3.4:1234", "1.2.3.4|1234"}, {"[1234:5678::abcd]", "[1234:5678::abcd]|"}, {"[1234:5678::abcd]:5678", "[1234:5678::abcd]|5678"},
		{"MATRIX.org", "MATRIX.org|"}, {"localhost", "localhost|"}, {"a-b.c", "a-b.c|"}, {"xn--e1afmkfd", "xn--e1afmkfd|"},
		{"[::]", "[::]|"}, {"[::ffff:1.2.3.4]", "[::ffff:1.2.3.4]|"}, {"001.002.003.004", "001.002.003.004|"}, {"1.2.3", "1.2.3|"}, {"a.b.", "a.b.|"},
		{"a:0", "a|0"}, {"a:65535", "a|65535"}, {long, long + "|"},
		{"", ""}, {":80", ""}, {"a:", ""}, {"a:b", ""}, {"a:123456", ""}, {"a:65536", ""}, {"a:-1", ""}, {"a:+1", ""}, {"a b", ""},
		{"a_b", ""}, {"ä.org", ""}, {"a/b", ""}, {"a@b", ""}, {"[::1", ""}, {"::1", ""}, {"[]", ""}, {"[1.2.3.4]", ""}, {"[fe80::1%eth0]", ""},
		{"[::1]x", ""}, {"[::1]80", ""}, {"256.1.1.1", ""}, {"1.2.3.0004", ""}, {"1..3.4", ""}, {".", ""}, {"..", ""}, {".a", ""}, {"a..b", ""}, {"a:1:2", ""}, {"a\n", ""}, {"a\x00", ""}, {long + "a", ""},
	})
}

func TestParseUserID(t *testing.T) {
	max := "@" + strings.Repeat("a", MaxIDBytes-3) + ":b"
	runParser(t, "ParseUserID", ParseUserID, []parserTest{
		{"@alice:example.org", "alice|example.org"}, {"@a.b_c=d-e/f+1:[::1]:80", "a.b_c=d-e/f+1|[::1]:80"},
		{max, max[1:MaxIDBytes-2] + "|b"}, {"@a" + max[1:], ""},
		{"", ""}, {"@", ""}, {"alice:example.org", ""}, {"@alice", ""}, {"@:example.org", ""}, {"@Alice:example.org", ""},
		{"@ä:example.org", ""}, {"@a b:example.org", ""}, {"@a:b c", ""}, {"@a:", ""}, {"#a:b", ""}, {"@a!:b", ""},
	})
	runParser(t, "ParseHistoricalUserID", ParseHistoricalUserID, []parserTest{
		{"@Alice!:example.org", "Alice!|example.org"}, {"@:example.org", "|example.org"}, {"@ä \n\x01:b", "ä \n\x01|b"},
		{"@a\x00:b", ""}, {"@\xff:b", ""}, {"@a:b:c", ""}, {"@a", ""},
	})
	for id, want := range map[string]bool{"@a:b": true, "@A!~:b": true, "@:b": false, "@a b:b": false, "@ä:b": false, "@a\x7f:b": false, "a:b": false} {
		if CompliantUserID(id) != want {
			t.Errorf("CompliantUserID(%q) = %v", id, !want)
		}
	}
	if !ValidNewLocalpart("a", "b") || ValidNewLocalpart("", "b") || ValidNewLocalpart("A", "b") || ValidNewLocalpart(strings.Repeat("a", 253), "b") {
		t.Error("ValidNewLocalpart is wrong")
	}
	if ServerOf("@a:b:80") != "b:80" || ServerOf("$x") != "" {
		t.Error("ServerOf is wrong")
	}
}

func TestParseRoomIDsAndAliases(t *testing.T) {
	runParser(t, "ParseRoomID", ParseRoomID, []parserTest{
		{"!abc:example.org", "abc|example.org"}, {"!" + someHash, someHash + "|"}, {"!ä\n:b", "ä\n|b"}, {"!:b", "|b"},
		{"", ""}, {"!", ""}, {"!abc", ""}, {"!" + someHash + "A", ""}, {"!" + strings.Repeat("+", 43), ""}, {"$a:b", ""}, {"!a\x00:b", ""}, {"!a:b/c", ""},
		{"!" + strings.Repeat("a", 253) + ":b", ""},
	})
	runParser(t, "ParseRoomAlias", ParseRoomAlias, []parserTest{
		{"#room:example.org", "room|example.org"}, {"#ä #!:b:1", "ä #!|b:1"}, {"#:b", "|b"},
		{"", ""}, {"#a", ""}, {"a:b", ""}, {"#a:", ""}, {"#a\x00:b", ""}, {"#\xed\xa0\x80:b", ""},
	})
}

func TestEventIDs(t *testing.T) {
	std := strings.NewReplacer("-", "+", "_", "/").Replace(someHash)
	runParser(t, "ParseEventID", ParseEventID, []parserTest{
		{"$abc:example.org", "abc|example.org"}, {"$" + someHash, someHash + "|"}, {"$" + std, std + "|"},
		{"", ""}, {"$", ""}, {"$abc", ""}, {"$" + someHash[:42] + "+", ""}, {"!a:b", ""}, {"$" + someHash + ":", ""},
	})
	for _, v := range SupportedRoomVersions() {
		format := v.Rules().EventIDFormat
		for id, want := range map[string]EventIDFormat{"$abc:b": EventIDGiven, "$" + std: EventIDBase64, "$" + someHash: EventIDURLSafe, "": 0, "$": 0} {
			if (CheckEventID(id, v) == nil) != (want == format) {
				t.Errorf("CheckEventID(%q, %s) is wrong", id, v)
			}
		}
		for id, hash := range map[string]bool{"!abc:b": false, "!" + someHash: true} {
			if (CheckRoomID(id, v) == nil) != (hash == v.Rules().RoomIDFromCreate) {
				t.Errorf("CheckRoomID(%q, %s) is wrong", id, v)
			}
		}
	}
}

func TestOtherIdentifiers(t *testing.T) {
	runParser(t, "ParseMXC", ParseMXC, []parserTest{
		{"mxc://example.org:80/aB-_9", "example.org:80|aB-_9"},
		{"", ""}, {"mxc://", ""}, {"mxc://a", ""}, {"mxc://a/", ""}, {"mxc:///b", ""}, {"mxc://a/b/c", ""}, {"mxc://a/..", ""}, {"http://a/b", ""}, {"mxc://a b/c", ""},
		{"mxc://a/" + strings.Repeat("x", 256), ""},
	})
	long := strings.Repeat("x", 256)
	tests := []struct {
		name  string
		valid func(string) bool
		good  []string
		bad   []string
	}{
		{"ValidOpaqueID", ValidOpaqueID, []string{"a", "A-._~9", long[1:]}, []string{"", "a b", "ä", "a+b", "a/b", long}},
		{"ValidNamespacedID", ValidNamespacedID, []string{"m.x", "a", "org.example.a-b_1"}, []string{"", "A", "1a", ".a", "a b", long}},
		{"ParseKeyID", func(s string) bool { return ParseKeyID(KeyID(s)) == nil },
			[]string{"ed25519:a_1", "ed25519:1"}, []string{"", "ed25519", "ed25519:", ":1", "ed25519:a-b", "ed25519:a:b", "ed 1:a", "ed25519:" + long}},
	}
	for _, test := range tests {
		for _, s := range test.good {
			if !test.valid(s) {
				t.Errorf("%s refuses %q", test.name, s)
			}
		}
		for _, s := range test.bad {
			if test.valid(s) {
				t.Errorf("%s accepts %q", test.name, s)
			}
		}
	}
}

func FuzzIdentifiers(f *testing.F) {
	for _, s := range []string{
		"@alice:example.org", "@:b", "!abc:example.org:80", "!" + someHash, "#room:[::1]", "$abc:1.2.3.4", "$" + someHash, "mxc://a/b", "a:1", "[::1]:80", "@\xff:b",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		type parser struct {
			prefix, separator string
			parse             func(string) (string, string, error)
		}
		for _, p := range []parser{
			{"@", ":", ParseUserID}, {"@", ":", ParseHistoricalUserID}, {"!", ":", ParseRoomID}, {"#", ":", ParseRoomAlias},
			{"$", ":", ParseEventID}, {"mxc://", "/", ParseMXC}, {"", ":", ParseServerName},
		} {
			a, b, err := p.parse(s)
			if err != nil {
				if a != "" || b != "" || !errors.Is(err, ErrBadIdentifier) {
					t.Fatalf("%q: %q, %q, %v", s, a, b, err)
				}
				continue
			}
			whole := p.prefix + a
			if b != "" {
				whole += p.separator + b
			}
			if whole != s {
				t.Fatalf("%q fell apart into %q and %q", s, a, b)
			}
			if p.separator == ":" && len(s) > MaxIDBytes {
				t.Fatalf("%q is too long", s)
			}
			if b != "" && p.prefix != "" && p.prefix != "mxc://" && !ValidServerName(b) {
				t.Fatalf("%q has a bad server name", s)
			}
		}
		if _, _, err := ParseUserID(s); err == nil && !CompliantUserID(s) {
			t.Fatalf("%q is a user ID but not compliant", s)
		}
	})
}
