package gomatrixserverlib

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// rehash makes an event's content hash right again after a change.
func rehash(t *testing.T, json []byte) []byte {
	t.Helper()
	e := &Event{json: json}
	hash := e.ComputeContentHash()
	return setMember(nil, json, "hashes", append(appendString([]byte(`{"sha256":`), EncodeBase64(hash[:])), '}'))
}

func TestParseEventFormat(t *testing.T) {
	long := strings.Repeat("x", 256)
	accents := strings.Repeat("é", 128) // 256 bytes, 128 characters
	all := func(int) bool { return true }
	from := func(n int) func(int) bool { return func(v int) bool { return v >= n } }
	until := func(n int) func(int) bool { return func(v int) bool { return v <= n } }
	refs := func(n int) string {
		return "[" + strings.TrimSuffix(strings.Repeat(`"$x",`, n), ",") + "]"
	}
	pairs := func(n int) string {
		return "[" + strings.TrimSuffix(strings.Repeat(`["$x:y",{"sha256":"x"}],`, n), ",") + "]"
	}
	tests := []struct {
		key, value string // an empty value removes the member
		in         func(version int) bool
		want       error // nil: accepted in those versions
	}{
		{"type", "", all, ErrBadEvent}, {"type", "1", all, ErrBadEvent}, {"type", `"` + long + `"`, all, ErrTooLarge},
		{"type", `"` + accents + `"`, all, ErrTooLarge}, {"type", `"` + accents[2:] + `"`, all, nil}, {"type", `""`, all, nil},
		{"sender", "", all, ErrBadEvent}, {"sender", `"alice"`, all, ErrBadEvent}, {"sender", `"@alice"`, all, ErrBadEvent},
		{"sender", `"@a:b c"`, all, ErrBadEvent}, {"sender", `"@` + long + `:d"`, all, ErrTooLarge}, {"sender", "null", all, ErrBadEvent},
		{"sender", `"@Weird Ünser:domain"`, all, nil}, {"sender", `"@a\u0000:b"`, all, ErrBadEvent},
		{"room_id", "", all, ErrBadEvent}, {"room_id", "1", all, ErrBadEvent}, {"room_id", `"x:y"`, all, ErrBadEvent},
		{"room_id", `"!` + long + `:d"`, all, ErrTooLarge}, {"room_id", `"!a:domain"`, from(12), ErrBadEvent},
		{"room_id", `"!` + someHash + `"`, until(11), ErrBadEvent}, {"room_id", `"!` + someHash + `"`, from(12), nil},
		{"state_key", "null", all, ErrBadEvent}, {"state_key", "1", all, ErrBadEvent}, {"state_key", `"` + long + `"`, all, ErrTooLarge},
		{"state_key", `""`, all, nil}, {"state_key", `"` + long[1:] + `"`, all, nil},
		{"content", "", all, ErrBadEvent}, {"content", "[]", all, ErrBadEvent}, {"content", "null", all, ErrBadEvent},
		{"content", `{"a":1.5}`, until(5), nil}, {"content", `{"a":1.5}`, from(6), ErrBadJSON},
		{"content", `{"a":9007199254740992}`, until(5), nil}, {"content", `{"a":9007199254740992}`, from(6), ErrBadJSON},
		{"depth", "", all, ErrBadEvent}, {"depth", "-1", all, ErrBadEvent}, {"depth", `"1"`, all, ErrBadEvent}, {"depth", "0", all, nil},
		{"depth", "9007199254740991", all, nil}, {"depth", "9223372036854775807", until(5), nil},
		{"depth", "9223372036854775808", until(5), ErrBadEvent}, {"depth", "9223372036854775807", from(6), ErrBadJSON},
		{"origin_server_ts", "", all, ErrBadEvent}, {"origin_server_ts", `"1"`, all, ErrBadEvent}, {"origin_server_ts", "-5", all, nil},
		{"origin_server_ts", "1.5", until(5), ErrBadEvent}, {"origin_server_ts", "1e3", from(6), ErrBadJSON},
		{"signatures", "", all, ErrBadEvent}, {"signatures", "[]", all, ErrBadEvent}, {"signatures", `{"a":1}`, all, ErrBadEvent},
		{"signatures", `{"a":{"b":1}}`, all, ErrBadEvent}, {"signatures", `{"a":{"b":"c"},"d":{}}`, all, nil},
		{"unsigned", "[]", all, ErrBadEvent}, {"unsigned", "{}", all, nil},
		{"redacts", "1", until(10), ErrBadEvent}, {"redacts", "1", from(11), nil},
		{"prev_events", "", all, ErrBadEvent}, {"prev_events", "{}", all, ErrBadEvent}, {"prev_events", "[1]", all, ErrBadEvent},
		{"prev_events", refs(1), until(2), ErrBadEvent}, {"prev_events", pairs(1), from(3), ErrBadEvent},
		{"prev_events", refs(20), from(3), nil}, {"prev_events", refs(21), from(3), ErrBadEvent},
		{"prev_events", pairs(20), until(2), nil}, {"prev_events", pairs(21), until(2), ErrBadEvent},
		{"prev_events", `["!x"]`, from(3), ErrBadEvent}, {"prev_events", `["$` + long + `"]`, from(3), ErrBadEvent},
		{"prev_events", `[["$x:y"]]`, until(2), ErrBadEvent}, {"prev_events", `[["$x:y",1]]`, until(2), ErrBadEvent},
		{"prev_events", `[["$x:y",{},{}]]`, until(2), ErrBadEvent}, {"prev_events", `[[{},"$x:y"]]`, until(2), ErrBadEvent},
		{"auth_events", "", all, ErrBadEvent}, {"auth_events", refs(10), from(3), nil}, {"auth_events", refs(11), from(3), ErrBadEvent},
		{"auth_events", pairs(10), until(2), nil}, {"auth_events", pairs(11), until(2), ErrBadEvent}, {"auth_events", "null", all, ErrBadEvent},
		{"event_id", "", until(2), ErrBadEvent}, {"event_id", `"$x"`, until(2), ErrBadEvent}, {"event_id", `"x:y"`, until(2), ErrBadEvent},
		{"event_id", `"$` + long + `:y"`, until(2), ErrTooLarge}, {"event_id", "1", until(2), ErrBadEvent}, {"event_id", "1", from(3), nil},
		{"hashes", "", all, ErrBadEvent}, {"hashes", "[]", all, ErrBadEvent}, {"hashes", "{}", all, ErrBadEvent},
		{"hashes", `{"sha256":1}`, all, ErrBadEvent}, {"zzz", `{"a":[1,"é"]}`, all, nil},
	}
	for n, v := range SupportedRoomVersions() {
		base := mustBuild(t, v, testBuilder(v)).JSON()
		for _, test := range tests {
			if !test.in(n + 1) {
				continue
			}
			json := appendWithout(nil, base, test.key)
			if test.value != "" {
				json = setMember(nil, base, test.key, []byte(test.value))
			}
			if test.key != "hashes" {
				json = rehash(t, json)
			}
			e, err := ParseEvent(json, v)
			if !errors.Is(err, test.want) || err == nil && e.Redacted() {
				t.Errorf("v%s: %s = %.80s: got %v, want %v", v, test.key, test.value, err, test.want)
			}
		}
	}
}

