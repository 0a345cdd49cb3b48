package gomatrixserverlib

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

// testKey is the key of appendices §cryptographic-test-vectors.
func testKey(t testing.TB) SigningKey {
	t.Helper()
	keys, err := ParseSigningKeys(strings.NewReader("ed25519 1 YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1\n"))
	if err != nil {
		t.Fatal(err)
	}
	return keys[0]
}

// otherKey is some other key, made from a fixed seed.
func otherKey(t testing.TB, version string) SigningKey {
	t.Helper()
	key, err := GenerateSigningKey(version, strings.NewReader(strings.Repeat(version+"-", 32)))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// spec: appendices §json-signing
func TestSignJSONVectors(t *testing.T) {
	key := testKey(t)
	tests := []struct{ in, want string }{
		{`{}`, `{"signatures":{"domain":{"ed25519:1":"K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ"}}}`},
		{`{"two": "Two", "one": 1}`, `{"one":1,"signatures":{"domain":{"ed25519:1":"KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw"}},"two":"Two"}`},
	}
	for _, test := range tests {
		got, err := SignJSON("domain", key, []byte(test.in))
		if err != nil || string(got) != test.want {
			t.Errorf("got %s, %v\nwant %s", got, err, test.want)
		}
		if err := VerifyJSON("domain", key.ID, key.Public(), got); err != nil {
			t.Error(err)
		}
	}
}

// spec: appendices §event-signing
func TestSignEventVectors(t *testing.T) {
	key := testKey(t)
	tests := []struct {
		version  RoomVersion
		in, want string
	}{
		{RoomVersionV3,
			`{"room_id":"!x:domain","sender":"@a:domain","origin":"domain","origin_server_ts":1000000,"signatures":{},"hashes":{},"type":"X","content":{},"prev_events":[],"auth_events":[],"depth":3,"unsigned":{"age_ts":1000000}}`,
			`{"auth_events":[],"content":{},"depth":3,"hashes":{"sha256":"5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos"},"origin":"domain","origin_server_ts":1000000,"prev_events":[],"room_id":"!x:domain","sender":"@a:domain","signatures":{"domain":{"ed25519:1":"KxwGjPSDEtvnFgU00fwFz+l6d2pJM6XBIaMEn81SXPTRl16AqLAYqfIReFGZlHi5KLjAWbOoMszkwsQma+lYAg"}},"type":"X","unsigned":{"age_ts":1000000}}`},
		{RoomVersionV1,
			`{"content":{"body":"Here is the message content"},"event_id":"$0:domain","origin":"domain","origin_server_ts":1000000,"type":"m.room.message","room_id":"!r:domain","sender":"@u:domain","signatures":{},"unsigned":{"age_ts":1000000}}`,
			`{"content":{"body":"Here is the message content"},"event_id":"$0:domain","hashes":{"sha256":"onLKD1bGljeBWQhWZ1kaP9SorVmRQNdN5aM2JYU2n/g"},"origin":"domain","origin_server_ts":1000000,"room_id":"!r:domain","sender":"@u:domain","signatures":{"domain":{"ed25519:1":"Wm+VzmOUOz08Ds+0NTWb1d4CZrVsJSikkeRxh6aCcUwu6pNC78FunoD7KNWzqFn241eYHYMGCA5McEiVPdhzBA"}},"type":"m.room.message","unsigned":{"age_ts":1000000}}`},
	}
	for _, test := range tests {
		canonical, err := CanonicalJSON([]byte(test.in))
		if err != nil {
			t.Fatal(err)
		}
		unhashed, err := ParseStoredEvent(canonical, test.version, "$0:domain")
		if err != nil {
			t.Fatal(err)
		}
		hash := unhashed.ComputeContentHash()
		hashes := appendString([]byte(`{"sha256":`), EncodeBase64(hash[:]))
		e, err := ParseStoredEvent(setMember(nil, canonical, "hashes", append(hashes, '}')), test.version, "$0:domain")
		if err != nil {
			t.Fatal(err)
		}
		signed, err := e.Sign("domain", key)
		if err != nil || string(signed.JSON()) != test.want {
			t.Errorf("got %s, %v\nwant %s", signed.JSON(), err, test.want)
		}
		if err := signed.VerifySignature("domain", key.ID, key.Public()); err != nil {
			t.Error(err)
		}
	}
}

func TestSignJSONSeveral(t *testing.T) {
	one, two := testKey(t), otherKey(t, "b_2")
	object := []byte(`{"unsigned":{"age":1.5},"z":"` + "é" + `","signatures":{"zz":{"curve:1":"x"}},"a":[1,{"y":1,"x":2}]}`)
	var err error
	for _, step := range []struct {
		server string
		key    SigningKey
	}{{"domain", one}, {"domain", two}, {"a.example:80", one}, {"@u\"ser\\:x", two}, {"domain", one}} {
		if object, err = SignJSON(step.server, step.key, object); err != nil {
			t.Fatal(err)
		}
	}
	if again, err := CanonicalJSONLenient(object); err != nil || !bytes.Equal(again, object) {
		t.Errorf("not canonical: %s, %v", object, err)
	}
	for _, check := range []struct {
		server string
		key    SigningKey
	}{{"domain", one}, {"domain", two}, {"a.example:80", one}, {"@u\"ser\\:x", two}} {
		if err := VerifyJSON(check.server, check.key.ID, check.key.Public(), object); err != nil {
			t.Errorf("%s: %v", check.server, err)
		}
	}
	ids, err := JSONKeyIDs("domain", object)
	if err != nil || len(ids) != 2 || ids[0] != "ed25519:1" || ids[1] != "ed25519:b_2" {
		t.Errorf("key IDs %v, %v", ids, err)
	}
	if ids, err := JSONKeyIDs("zz", object); err != nil || len(ids) != 0 {
		t.Errorf("unknown algorithm listed: %v, %v", ids, err)
	}
	changed := setMember(nil, object, "unsigned", []byte(`{"age":2}`))
	if err := VerifyJSON("domain", one.ID, one.Public(), changed); err != nil {
		t.Errorf("unsigned is covered: %v", err)
	}
}

func TestVerifyJSONRefuses(t *testing.T) {
	key := testKey(t)
	good, err := SignJSON("domain", key, []byte(`{"a":1}`))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, server string
		id           KeyID
		public       ed25519.PublicKey
		object       string
		want         error
	}{
		{"changed", "domain", key.ID, key.Public(), strings.Replace(string(good), `"a":1`, `"a":2`, 1), ErrBadSignature},
		{"added", "domain", key.ID, key.Public(), strings.Replace(string(good), `"a":1`, `"a":1,"b":2`, 1), ErrBadSignature},
		{"other server", "domain2", key.ID, key.Public(), string(good), ErrBadSignature},
		{"other key ID", "domain", "ed25519:2", key.Public(), string(good), ErrBadSignature},
		{"other key", "domain", key.ID, otherKey(t, "x").Public(), string(good), ErrBadSignature},
		{"no key", "domain", key.ID, nil, string(good), ErrBadSignature},
		{"no signatures", "domain", key.ID, key.Public(), `{"a":1}`, ErrBadSignature},
		{"signatures no object", "domain", key.ID, key.Public(), `{"a":1,"signatures":[]}`, ErrBadSignature},
		{"server no object", "domain", key.ID, key.Public(), `{"a":1,"signatures":{"domain":"x"}}`, ErrBadSignature},
		{"no string", "domain", key.ID, key.Public(), `{"a":1,"signatures":{"domain":{"ed25519:1":1}}}`, ErrBadSignature},
		{"no base64", "domain", key.ID, key.Public(), `{"a":1,"signatures":{"domain":{"ed25519:1":"%%%"}}}`, ErrBadSignature},
		{"short", "domain", key.ID, key.Public(), `{"a":1,"signatures":{"domain":{"ed25519:1":"AAAA"}}}`, ErrBadSignature},
		{"duplicate key", "domain", key.ID, key.Public(), strings.Replace(string(good), `"a":1`, `"a":2,"a":1`, 1), ErrBadJSON},
		{"no object", "domain", key.ID, key.Public(), `[]`, ErrBadJSON},
		{"no JSON", "domain", key.ID, key.Public(), `{`, ErrBadJSON},
	}
	for _, test := range tests {
		if err := VerifyJSON(test.server, test.id, test.public, []byte(test.object)); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, err, test.want)
		}
	}
	for _, object := range []string{`{"signatures":1}`, `{"signatures":{"domain":1}}`, `[]`, `{`} {
		if _, err := SignJSON("domain", key, []byte(object)); !errors.Is(err, ErrBadJSON) {
			t.Errorf("SignJSON(%s): %v", object, err)
		}
	}
}

