package gomatrixserverlib

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

// signedInvite is what an identity server signs.
func signedInvite(t *testing.T, key SigningKey, mxid, token string) string {
	t.Helper()
	signed, err := SignJSON("id.example", key, []byte(fmt.Sprintf(`{"mxid":%q,"token":%q}`, mxid, token)))
	if err != nil {
		t.Fatal(err)
	}
	return string(signed)
}

func TestAuthoriseThirdPartyInvite(t *testing.T) {
	key, other := testKey(t), otherKey(t, "2")
	public := EncodeBase64(key.Public())
	urlSafe := base64.RawURLEncoding.EncodeToString(key.Public())
	invite := func(sender, target, third string) string {
		return "m.room.member " + sender + " " + target + ` {"membership":"invite","third_party_invite":` + third + `}`
	}
	issued := func(sender, content string) string { return "m.room.third_party_invite " + sender + " tok " + content }
	withKey := issued("@u:t", `{"public_key":"`+public+`"}`)
	good := `{"display_name":"x","signed":` + signedInvite(t, key, "@x:t", "tok") + `}`
	number := func(sub string) string {
		return strings.ReplaceAll("1:5.3.1.N 6:4.3.1.N 8:4.4.1.N 12:5.4.1.N", "N", sub)
	}
	runAuthCases(t, []authCase{
		{"public_key", invite("@u:t", "@x:t", good), []string{withKey}, "-"},
		{"URL-safe key", invite("@u:t", "@x:t", good), []string{issued("@u:t", `{"public_key":"`+urlSafe+`"}`)}, "-"},
		{"public_keys", invite("@u:t", "@x:t", good), []string{issued("@u:t", `{"public_key":"`+EncodeBase64(other.Public())+
			`","public_keys":[1,{"public_key":3},{"public_key":"`+public+`"}]}`)}, "-"},
		{"sender gone since", invite("@u:t", "@x:t", good), []string{withKey, member_("@u:t", "@u:t", "leave")}, "-"},
		{"banned", invite("@u:t", "@b:t", good), []string{withKey}, number("1")},
		{"null", invite("@u:t", "@x:t", `null`), []string{withKey}, number("2")},
		{"not signed", invite("@u:t", "@x:t", `{"signed":"x"}`), []string{withKey}, number("2")},
		{"no mxid", invite("@u:t", "@x:t", `{"signed":{"token":"tok"}}`), []string{withKey}, number("3")},
		{"no token", invite("@u:t", "@x:t", `{"signed":{"mxid":"@x:t"}}`), []string{withKey}, number("3")},
		{"token of wrong type", invite("@u:t", "@x:t", `{"signed":{"mxid":"@x:t","token":{}}}`), []string{withKey}, number("3")},
		{"other mxid", invite("@u:t", "@y:t", good), []string{withKey}, number("4")},
		{"unknown token", invite("@u:t", "@x:t", good), nil, number("5")},
		{"other sender", invite("@m:t", "@x:t", good), []string{withKey}, number("6")},
		{"other key", invite("@u:t", "@x:t", good), []string{issued("@u:t", `{"public_key":"`+EncodeBase64(other.Public())+`"}`)}, number("8")},
		{"no key", invite("@u:t", "@x:t", good), []string{issued("@u:t", `{}`)}, number("8")},
		{"no signatures", invite("@u:t", "@x:t", `{"signed":{"mxid":"@x:t","token":"tok"}}`), []string{withKey}, number("8")},
		{"odd signatures", invite("@u:t", "@x:t", `{"signed":{"mxid":"@x:t","token":"tok","signatures":{"a":1,"b":{"ed25519:1":2,"ed25519:2":"AA","x:1":"AA"}}}}`),
			[]string{withKey}, number("8")},
		{"changed", invite("@u:t", "@x:t", strings.Replace(good, `"token"`, `"extra":1,"token"`, 1)), []string{withKey}, number("8")},
	})
}

func TestDecodeAnyBase64(t *testing.T) {
	for text, want := range map[string]bool{"+/+/": true, "-_-_": true, "-_-_-w==": true, "+_": false, "!": false, "": true} {
		if b, ok := decodeAnyBase64(text); ok != want || ok && text != "" && b[0] != 0xfb {
			t.Errorf("%q: %x, %v", text, b, ok)
		}
	}
}

// Many keys and many signatures must not cost a check for each pair.
func TestThirdPartyInviteIsBounded(t *testing.T) {
	var keys, signatures strings.Builder
	for i := range 700 {
		k := [32]byte{byte(i), byte(i >> 8)}
		fmt.Fprintf(&keys, `{"public_key":"%s"},`, EncodeBase64(k[:]))
		if i < 400 {
			fmt.Fprintf(&signatures, `"ed25519:%d":"%s",`, i, EncodeBase64(make([]byte, 64)))
		}
	}
	content := []byte(`{"public_keys":[` + strings.TrimSuffix(keys.String(), ",") + `]}`)
	object := []byte(`{"mxid":"@x:t","signatures":{"s":{` + strings.TrimSuffix(signatures.String(), ",") + `}},"token":"t"}`)
	found := thirdPartyKeys(content)
	if len(found) != maxThirdPartyChecks {
		t.Errorf("%d keys", len(found))
	}
	if signedByAny(object, found) {
		t.Error("a signature of zeros was accepted")
	}
}
