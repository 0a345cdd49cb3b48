package clientapi

import (
	"crypto/ed25519"
	"fmt"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
)

// signer is a key with the name that signatures give it.
type signer struct {
	name string
	key  ed25519.PrivateKey
}

func newSigner(t *testing.T, name string) *signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &signer{name, private}
	if name == "" {
		s.name = s.public()
	}
	return s
}

func (s *signer) public() string {
	return gomatrixserverlib.EncodeBase64(s.key.Public().(ed25519.PublicKey))
}

// sign adds a signature of a user to an object and returns its JSON.
func (s *signer) sign(t *testing.T, user, object string) string {
	t.Helper()
	signed, err := gomatrixserverlib.SignJSON(user, gomatrixserverlib.SigningKey{ID: gomatrixserverlib.KeyID("ed25519:" + s.name), Private: s.key}, []byte(object))
	if err != nil {
		t.Fatal(err)
	}
	return string(signed)
}

// deviceKeys are identity keys of a device, signed by itself.
func deviceKeys(t *testing.T, user string, d *signer) string {
	t.Helper()
	return d.sign(t, user, fmt.Sprintf(`{"user_id":%q,"device_id":%q,"algorithms":["m.olm.v1.curve25519-aes-sha2"],"keys":{"ed25519:%s":%q,"curve25519:%s":%q}}`,
		user, d.name, d.name, d.public(), d.name, d.public()))
}

// crossKey is a cross-signing key, not signed.
func crossKey(user, usage string, s *signer) string {
	return fmt.Sprintf(`{"user_id":%q,"usage":[%q],"keys":{"ed25519:%s":%q}}`, user, usage, s.public(), s.public())
}

// at walks into an answer.
func (a answer) at(path ...string) any {
	var v any = a.body
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	return v
}

func TestKeys(t *testing.T) { sqldbtest.Each(t, testKeys) }