func TestVerifyAll(t *testing.T) {
	key := testKey(t)
	signed, err := SignJSON("domain", key, []byte(`{"a":1}`))
	if err != nil {
		t.Fatal(err)
	}
	event := messageEvent(t, RoomVersionV12, key)
	var checks []SignatureCheck
	for i := range 50 {
		check := SignatureCheck{Object: signed, Server: "domain", KeyID: key.ID, Public: key.Public()}
		switch i % 3 {
		case 1:
			check.Server = "other"
		case 2:
			check.Event, check.Object = event, nil
		}
		checks = append(checks, check)
	}
	for n := range checks {
		errs := VerifyAll(checks[:n])
		if len(errs) != n {
			t.Fatalf("%d answers for %d checks", len(errs), n)
		}
		for i, err := range errs {
			if bad := i%3 == 1; bad != (err != nil) {
				t.Errorf("check %d: %v", i, err)
			}
		}
	}
}

func TestParseSigningKeys(t *testing.T) {
	one, two := testKey(t), otherKey(t, "a_B2")
	file := "# keys\n\n" + one.String() + "\r\n  " + two.String() + "  \n"
	keys, err := ParseSigningKeys(strings.NewReader(file))
	if err != nil || len(keys) != 2 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	for i, want := range []SigningKey{one, two} {
		if keys[i].ID != want.ID || !keys[i].Private.Equal(want.Private) {
			t.Errorf("key %d is %s, want %s", i, keys[i].ID, want.ID)
		}
	}
	padded := "ed25519 1 " + base64.StdEncoding.EncodeToString(one.Private.Seed())
	if keys, err := ParseSigningKeys(strings.NewReader(padded)); err != nil || !keys[0].Private.Equal(one.Private) {
		t.Errorf("padded seed: %v", err)
	}
	seed := EncodeBase64(one.Private.Seed())
	for _, bad := range []string{
		"", "#", "ed25519 1", "ed25519 1 " + seed + " x", "rsa 1 " + seed, "ed25519 a-1 " + seed, "ed25519 1 !" + seed[1:],
		"ed25519 1 " + seed[:40], "ed25519 1 " + seed + "AAAA", one.String() + "\n" + one.String(), strings.Repeat("x", 5000),
	} {
		_, err := ParseSigningKeys(strings.NewReader(bad))
		if err == nil {
			t.Errorf("accepted %q", bad)
		} else if strings.Contains(err.Error(), seed[1:40]) {
			t.Errorf("the error shows the seed: %v", err)
		}
	}
	for _, version := range []string{"", "a-1", "a b", "ä"} {
		if _, err := GenerateSigningKey(version, strings.NewReader(strings.Repeat("x", 32))); err == nil {
			t.Errorf("made a key of version %q", version)
		}
	}
	if _, err := GenerateSigningKey("1", strings.NewReader("short")); err == nil {
		t.Error("made a key from too little randomness")
	}
}

