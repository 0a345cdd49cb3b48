package e2e

import (
	"net/url"
	"testing"
)

// keys of devices.
func (w *town) keys(t *testing.T) {
	grace := w.account(t, "grace", false)
	k := newSigningKey(t, grace.device)
	grace.call(t, "POST", "/keys/upload", object{"device_keys": k.deviceKeys(t, grace.id), "one_time_keys": k.prekeys(t, grace.id, "1")})
	refuseAll(t, []refusal{
		{grace, 400, "M_INVALID_PARAM", "POST", "/keys/upload", object{"device_keys": k.deviceKeys(t, w.bob.id)}}, // whose they are not
		{w.bob, 400, "M_BAD_JSON", "POST", "/keys/query", object{"device_keys": 1}},
		{w.bob, 400, "M_BAD_JSON", "POST", "/keys/claim", object{"one_time_keys": []int{1}}},
		{w.bob, 400, "M_INVALID_PARAM", "GET", "/keys/changes?from=nonsense&to=nonsense", nil},
		{w.bob, 400, "M_MISSING_PARAM", "GET", "/keys/changes", nil},
	})
}

// crossSigning: whose the keys are is proved by a password, and by signatures.
func (w *town) crossSigning(t *testing.T) {
	heidi := w.account(t, "heidi", false)
	k, master, self := newSigningKey(t, heidi.device), newSigningKey(t, ""), newSigningKey(t, "")
	heidi.call(t, "POST", "/keys/upload", object{"device_keys": k.deviceKeys(t, heidi.id)})
	heidi.call(t, "POST", "/keys/device_signing/upload", object{"master_key": master.crossSigning(heidi.id, "master"),
		"self_signing_key": master.sign(t, heidi.id, self.crossSigning(heidi.id, "self_signing"))})
	next := newSigningKey(t, "")
	heidi.confirmed(t, "POST", "/keys/device_signing/upload", object{"master_key": next.crossSigning(heidi.id, "master"),
		"self_signing_key": next.sign(t, heidi.id, self.crossSigning(heidi.id, "self_signing"))})
	if got := w.bob.call(t, "POST", "/keys/query", object{"device_keys": object{heidi.id: []string{}}}); dig(got.body, "master_keys", heidi.id, "keys", "ed25519:"+next.name) == nil {
		t.Errorf("bob sees %s", got.raw)
	}
	wrong := k.sign(t, heidi.id, k.deviceKeys(t, heidi.id))
	wrong["signatures"] = object{heidi.id: object{"ed25519:" + self.name: "bm8gc2lnbmF0dXJl"}}
	if got := heidi.call(t, "POST", "/keys/signatures/upload", object{heidi.id: object{heidi.device: wrong}}); dig(got.body, "failures", heidi.id, heidi.device, "errcode") != "M_INVALID_SIGNATURE" {
		t.Errorf("a signature that is none: %s", got.raw)
	}
	ivan := w.account(t, "ivan", false)
	refuseAll(t, []refusal{
		{ivan, 400, "M_MISSING_PARAM", "POST", "/keys/device_signing/upload", object{"self_signing_key": self.crossSigning(ivan.id, "self_signing")}},
		{ivan, 400, "M_INVALID_SIGNATURE", "POST", "/keys/device_signing/upload", object{"master_key": master.crossSigning(ivan.id, "master"),
			"self_signing_key": self.sign(t, ivan.id, next.crossSigning(ivan.id, "self_signing"))}},
		{ivan, 400, "M_BAD_JSON", "POST", "/keys/signatures/upload", object{ivan.id: 1}},
	})
}