func TestEventSize(t *testing.T) {
	key := testKey(t)
	for _, v := range []RoomVersion{RoomVersionV1, RoomVersionV6, RoomVersionV12} {
		b := testBuilder(v)
		body := func(n int) jsontext.Value {
			return fmt.Appendf(nil, `{"body":"%s"}`, strings.Repeat("x", n))
		}
		b.Content = body(0)
		empty, err := mustBuild(t, v, b).Sign("domain", key)
		if err != nil {
			t.Fatal(err)
		}
		room := MaxEventBytes - len(empty.JSON())
		b.Content = body(room)
		full, err := mustBuild(t, v, b).Sign("domain", key)
		if err != nil || len(full.JSON()) != MaxEventBytes {
			t.Fatalf("v%s: %d bytes, %v", v, len(full.JSON()), err)
		}
		if _, err := ParseEvent(full.JSON(), v); err != nil {
			t.Errorf("v%s: %v", v, err)
		}
		if _, err := ParseEvent(append(bytes.Repeat([]byte(" "), MaxEventBytes), full.JSON()...), v); err != nil {
			t.Errorf("v%s: white space counts: %v", v, err)
		}
		if _, err := full.Sign("another", key); !errors.Is(err, ErrTooLarge) {
			t.Errorf("v%s: another signature: %v", v, err)
		}
		if _, err := ParseEvent(setMember(nil, full.JSON(), "z", []byte("1")), v); !errors.Is(err, ErrTooLarge) {
			t.Errorf("v%s: one member more: %v", v, err)
		}
		b.Content = body(MaxEventBytes)
		if _, err := b.Build(v); !errors.Is(err, ErrTooLarge) {
			t.Errorf("v%s: built: %v", v, err)
		}
		if _, err := ParseEvent(bytes.Repeat([]byte(" "), 7*MaxEventBytes), v); !errors.Is(err, ErrTooLarge) {
			t.Errorf("v%s: endless white space: %v", v, err)
		}
	}
}