// spec: appendices §unpadded-base64
func TestBase64(t *testing.T) {
	for plain, encoded := range map[string]string{
		"": "", "f": "Zg", "fo": "Zm8", "foo": "Zm9v", "foob": "Zm9vYg", "fooba": "Zm9vYmE", "foobar": "Zm9vYmFy",
	} {
		if got := EncodeBase64([]byte(plain)); got != encoded {
			t.Errorf("EncodeBase64(%q) = %q", plain, got)
		}
		for _, in := range []string{encoded, encoded + strings.Repeat("=", (4-len(encoded)%4)%4)} {
			if got, err := DecodeBase64(in); err != nil || string(got) != plain {
				t.Errorf("DecodeBase64(%q) = %q, %v", in, got, err)
			}
		}
	}
	for _, bad := range []string{"Z", "Z-8", "Zm\n8", "Zm8 ", "=Zm8"} {
		if got, err := DecodeBase64(bad); err == nil {
			t.Errorf("DecodeBase64(%q) = %q", bad, got)
		}
	}
}

func FuzzParseSigningKeys(f *testing.F) {
	f.Add("ed25519 1 YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1\n")
	f.Add("# c\n\ned25519 a_1 YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1=\r\n")
	f.Add("rsa 1 x")
	f.Fuzz(func(t *testing.T, file string) {
		keys, err := ParseSigningKeys(strings.NewReader(file))
		if err != nil {
			return
		}
		var written strings.Builder
		for _, key := range keys {
			written.WriteString(key.String() + "\n")
		}
		again, err := ParseSigningKeys(strings.NewReader(written.String()))
		if err != nil || len(again) != len(keys) {
			t.Fatalf("%d keys of %d read again: %v", len(again), len(keys), err)
		}
		for i := range keys {
			if keys[i].ID != again[i].ID || !keys[i].Private.Equal(again[i].Private) {
				t.Fatalf("key %d changed", i)
			}
		}
	})
}

func FuzzVerifyJSON(f *testing.F) {
	key := testKey(f)
	for _, object := range []string{
		`{}`, `{"a":1.5,"signatures":{"domain":{"ed25519:1":"AAAA"}}}`, `{"signatures":1}`, `{"unsigned":[],"\n":{}}`, `[]`,
	} {
		f.Add("domain", []byte(object))
	}
	f.Add("a\"b", []byte(`{"signatures":{"a\"b":{"ed25519:1":"x","":""}}}`))
	f.Fuzz(func(t *testing.T, server string, object []byte) {
		_ = VerifyJSON(server, key.ID, key.Public(), object)
		signed, err := SignJSON(server, key, object)
		if err != nil {
			return
		}
		if err := VerifyJSON(server, key.ID, key.Public(), signed); err != nil {
			t.Fatalf("%s does not verify: %v", signed, err)
		}
	})
}