// keyBackup: versions, and keys in them.
func (w *town) keyBackup(t *testing.T) {
	judy := w.account(t, "judy", false)
	second, _ := w.login(t, judy, nil)
	judy.refused(t, 404, "M_NOT_FOUND", "GET", versions, nil)
	version := judy.call(t, "POST", versions, backupBody("p")).str("version")
	judy.call(t, "PUT", versions+"/"+version, backupBody("q"))
	if got := second.call(t, "GET", versions, nil); got.str("version") != version || dig(got.body, "auth_data", "public_key") != "q" || got.body["count"] != 0.0 {
		t.Errorf("the backup is %s", got.raw)
	}
	room, other := "!one:localhost", "!other:localhost"
	in, at, one := backedUp+"/"+url.PathEscape(room), "?version="+version, backedUp+"/"+url.PathEscape(room)+"/s1"
	first := judy.call(t, "PUT", one+at, roomKey(3))
	judy.call(t, "PUT", in+at, object{"sessions": object{"s2": roomKey(1)}})
	last := judy.call(t, "PUT", backedUp+at, object{"rooms": object{other: object{"sessions": object{"s3": roomKey(0)}}}})
	if last.body["count"] != 3.0 || last.str("etag") == first.str("etag") {
		t.Errorf("three keys are kept: %s", last.raw)
	}
	judy.call(t, "PUT", one+at, roomKey(5)) // worse, so the old one stays
	if got := second.call(t, "GET", one+at, nil); got.body["first_message_index"] != 3.0 {
		t.Errorf("the key is %s", got.raw)
	}
	if got := second.call(t, "GET", in+at, nil); dig(got.body, "sessions", "s1") == nil || dig(got.body, "sessions", "s2") == nil {
		t.Errorf("the room's keys are %s", got.raw)
	}
	if got := second.call(t, "GET", backedUp+at, nil); dig(got.body, "rooms", other, "sessions", "s3") == nil {
		t.Errorf("the keys are %s", got.raw)
	}
	for _, step := range []struct {
		path string
		left float64
	}{{one, 2}, {in, 1}, {backedUp, 0}} {
		if got := judy.call(t, "DELETE", step.path+at, nil); got.body["count"] != step.left {
			t.Errorf("without %s: %s", step.path, got.raw)
		}
	}
	if got := second.call(t, "GET", versions+"/"+version, nil); got.body["count"] != 0.0 {
		t.Errorf("the emptied backup is %s", got.raw)
	}
	w.backupsRefused(t, judy, second, room, version)
}

// roomKey is a key as a backup has it.
func roomKey(index int) object {
	return object{"first_message_index": index, "forwarded_count": 0, "is_verified": true,
		"session_data": object{"ephemeral": "AAAA", "ciphertext": "BBBB", "mac": "CCCC"}}
}

// backupBody describes a backup.
func backupBody(key string) object {
	return object{"algorithm": "m.megolm_backup.v1.curve25519-aes-sha2", "auth_data": object{"public_key": key, "signatures": object{}}}
}

const versions, backedUp = "/room_keys/version", "/room_keys/keys"

// backupsRefused: what a new version makes of an old one, and what is not there.
func (w *town) backupsRefused(t *testing.T, judy, second *user, room, version string) {
	in, at, one := backedUp+"/"+url.PathEscape(room), "?version="+version, backedUp+"/"+url.PathEscape(room)+"/s1"
	newer := judy.call(t, "POST", versions, backupBody("r")).str("version")
	var all []refusal
	for path, full := range map[string]object{one: roomKey(1), in: {"sessions": object{}}, backedUp: {"rooms": object{}}} {
		all = append(all,
			refusal{judy, 403, "M_WRONG_ROOM_KEYS_VERSION", "PUT", path + at, full},
			refusal{w.bob, 404, "M_NOT_FOUND", "PUT", path + at, full}, // who has no backup
			refusal{judy, 404, "M_NOT_FOUND", "GET", path + "?version=9999", nil},
			refusal{judy, 404, "M_NOT_FOUND", "DELETE", path + "?version=9999", nil},
			refusal{judy, 400, "M_MISSING_PARAM", "PUT", path, full},
		)
	}
	refuseAll(t, append(all, []refusal{
		{second, 404, "M_NOT_FOUND", "GET", one + at, nil},
		{judy, 400, "M_INVALID_PARAM", "PUT", versions + "/" + version, object{"algorithm": "a", "auth_data": object{}, "version": newer}},
		{judy, 400, "M_MISSING_PARAM", "POST", versions, object{}},
		{judy, 404, "M_NOT_FOUND", "PUT", versions + "/9999", backupBody("x")},
		{judy, 404, "M_NOT_FOUND", "GET", versions + "/9999", nil},
		{w.bob, 404, "M_NOT_FOUND", "DELETE", versions + "/9999", nil},
	}...))
	judy.call(t, "DELETE", versions+"/"+newer, nil)
	if got := second.call(t, "GET", versions, nil); got.str("version") != version {
		t.Errorf("the newest is %s", got.raw)
	}
}

// toDevice: what goes to devices past rooms.
func (w *town) toDevice(t *testing.T) {
	second, _ := w.login(t, w.bob, nil)
	since := second.syncOnce(t, "", "0").str("next_batch")
	w.alice.call(t, "PUT", "/sendToDevice/org.example.ring/1", object{"messages": object{w.bob.id: object{second.device: object{"n": 1}}}})
	second.syncUntil(t, since, "the message", func(body object) bool {
		return dig(find(dig(body, "to_device", "events"), "type", "org.example.ring"), "content", "n") == 1.0
	})
	refuseAll(t, []refusal{
		{w.alice, 400, "M_MISSING_PARAM", "PUT", "/sendToDevice/org.example.ring/2", object{}},
		{w.alice, 400, "M_BAD_JSON", "PUT", "/sendToDevice/org.example.ring/2", object{"messages": object{w.bob.id: 1}}},
	})
}