func testKeys(t *testing.T) {
	w := newAccountWorld(t, config.Registration{Open: true})
	alice, bob := w.signUp("alice"), w.signUp("bob")
	const id = "@alice:test"
	d := newSigner(t, "D")
	keys := deviceKeys(t, id, d)
	otk := func(id string) string {
		return `"signed_curve25519:` + id + `":` + d.sign(t, "@alice:test", `{"key":"`+id+`"}`)
	}
	up := w.must(alice, "POST", "/keys/upload", `{"device_keys":`+keys+`,"one_time_keys":{`+otk("a")+`},"fallback_keys":{`+otk("f")+`}}`)
	if up.at("one_time_key_counts", "signed_curve25519") != 1.0 {
		t.Error(up.raw)
	}
	if empty := w.must(bob, "POST", "/keys/upload", `{}`); empty.at("one_time_key_counts", "signed_curve25519") != 0.0 {
		t.Error(empty.raw)
	}
	w.must(alice, "PUT", "/devices/D", `{"display_name":"phone"}`)
	for _, c := range []struct{ want, method, path, body string }{
		{"400 M_INVALID_PARAM", "POST", "/keys/upload", `{"device_keys":` + keys + `}`}, // bob's device is not alice's
		{"400 M_BAD_JSON", "POST", "/keys/upload", `{"one_time_keys":[]}`},
		{"400 M_BAD_JSON", "POST", "/keys/query", `{"device_keys":{"@alice:test":{}}}`},
		{"400 M_MISSING_PARAM", "POST", "/keys/query", `{}`},
		{"400 M_MISSING_PARAM", "POST", "/keys/claim", `{}`},
		{"400 M_BAD_JSON", "POST", "/keys/claim", `{"one_time_keys":{"@alice:test":"x"}}`},
		{"401 M_MISSING_TOKEN", "", "", ""},
		{"400 M_BAD_JSON", "PUT", "/sendToDevice/m.x/t", `{"messages":{"@alice:test":{"D":"x"}}}`},
		{"400 M_MISSING_PARAM", "PUT", "/sendToDevice/m.x/t", `{}`},
		{"413 M_TOO_LARGE", "PUT", "/sendToDevice/m.x/t", `{"messages":{"@alice:test":{"D":{"x":"` + strings.Repeat("x", maxToDeviceBytes) + `"}}}}`},
		{"200", "PUT", "/sendToDevice/m.x/t", `{"messages":{"@alice:test":{"D":{"x":1}},"@far:away":{"*":{}}}}`},
	} {
		user := bob
		if c.method == "" {
			c.method, c.path, user = "POST", "/keys/query", ""
		}
		w.expect(c.want, user, c.method, c.path, c.body)
	}
	for range 2 { // a question changes nothing
		got := w.must(bob, "POST", "/keys/query", `{"device_keys":{"@alice:test":[],"@nobody:test":[],"@far:away":[]}}`)
		if got.at("device_keys", id, "D", "keys", "ed25519:D") != d.public() || got.at("device_keys", id, "D", "unsigned", "device_display_name") != "phone" ||
			len(got.at("failures").(map[string]any)) != 0 || got.at("device_keys", "@nobody:test") != nil || got.at("device_keys", "@far:away") != nil {
			t.Error(got.raw)
		}
	}
	if none := w.must(bob, "POST", "/keys/query", `{"device_keys":{"@alice:test":["OTHER"],"@bob:test":[]}}`); none.at("device_keys", id, "D") != nil || none.at("device_keys", "@bob:test") == nil {
		t.Error(none.raw)
	}
	const claim = `{"one_time_keys":{"@alice:test":{"D":"signed_curve25519","X":"signed_curve25519"},"@far:away":{"D":"signed_curve25519"}}}`
	for _, want := range []string{"a", "f", "f"} {
		got := w.must(bob, "POST", "/keys/claim", claim)
		if got.at("one_time_keys", id, "D", "signed_curve25519:"+want, "key") != want || got.at("one_time_keys", "@far:away") != nil {
			t.Errorf("%s: %s", want, got.raw)
		}
	}
	w.must(alice, "POST", "/logout", `{}`)
	if gone := w.must(bob, "POST", "/keys/query", `{"device_keys":{"@alice:test":[]}}`); gone.at("device_keys", id, "D") != nil {
		t.Error(gone.raw)
	}
	if gone := w.must(bob, "POST", "/keys/claim", claim); gone.at("one_time_keys", id) != nil {
		t.Error(gone.raw)
	}
}

func TestCrossSigning(t *testing.T) { sqldbtest.Each(t, testCrossSigning) }