func TestBuildRefuses(t *testing.T) {
	long := strings.Repeat("x", 256)
	tests := []struct {
		name    string
		version RoomVersion
		change  func(*EventBuilder)
		want    error
	}{
		{"no content", "12", func(b *EventBuilder) { b.Content = nil }, ErrBadJSON},
		{"content array", "12", func(b *EventBuilder) { b.Content = jsontext.Value("[]") }, ErrBadEvent},
		{"float", "12", func(b *EventBuilder) { b.Content = jsontext.Value(`{"a":1.5}`) }, ErrBadJSON},
		{"duplicate key", "12", func(b *EventBuilder) { b.Content = jsontext.Value(`{"a":1,"a":2}`) }, ErrBadJSON},
		{"long type", "12", func(b *EventBuilder) { b.Type = long }, ErrTooLarge},
		{"long state key", "12", func(b *EventBuilder) { b.StateKey = &long }, ErrTooLarge},
		{"bad sender", "12", func(b *EventBuilder) { b.Sender = "alice" }, ErrBadEvent},
		{"room ID of v11", "12", func(b *EventBuilder) { b.RoomID = "!a:b" }, ErrBadEvent},
		{"no room ID", "11", func(b *EventBuilder) { b.RoomID = "" }, ErrBadEvent},
		{"depth", "12", func(b *EventBuilder) { b.Depth = MaxDepth + 1 }, ErrBadEvent},
		{"negative depth", "5", func(b *EventBuilder) { b.Depth = -1 }, ErrBadEvent},
		{"prev events", "12", func(b *EventBuilder) { b.PrevEvents = slices.Repeat([]string{"$x"}, 21) }, ErrBadEvent},
		{"auth events", "12", func(b *EventBuilder) { b.AuthEvents = slices.Repeat([]string{"$x"}, 11) }, ErrBadEvent},
		{"no hashes", "1", func(b *EventBuilder) { b.PrevHashes = nil }, ErrBadEvent},
		{"no event ID", "2", func(b *EventBuilder) { b.EventID = "" }, ErrBadEvent},
		{"type not UTF-8", "12", func(b *EventBuilder) { b.Type = "\xff" }, ErrBadEvent},
		{"state key not UTF-8", "12", func(b *EventBuilder) { bad := "\xff"; b.StateKey = &bad }, ErrBadEvent},
		{"timestamp", "12", func(b *EventBuilder) { b.OriginServerTS = 1 << 60 }, ErrBadEvent},
	}
	for _, test := range tests {
		b := testBuilder(test.version)
		test.change(b)
		if e, err := b.Build(test.version); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, %v; want %v", test.name, e, err, test.want)
		}
	}
}

func TestParseStoredEventRefuses(t *testing.T) {
	for _, bad := range []string{``, `[]`, `"x"`, `{`, `{"a"`, `{"a":`, `{"a":1`, `{"a":"x`, `{"a":{"b":1}`, `{"a":1}}`, `{"a" 1}`, `{a:1}`, `{"a":,}`} {
		if e, err := ParseStoredEvent([]byte(bad), RoomVersionV12, "$x"); !errors.Is(err, ErrBadEvent) {
			t.Errorf("%q gave %v, %v", bad, e, err)
		}
	}
}

