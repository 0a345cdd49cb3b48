package admin

import (
	"encoding/base64"
	"net/url"
	"slices"
	"testing"
)

// TestRestoredKeys: after dendrite-admin restored no one-time key of before is
// given out, and clients are told to ask anew for everybody's devices.
func TestRestoredKeys(t *testing.T) {
	h := newHome(t)
	h.mustStart()
	alice, bob := h.register("alice"), h.register("bob")
	room := h.call(alice, "POST", "/createRoom", object{"preset": "public_chat"})["room_id"].(string)
	h.call(bob, "POST", "/join/"+url.PathEscape(room), object{})
	device := h.call(bob, "GET", "/account/whoami", object{})["device_id"].(string)
	master := base64.RawStdEncoding.EncodeToString(make([]byte, 32))
	h.call(bob, "POST", "/keys/device_signing/upload", object{"master_key": object{"user_id": bob.id, "usage": []string{"master"}, "keys": object{"ed25519:" + master: master}}})
	up := h.call(bob, "POST", "/keys/upload", object{"one_time_keys": object{"x:1": "key"}})
	if dig(up, "one_time_key_counts", "x") != 1.0 {
		t.Fatal(up)
	}
	since := h.sync(alice, "")["next_batch"].(string)
	h.stop()
	there := []string{"--data", h.config.Global.DataDir, "--server-name", "localhost"}
	t.Setenv("DENDRITE_EVENT_LOG_PARTITIONS", "4")
	if out, _, err := said(t, append([]string{"restored"}, there...)...); err != nil || out == "" {
		t.Fatal(out, err)
	}
	h.mustStart()
	if _, _, err := said(t, append([]string{"restored"}, there...)...); err == nil {
		t.Error("it is done beside a server")
	}
	for range 10 {
		a := h.sync(alice, since)
		since = a["next_batch"].(string)
		if slices.Contains(list(dig(a, "device_lists", "changed")), any(bob.id)) {
			since = ""
			break
		}
	}
	if since != "" {
		t.Error("nobody is told of bob's devices")
	}
	if got := h.call(alice, "POST", "/keys/claim", object{"one_time_keys": object{bob.id: object{device: "x"}}}); dig(got, "one_time_keys", bob.id) != nil {
		t.Errorf("an old key is given out: %v", got)
	}
	if up := h.call(bob, "POST", "/keys/upload", object{}); dig(up, "one_time_key_counts", "x") != nil {
		t.Errorf("it is still counted: %v", up)
	}
}
