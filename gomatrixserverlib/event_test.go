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

// hashID is a well-formed event ID of the room version's format.
func hashID(v RoomVersion, n int) string {
	if v.Rules().GivenEventIDs() {
		return fmt.Sprintf("$e%d:domain", n)
	}
	return fmt.Sprintf("$%043d", n)
}

// testRoomID is a room ID of the room version's format.
func testRoomID(v RoomVersion) string {
	if v.Rules().RoomIDFromCreate {
		return "!" + strings.Repeat("R", 43)
	}
	return "!room:domain"
}

// testBuilder is a message in that room version; all needed fields are set.
func testBuilder(v RoomVersion) *EventBuilder {
	b := &EventBuilder{
		RoomID: testRoomID(v), Sender: "@alice:domain", Type: "m.room.message",
		Content:        jsontext.Value(`{"msgtype": "m.text", "body": "Grüße \"und\" \u263a\n"}`),
		OriginServerTS: 1700000000000, Depth: 7,
		PrevEvents: []string{hashID(v, 1), hashID(v, 2)},
		AuthEvents: []string{hashID(v, 3), hashID(v, 4), hashID(v, 5)},
	}
	if v.Rules().GivenEventIDs() {
		b.EventID = "$mine:domain"
		b.PrevHashes = make([][32]byte, 2)
		b.AuthHashes = make([][32]byte, 3)
	}
	return b
}

func mustBuild(t testing.TB, v RoomVersion, b *EventBuilder) *Event {
	t.Helper()
	e, err := b.Build(v)
	if err != nil {
		t.Fatalf("version %s: %v", v, err)
	}
	return e
}