func testCrossSigning(t *testing.T) {
	w := newAccountWorld(t, config.Registration{Open: true})
	alice, bob := w.signUp("alice"), w.signUp("bob")
	const id, bobID = "@alice:test", "@bob:test"
	d, b := newSigner(t, "D"), newSigner(t, "D")
	w.must(alice, "POST", "/keys/upload", `{"device_keys":`+deviceKeys(t, id, d)+`}`)
	w.must(bob, "POST", "/keys/upload", `{"device_keys":`+deviceKeys(t, bobID, b)+`}`)
	master, self, user := newSigner(t, ""), newSigner(t, ""), newSigner(t, "")
	masterKey := crossKey(id, "master", master)
	selfKey, userKey := master.sign(t, id, crossKey(id, "self_signing", self)), master.sign(t, id, crossKey(id, "user_signing", user))
	const upload = "/keys/device_signing/upload"
	all := `{"master_key":` + masterKey + `,"self_signing_key":` + selfKey + `,"user_signing_key":` + userKey
	w.expect("400 M_MISSING_PARAM", alice, "POST", upload, `{"self_signing_key":`+selfKey+`}`)
	w.expect("400 M_INVALID_SIGNATURE", alice, "POST", upload, `{"master_key":`+masterKey+`,"self_signing_key":`+crossKey(id, "self_signing", self)+`}`)
	w.expect("400 M_INVALID_PARAM", alice, "POST", upload, `{"master_key":`+crossKey(bobID, "master", master)+`}`)
	w.expect("400 M_INVALID_PARAM", alice, "POST", upload, `{"master_key":`+selfKey+`}`)
	w.expect("200", alice, "POST", upload, all+"}")
	w.expect("200", alice, "POST", upload, all+"}") // the same again
	other := newSigner(t, "")
	reset := `{"master_key":` + crossKey(id, "master", other)
	first := w.expect("401", alice, "POST", upload, reset+"}")
	w.expect("401", alice, "POST", upload, `{"self_signing_key":`+master.sign(t, id, crossKey(id, "self_signing", other))+`}`)

	third := newSigner(t, "")
	w.must("", "POST", "/login", `{"type":"m.login.password","user":"alice","password":"secret","device_id":"`+third.public()+`"}`)
	w.expect("403 M_FORBIDDEN", alice, "POST", upload, `{"master_key":`+crossKey(id, "master", third)+`}`)

	// Signatures: who sees which.
	object := deviceKeys(t, id, d)
	bobMaster := newSigner(t, "")
	w.expect("200", bob, "POST", upload, `{"master_key":`+crossKey(bobID, "master", bobMaster)+`}`)
	const sign = "/keys/signatures/upload"
	signed := func(keys map[string]map[string]string) string {
		text := map[string]map[string]any{}
		for u, of := range keys {
			text[u] = map[string]any{}
			for k, raw := range of {
				var v any
				if err := json.Unmarshal([]byte(raw), &v); err != nil {
					t.Fatal(err)
				}
				text[u][k] = v
			}
		}
		raw, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	good := w.must(alice, "POST", sign, signed(map[string]map[string]string{
		id: {
			"D":             self.sign(t, id, object),
			master.public(): d.sign(t, id, masterKey),
		},
		bobID: {bobMaster.public(): user.sign(t, id, crossKey(bobID, "master", bobMaster))},
	}))
	if len(good.at("failures").(map[string]any)) != 0 {
		t.Fatal(good.raw)
	}
	bad := w.must(alice, "POST", sign, signed(map[string]map[string]string{
		id: {
			"D":    other.sign(t, id, object),
			"NONE": self.sign(t, id, strings.ReplaceAll(object, `"D"`, `"NONE"`)),
		},
		bobID: {bobMaster.public(): user.sign(t, id, crossKey(bobID, "master", other)), "D": user.sign(t, id, deviceKeys(t, bobID, b))},
	}))
	for path, want := range map[[2]string]string{{id, "D"}: "M_INVALID_SIGNATURE", {id, "NONE"}: "M_NOT_FOUND", {bobID, bobMaster.public()}: "M_INVALID_PARAM", {bobID, "D"}: "M_NOT_FOUND"} {
		if got := bad.at("failures", path[0], path[1], "errcode"); got != want {
			t.Errorf("%v: %v, want %s", path, got, want)
		}
	}
	const query = `{"device_keys":{"@alice:test":[],"@bob:test":[]}}`
	mine, his := w.must(alice, "POST", "/keys/query", query), w.must(bob, "POST", "/keys/query", query)
	for who, got := range map[string]answer{"alice": mine, "bob": his} {
		if got.at("device_keys", id, "D", "signatures", id, "ed25519:"+self.public()) == nil || got.at("device_keys", id, "D", "signatures", id, "ed25519:D") == nil ||
			got.at("master_keys", id, "signatures", id, "ed25519:D") == nil || got.at("self_signing_keys", id, "keys", "ed25519:"+self.public()) == nil {
			t.Errorf("%s sees %s", who, got.raw)
		}
	}
	if mine.at("user_signing_keys", id) == nil || mine.at("master_keys", bobID, "signatures", id, "ed25519:"+user.public()) == nil {
		t.Errorf("alice sees %s", mine.raw)
	}
	if his.at("user_signing_keys", id) != nil || his.at("master_keys", bobID, "signatures", id) != nil {
		t.Errorf("bob sees %s", his.raw)
	}

	// A reset, with the password: what the old keys signed is gone.
	auth := `,"auth":{"type":"m.login.password","password":"secret","identifier":{"type":"m.id.user","user":"alice"},"session":"` + first.body["session"].(string) + `"}}`
	w.expect("200", alice, "POST", upload, reset+auth)
	after := w.must(alice, "POST", "/keys/query", query)
	if after.at("master_keys", id, "keys", "ed25519:"+other.public()) == nil || after.at("self_signing_keys", id) != nil || after.at("user_signing_keys", id) != nil ||
		after.at("device_keys", id, "D", "signatures", id, "ed25519:"+self.public()) != nil || after.at("master_keys", bobID, "signatures", id) != nil {
		t.Errorf("after a reset: %s", after.raw)
	}
}

func TestKeyBackup(t *testing.T) { sqldbtest.Each(t, testKeyBackup) }

func testKeyBackup(t *testing.T) {
	w := newAccountWorld(t, config.Registration{Open: true})
	alice, bob := w.signUp("alice"), w.signUp("bob")
	const version, keys = "/room_keys/version", "/room_keys/keys"
	body := func(auth string) string {
		return `{"algorithm":"m.megolm_backup.v1.curve25519-aes-sha2","auth_data":{"public_key":"` + auth + `"}}`
	}
	key := func(index, forwarded int, verified bool, data string) string {
		return fmt.Sprintf(`{"first_message_index":%d,"forwarded_count":%d,"is_verified":%v,"session_data":{"d":%q}}`, index, forwarded, verified, data)
	}
	w.expect("404 M_NOT_FOUND", alice, "GET", version, "")
	w.expect("404 M_NOT_FOUND", alice, "PUT", keys+"?version=1", `{"rooms":{}}`)
	w.expect("400 M_MISSING_PARAM", alice, "POST", version, `{}`)
	if got := w.must(alice, "POST", version, body("a")); got.body["version"] != "1" {
		t.Fatal(got.raw)
	}
	w.expect("404 M_NOT_FOUND", bob, "GET", version+"/1", "")
	w.expect("400 M_MISSING_PARAM", alice, "PUT", keys, `{"rooms":{}}`)
	w.expect("400 M_MISSING_PARAM", alice, "PUT", keys+"/!r:test/s?version=1", `{"first_message_index":1}`)
	w.expect("400 M_INVALID_PARAM", alice, "PUT", keys+"/!r:test/s?version=1", key(-1, 0, true, "x"))

	// Which key stays.
	state := ""
	for i, c := range []struct {
		key  string
		kept bool
	}{
		{key(5, 2, false, "first"), true},
		{key(5, 2, false, "same"), false},
		{key(5, 1, false, "fewer hands"), true},
		{key(4, 9, false, "earlier"), true},
		{key(6, 0, false, "later"), false},
		{key(9, 9, true, "verified"), true},
		{key(0, 0, false, "not verified"), false},
	} {
		put := w.must(alice, "PUT", keys+"/!r:test/a%2Fb?version=1", c.key)
		got := w.must(alice, "GET", keys+"/!r:test/a%2Fb?version=1", "")
		if put.body["count"] != 1.0 || strings.Contains(c.key, `"d":"`+got.at("session_data", "d").(string)+`"`) != c.kept {
			t.Errorf("%d: %s, %s", i, put.raw, got.raw)
		}
		if changed := put.body["etag"] != state; changed != c.kept {
			t.Errorf("%d: etag %v, before %v", i, put.body["etag"], state)
		}
		state = put.body["etag"].(string)
	}
	many := w.must(alice, "PUT", keys+"?version=1", `{"rooms":{"!r:test":{"sessions":{"t":`+key(1, 0, true, "t")+`,"a/b":`+key(99, 0, false, "x")+`}},"!q:test":{"sessions":{"u":`+key(1, 0, true, "u")+`}}}}`)
	room := w.must(alice, "PUT", keys+"/!q:test?version=1", `{"sessions":{"v":`+key(1, 0, true, "v")+`}}`)
	if many.body["count"] != 3.0 || room.body["count"] != 4.0 {
		t.Error(many.raw, room.raw)
	}
	info := w.must(alice, "GET", version, "")
	if info.body["count"] != 4.0 || info.body["etag"] != room.body["etag"] || info.at("auth_data", "public_key") != "a" {
		t.Error(info.raw)
	}
	if all := w.must(alice, "GET", keys+"?version=1", ""); all.at("rooms", "!q:test", "sessions", "v", "session_data", "d") != "v" || all.at("rooms", "!r:test", "sessions", "a/b") == nil {
		t.Error(all.raw)
	}
	w.expect("404 M_NOT_FOUND", alice, "GET", keys+"/!q:test/none?version=1", "")
	if empty := w.must(alice, "GET", keys+"/!none:test?version=1", ""); empty.raw != `{"sessions":{}}` {
		t.Error(empty.raw)
	}
	w.expect("400 M_INVALID_PARAM", alice, "PUT", version+"/1", strings.Replace(body("b"), "v1.curve", "v2.curve", 1))
	w.expect("400 M_INVALID_PARAM", alice, "PUT", version+"/1", strings.Replace(body("b"), "{", `{"version":"2",`, 1))
	w.expect("404 M_NOT_FOUND", alice, "PUT", version+"/7", body("b"))
	w.must(alice, "PUT", version+"/1", body("b"))
	if got := w.must(alice, "GET", version+"/1", ""); got.at("auth_data", "public_key") != "b" {
		t.Error(got.raw)
	}
	for _, path := range []string{keys + "/!r:test/t", keys + "/!q:test", keys} {
		w.expect("404 M_NOT_FOUND", alice, "DELETE", path+"?version=9", "")
	}
	for _, c := range []struct {
		path string
		left float64
	}{{keys + "/!r:test/t", 3}, {keys + "/!q:test", 1}, {keys, 0}, {keys, 0}} {
		if got := w.must(alice, "DELETE", c.path+"?version=1", ""); got.body["count"] != c.left {
			t.Errorf("%s: %s", c.path, got.raw)
		}
	}

	// Another version takes the place of the first.
	w.must(alice, "PUT", keys+"/!r:test/s?version=1", key(1, 0, true, "s"))
	w.must(alice, "POST", version, body("c"))
	wrong := w.expect("403 M_WRONG_ROOM_KEYS_VERSION", alice, "PUT", keys+"/!r:test/s?version=1", key(0, 0, true, "s"))
	if wrong.body["current_version"] != "2" {
		t.Error(wrong.raw)
	}
	w.expect("200", alice, "GET", keys+"/!r:test/s?version=1", "")
	w.must(alice, "DELETE", version+"/2", "")
	w.must(alice, "DELETE", version+"/2", "") // again
	w.expect("404 M_NOT_FOUND", alice, "DELETE", version+"/3", "")
	w.expect("404 M_NOT_FOUND", alice, "GET", version+"/2", "")
	w.expect("404 M_NOT_FOUND", alice, "GET", keys+"?version=2", "")
	if got := w.must(alice, "GET", version, ""); got.body["version"] != "1" {
		t.Error(got.raw)
	}
	if got := w.must(alice, "POST", version, body("d")); got.body["version"] != "3" {
		t.Error(got.raw)
	}
}

func TestDehydratedDevice(t *testing.T) { sqldbtest.Each(t, testDehydratedDevice) }

func testDehydratedDevice(t *testing.T) {
	w := newAccountWorld(t, config.Registration{Open: true})
	alice, bob := w.signUp("alice"), w.signUp("bob")
	const id, path = "@alice:test", "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device"
	w.expect("404 M_NOT_FOUND", alice, "GET", path, "")
	w.expect("404 M_NOT_FOUND", alice, "DELETE", path, "")
	w.expect("403 M_FORBIDDEN", alice, "POST", path+"/ONE/events", "{}")
	put := func(name string) string {
		d := newSigner(t, name)
		return `{"device_id":"` + name + `","device_data":{"algorithm":"m.dehydration.v2","device_pickle":"p"},"initial_device_display_name":"asleep","device_keys":` +
			deviceKeys(t, id, d) + `,"fallback_keys":{"signed_curve25519:f":` + d.sign(t, id, `{"key":"f","fallback":true}`) + `}}`
	}
	w.expect("400 M_MISSING_PARAM", alice, "PUT", path, `{"device_id":"ONE"}`)
	w.expect("400 M_INVALID_PARAM", alice, "PUT", path, put("D")) // the one that is awake
	for _, name := range []string{"ONE", "TWO"} {
		w.must(alice, "PUT", path, put(name))
	}
	if got := w.must(alice, "GET", path, ""); got.body["device_id"] != "TWO" || got.at("device_data", "device_pickle") != "p" {
		t.Error(got.raw)
	}
	known := w.must(bob, "POST", "/keys/query", `{"device_keys":{"@alice:test":[]}}`)
	if known.at("device_keys", id, "ONE") != nil || known.at("device_keys", id, "TWO", "unsigned", "device_display_name") != "asleep" {
		t.Error(known.raw)
	}
	if got := w.must(bob, "POST", "/keys/claim", `{"one_time_keys":{"@alice:test":{"TWO":"signed_curve25519"}}}`); got.at("one_time_keys", id, "TWO") == nil {
		t.Error(got.raw)
	}
	const sent = dehydratedBatch + 20
	for i := range sent {
		w.must(bob, "PUT", fmt.Sprintf("/sendToDevice/m.x/%d", i), fmt.Sprintf(`{"messages":{"@alice:test":{"TWO":{"n":%d}}}}`, i))
	}
	w.expect("403 M_FORBIDDEN", alice, "GET", path+"/ONE/events", "")
	w.expect("400 M_INVALID_PARAM", alice, "GET", path+"/TWO/events?from=x", "")
	for _, method := range []string{"GET", "POST"} { // nothing is deleted by reading
		var got []any
		for next, calls := "", 0; calls < 4; calls++ {
			query, body := "", "{}"
			if method == "GET" && next != "" {
				query = "?from=" + next
			} else if next != "" {
				body = `{"next_batch":"` + next + `"}`
			}
			a := w.must(alice, method, path+"/TWO/events"+query, body)
			list, _ := a.body["events"].([]any)
			got = append(got, list...)
			next, _ = a.body["next_batch"].(string)
			if method == "GET" && next == "" || method == "POST" && len(list) == 0 {
				break
			}
		}
		if len(got) != sent {
			t.Fatalf("%s: %d messages", method, len(got))
		}
		for i, e := range got {
			m := e.(map[string]any)
			if m["content"].(map[string]any)["n"] != float64(i) || m["sender"] != "@bob:test" || m["type"] != "m.x" {
				t.Fatalf("%s: message %d is %v", method, i, m)
			}
		}
	}
	if got := w.must(alice, "DELETE", path, ""); got.body["device_id"] != "TWO" {
		t.Error(got.raw)
	}
	w.expect("404 M_NOT_FOUND", alice, "GET", "/devices/TWO", "")
}

// TestSecretStorage: what clients keep secret is account data.
func TestSecretStorage(t *testing.T) { sqldbtest.Each(t, testSecretStorage) }

func testSecretStorage(t *testing.T) {
	w := newAccountWorld(t, config.Registration{Open: true})
	alice := w.signUp("alice")
	for typ, content := range map[string]string{
		"m.secret_storage.default_key": `{"key":"k"}`,
		"m.secret_storage.key.k":       `{"algorithm":"m.secret_storage.v1.aes-hmac-sha2","iv":"i","mac":"m"}`,
		"m.cross_signing.master":       `{"encrypted":{"k":{"iv":"i","ciphertext":"c","mac":"m"}}}`,
		"m.megolm_backup.v1":           `{"encrypted":{"k":{"iv":"i","ciphertext":"c","mac":"m"}}}`,
	} {
		w.must(alice, "PUT", "/user/@alice:test/account_data/"+typ, content)
		if got := w.must(alice, "GET", "/user/@alice:test/account_data/"+typ, ""); got.raw != content {
			t.Errorf("%s: %s", typ, got.raw)
		}
	}
}