func FuzzParseEvent(f *testing.F) {
	for n, v := range SupportedRoomVersions() {
		f.Add(uint8(n), mustBuild(f, v, testBuilder(v)).JSON())
		b := testBuilder(v)
		b.Type, b.Redacts = "m.room.redaction", hashID(v, 1)
		f.Add(uint8(n), mustBuild(f, v, b).JSON())
		b.Type, b.StateKey, b.Redacts = "m.room.member", &b.Sender, ""
		b.Content = jsontext.Value(`{"membership":"join","third_party_invite":{"signed":{}}}`)
		f.Add(uint8(n), mustBuild(f, v, b).JSON())
	}
	key := testKey(f)
	f.Fuzz(func(t *testing.T, version uint8, json []byte) {
		versions := SupportedRoomVersions()
		v := versions[int(version)%len(versions)]
		if stored, err := ParseStoredEvent(bytes.Clone(json), v, "$x"); err == nil {
			_ = stored.AppendClient(nil, ClientFormat{}) // whatever the store has, nothing may panic
			_, _ = stored.Redact()
		}
		e, err := ParseEvent(json, v)
		if err != nil {
			return
		}
		again, err := ParseEvent(e.JSON(), v)
		if err != nil {
			t.Fatalf("%s: read again: %v", e.JSON(), err)
		}
		if again.EventID() != e.EventID() || !bytes.Equal(again.JSON(), e.JSON()) {
			t.Fatalf("%s became %s", e.JSON(), again.JSON())
		}
		redacted, err := e.Redact()
		if err != nil || redacted.ReferenceHash() != e.ReferenceHash() {
			t.Fatalf("%s: redacted: %v", e.JSON(), err)
		}
		for _, opts := range []ClientFormat{{}, {Federation: true}, {Stripped: true}, {OmitRoomID: true, Unsigned: []byte(`{}`)}} {
			if out := jsontext.Value(e.AppendClient(nil, opts)); !out.IsValid() && v.Rules().StrictJSON {
				t.Fatalf("client format of %s: %s", e.JSON(), out)
			}
		}
		signed, err := e.Sign("domain", key)
		if errors.Is(err, ErrTooLarge) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := signed.VerifySignature("domain", key.ID, key.Public()); err != nil {
			t.Fatal(err)
		}
		if parsed, err := ParseEvent(signed.JSON(), v); err != nil || parsed.EventID() != e.EventID() {
			t.Fatalf("%s: signed: %v", signed.JSON(), err)
		}
	})
}

// FuzzBuild gives the fields of an event to strangers: what is built must be
// read again as it is.
func FuzzBuild(f *testing.F) {
	f.Add(uint8(0), "m.room.message", "@a:b", "", []byte(`{"a":1.0,"b":{"\n":[]}}`), "", int64(5))
	f.Add(uint8(11), "m.room.member", "@ä\":b", "@ä\":b", []byte(`{"membership":"join","third_party_invite":{"signed":1}}`), "", int64(1<<53))
	f.Add(uint8(11), "m.room.create", "@a:b", "", []byte(`{}`), "$x", int64(-1))
	f.Add(uint8(9), "m.room.redaction", "@a:b", "\x00", []byte(` {"redacts":1}`), "$x\\", int64(1<<62))
	f.Fuzz(func(t *testing.T, version uint8, typ, sender, stateKey string, content []byte, redacts string, depth int64) {
		versions := SupportedRoomVersions()
		v := versions[int(version)%len(versions)]
		b := testBuilder(v)
		b.Type, b.Sender, b.StateKey, b.Content, b.Redacts, b.Depth = typ, sender, &stateKey, content, redacts, depth
		if typ == "m.room.create" && v.Rules().RoomIDFromCreate {
			b.RoomID = ""
		}
		built, err := b.Build(v)
		if err != nil {
			return
		}
		if built.Type() != typ || built.Sender() != sender || *built.StateKey() != stateKey || built.Depth() != depth {
			t.Fatalf("fields differ: %s", built.JSON())
		}
		parsed, err := ParseEvent(built.JSON(), v)
		if err != nil {
			t.Fatalf("%s: %v", built.JSON(), err)
		}
		requireSameEvent(t, parsed, built)
		redacted, err := built.Redact()
		if err != nil || redacted.ReferenceHash() != built.ReferenceHash() {
			t.Fatalf("%s: redacted: %v", built.JSON(), err)
		}
	})
}