// messageEvent is a signed message.
func messageEvent(t testing.TB, v RoomVersion, key SigningKey) *Event {
	t.Helper()
	e, err := mustBuild(t, v, testBuilder(v)).Sign("domain", key)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// requireSameEvent compares everything that two events say of themselves.
func requireSameEvent(t *testing.T, got, want *Event) {
	t.Helper()
	describe := func(e *Event) string {
		key := "none"
		if e.StateKey() != nil {
			key = fmt.Sprintf("%q", *e.StateKey())
		}
		return fmt.Sprintf("%s\nv%s id %s room %s type %s sender %s key %s redacts %q membership %q ts %d depth %d auth %q prev %q content %s unsigned %s redacted %v",
			e.JSON(), e.Version(), e.EventID(), e.RoomID(), e.Type(), e.Sender(), key, e.Redacts(), e.Membership(),
			e.OriginServerTS(), e.Depth(), e.AuthEventIDs(), e.PrevEventIDs(), e.Content(), e.Unsigned(), e.Redacted())
	}
	if describe(got) != describe(want) {
		t.Errorf("got %s\nwant %s", describe(got), describe(want))
	}
}

func TestBuildSignParse(t *testing.T) {
	key := testKey(t)
	for _, v := range SupportedRoomVersions() {
		t.Run("v"+string(v), func(t *testing.T) {
			b := testBuilder(v)
			built := mustBuild(t, v, b)
			signed, err := built.Sign("domain", key)
			if err != nil {
				t.Fatal(err)
			}
			if canonical, err := CanonicalJSON(signed.JSON()); err != nil || !bytes.Equal(canonical, signed.JSON()) {
				t.Errorf("not canonical: %s, %v", signed.JSON(), err)
			}
			if signed.EventID() != built.EventID() || signed.ReferenceHash() != built.ReferenceHash() {
				t.Error("signing changed the ID or the reference hash")
			}
			if err := signed.VerifySignature("domain", key.ID, key.Public()); err != nil {
				t.Error(err)
			}
			if signed.Type() != b.Type || signed.Sender() != b.Sender || signed.RoomID() != b.RoomID ||
				signed.Depth() != b.Depth || signed.OriginServerTS() != b.OriginServerTS || signed.IsState() ||
				!slices.Equal(signed.PrevEventIDs(), b.PrevEvents) || !slices.Equal(signed.AuthEventIDs(), b.AuthEvents) {
				t.Errorf("fields differ: %s", signed.JSON())
			}
			if err := CheckEventID(signed.EventID(), v); err != nil {
				t.Error(err)
			}
			parsed, err := ParseEvent(signed.JSON(), v)
			if err != nil {
				t.Fatal(err)
			}
			requireSameEvent(t, parsed, signed)
			stored, err := ParseStoredEvent(signed.JSON(), v, signed.EventID())
			if err != nil {
				t.Fatal(err)
			}
			requireSameEvent(t, stored, signed)
			indented, err := ParseEvent(reformat(t, signed.JSON()), v)
			if err != nil {
				t.Fatal(err)
			}
			requireSameEvent(t, indented, signed)
		})
	}
}

// reformat writes JSON in a form that is not canonical.
func reformat(t *testing.T, in []byte) []byte {
	t.Helper()
	out := jsontext.Value(bytes.Clone(in))
	if err := out.Indent(); err != nil {
		t.Fatal(err)
	}
	return []byte(strings.ReplaceAll(string(out), "a", `\u0061`))
}

func TestSignatureOfSeveralServers(t *testing.T) {
	one, two := testKey(t), otherKey(t, "z")
	e := messageEvent(t, RoomVersionV10, one)
	both, err := e.Sign("zzz.example", two)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := ParseEvent(both.JSON(), RoomVersionV10)
	if err != nil {
		t.Fatal(err)
	}
	requireSameEvent(t, both, parsed)
	for server, key := range map[string]SigningKey{"domain": one, "zzz.example": two} {
		if err := parsed.VerifySignature(server, key.ID, key.Public()); err != nil {
			t.Error(err)
		}
		if ids := parsed.KeyIDs(server); len(ids) != 1 || ids[0] != key.ID {
			t.Errorf("keys of %s: %v", server, ids)
		}
	}
	if _, err := e.WithSignature("\xff", two.ID, nil); !errors.Is(err, ErrBadIdentifier) {
		t.Errorf("signer that is not UTF-8: %v", err)
	}
	unsigned := setMember(nil, appendWithout(nil, e.JSON(), "signatures"), "unsigned", []byte(`{}`))
	stored, err := ParseStoredEvent(unsigned, RoomVersionV10, e.EventID())
	if err != nil {
		t.Fatal(err)
	}
	resigned, err := stored.Sign("domain", one)
	if err != nil {
		t.Fatal(err)
	}
	if err := resigned.VerifySignature("domain", one.ID, one.Public()); err != nil {
		t.Error(err)
	}
}

func TestUnsignedAndSignaturesDoNotCount(t *testing.T) {
	key := testKey(t)
	for _, v := range SupportedRoomVersions() {
		e := messageEvent(t, v, key)
		changed := setMember(nil, e.JSON(), "unsigned", []byte(`{"age":5,"z":{}}`))
		changed = setMember(nil, changed, "signatures", []byte(`{"domain":{"ed25519:9":"AAAA"}}`))
		parsed, err := ParseEvent(changed, v)
		if err != nil {
			t.Fatal(err)
		}
		if parsed.EventID() != e.EventID() || parsed.Redacted() {
			t.Errorf("v%s: ID %s, redacted %v", v, parsed.EventID(), parsed.Redacted())
		}
		if string(parsed.Unsigned()) != `{"age":5,"z":{}}` {
			t.Errorf("v%s: unsigned %s", v, parsed.Unsigned())
		}
	}
}

func TestContentHashMismatchRedacts(t *testing.T) {
	key := testKey(t)
	for _, v := range SupportedRoomVersions() {
		e := messageEvent(t, v, key)
		forged := setMember(nil, e.JSON(), "content", []byte(`{"body":"forged"}`))
		forged = setMember(nil, forged, "unsigned", []byte(`{"x":1}`))
		parsed, err := ParseEvent(forged, v)
		if err != nil {
			t.Fatal(err)
		}
		if !parsed.Redacted() || string(parsed.Content()) != "{}" || parsed.Unsigned() != nil {
			t.Errorf("v%s: not redacted: %s", v, parsed.JSON())
		}
		if parsed.EventID() != e.EventID() {
			t.Errorf("v%s: ID %s, want %s", v, parsed.EventID(), e.EventID())
		}
		if err := parsed.VerifySignature("domain", key.ID, key.Public()); err != nil {
			t.Errorf("v%s: %v", v, err)
		}
	}
}

func TestCreateEventV12(t *testing.T) {
	empty := ""
	b := &EventBuilder{Sender: "@a:domain", Type: "m.room.create", StateKey: &empty,
		Content: jsontext.Value(`{"room_version":"12"}`), Depth: 1, OriginServerTS: 1}
	e := mustBuild(t, RoomVersionV12, b)
	if e.RoomID() != "!"+e.EventID()[1:] || bytes.Contains(e.JSON(), []byte("room_id")) {
		t.Errorf("room %s, event %s: %s", e.RoomID(), e.EventID(), e.JSON())
	}
	if err := CheckRoomID(e.RoomID(), RoomVersionV12); err != nil {
		t.Error(err)
	}
	for name, parse := range map[string]func() (*Event, error){
		"untrusted":        func() (*Event, error) { return ParseEvent(e.JSON(), RoomVersionV12) },
		"stored":           func() (*Event, error) { return ParseStoredEvent(e.JSON(), RoomVersionV12, e.EventID()) },
		"stored, ID asked": func() (*Event, error) { return ParseStoredEvent(e.JSON(), RoomVersionV12, "") },
		"redacted":         e.Redact,
	} {
		got, err := parse()
		if err != nil || got.RoomID() != e.RoomID() || got.EventID() != e.EventID() {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := string(e.AppendClient(nil, ClientFormat{})); !strings.Contains(got, `"room_id":"`+e.RoomID()+`"`) {
		t.Errorf("clients do not see the room ID: %s", got)
	}
	b.RoomID = testRoomID(RoomVersionV12)
	if _, err := b.Build(RoomVersionV12); !errors.Is(err, ErrBadEvent) {
		t.Errorf("with room_id: %v", err)
	}
}

func TestRedactsPlacement(t *testing.T) {
	for _, v := range SupportedRoomVersions() {
		b := testBuilder(v)
		b.Type, b.Redacts, b.Content = "m.room.redaction", hashID(v, 9), jsontext.Value(`{"reason":"spam","zzz":1}`)
		e := mustBuild(t, v, b)
		if e.Redacts() != b.Redacts {
			t.Errorf("v%s: redacts %q", v, e.Redacts())
		}
		inContent := member(e.Content(), "redacts") != nil
		if inContent != v.Rules().RedactsInContent || inContent == (member(e.JSON(), "redacts") != nil) {
			t.Errorf("v%s: %s", v, e.JSON())
		}
		client := e.AppendClient(nil, ClientFormat{})
		want := `"` + b.Redacts + `"`
		if got := string(member(client, "redacts")); got != want {
			t.Errorf("v%s: client has redacts %s", v, got)
		}
		if got := string(member(member(client, "content"), "redacts")); got != want {
			t.Errorf("v%s: client has content.redacts %s", v, got)
		}
		redacted, err := e.Redact()
		if err != nil || (redacted.Redacts() != "") != v.Rules().RedactsInContent {
			t.Errorf("v%s: redacted redaction: %s, %v", v, redacted.JSON(), err)
		}
	}
}

func TestRequiredSigners(t *testing.T) {
	tests := []struct {
		name    string
		version RoomVersion
		id      string
		content string
		want    []string
	}{
		{"v1, same server", RoomVersionV1, "$x:domain", `{"membership":"join"}`, []string{"domain"}},
		{"v2, ID of another server", RoomVersionV2, "$x:other:80", `{"membership":"join"}`, []string{"domain", "other:80"}},
		{"v3", RoomVersionV3, "", `{"membership":"join"}`, []string{"domain"}},
		{"third-party invite", RoomVersionV10, "", `{"membership":"invite","third_party_invite":{}}`, nil},
		{"restricted join", RoomVersionV8, "", `{"membership":"join","join_authorised_via_users_server":"@m:resident"}`, []string{"domain", "resident"}},
		{"own server", RoomVersionV12, "", `{"membership":"join","join_authorised_via_users_server":"@m:domain"}`, []string{"domain"}},
		{"not restricted yet", RoomVersionV7, "", `{"membership":"join","join_authorised_via_users_server":"@m:resident"}`, []string{"domain"}},
	}
	for _, test := range tests {
		b := testBuilder(test.version)
		b.EventID, b.Type, b.StateKey, b.Content = test.id, "m.room.member", &b.Sender, jsontext.Value(test.content)
		if got := mustBuild(t, test.version, b).RequiredSigners(); !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestParseTemplate(t *testing.T) {
	for _, v := range SupportedRoomVersions() {
		b := testBuilder(v)
		b.Type, b.StateKey, b.Content = "m.room.member", &b.Sender, jsontext.Value(`{"membership":"join"}`)
		want := mustBuild(t, v, b)
		template := appendWithout(nil, want.JSON(), "hashes", "signatures")
		parsed, err := ParseTemplate(reformat(t, template), v)
		if err != nil {
			t.Fatalf("v%s: %v", v, err)
		}
		requireSameEvent(t, mustBuild(t, v, parsed), want)
	}
	for _, bad := range []string{`{`, `[]`, `{"type":1}`, `{"content":[]}`, `{"prev_events":[1]}`, `{"auth_events":{}}`, strings.Repeat(" ", 500000)} {
		if _, err := ParseTemplate([]byte(bad), RoomVersionV10); err == nil {
			t.Errorf("accepted %.100s", bad)
		}
	}
	if _, err := ParseTemplate([]byte(`{"prev_events":[["$a:b",{}]]}`), RoomVersionV1); !errors.Is(err, ErrBadEvent) {
		t.Errorf("reference without hash: %v", err)
	}
}

func TestUnknownVersion(t *testing.T) {
	for _, v := range []RoomVersion{"", "0", "13", "01", "1 ", "10x", "org.example"} {
		if v.Rules() != nil || v.Supported() {
			t.Errorf("version %q is known", v)
		}
		_, err1 := ParseEvent([]byte(`{}`), v)
		_, err2 := ParseStoredEvent([]byte(`{}`), v, "$x")
		_, err3 := (&EventBuilder{}).Build(v)
		_, err4 := ParseTemplate([]byte(`{}`), v)
		for _, err := range []error{err1, err2, err3, err4, CheckEventID("$x", v), CheckRoomID("!x", v)} {
			if !errors.Is(err, ErrUnsupportedRoomVersion) {
				t.Errorf("version %q: %v", v, err)
			}
		}
	}
}

func TestAccessors(t *testing.T) {
	for _, membership := range []string{"join", "leave", "invite", "ban", "knock", "other", "q\"uote", ""} {
		b := testBuilder(RoomVersionV12)
		b.Type, b.StateKey = "m.room.member", &b.Sender
		b.Content = append(appendString([]byte(`{"membership":`), membership), '}')
		e := mustBuild(t, RoomVersionV12, b)
		if e.Membership() != membership {
			t.Errorf("membership %q, want %q", e.Membership(), membership)
		}
		if e.Key() != (StateKey{"m.room.member", b.Sender}) || !e.IsState() || !e.StateKeyEquals(b.Sender) || e.StateKeyEquals("") {
			t.Errorf("key %v", e.Key())
		}
		if e.SenderServer() != "domain" || e.String() != "m.room.member "+e.EventID()+" in "+e.RoomID() {
			t.Errorf("%s of %s", e, e.SenderServer())
		}
	}
	message := mustBuild(t, RoomVersionV12, testBuilder(RoomVersionV12))
	if message.Key() != (StateKey{Type: "m.room.message"}) || message.StateKeyEquals("") || message.Membership() != "" {
		t.Errorf("a message has the key %v", message.Key())
	}
	for _, hashes := range []string{`{"sha256":"%"}`, `{"sha256":"AAAA"}`} {
		e, err := ParseEvent(setMember(nil, message.JSON(), "hashes", []byte(hashes)), RoomVersionV12)
		if err != nil || !e.Redacted() {
			t.Errorf("hashes %s: %v", hashes, err)
		}
	}
}
