package admin

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// upload uploads media.
func (h *home) upload(u user, data string) string {
	h.Helper()
	r, err := http.NewRequestWithContext(h.Context(), "POST", h.url+"/_matrix/media/v3/upload", bytes.NewReader([]byte(data)))
	if err != nil {
		h.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+u.token)
	res, err := client.Do(r)
	if err != nil {
		h.Fatal(err)
	}
	defer res.Body.Close()
	var answer struct {
		URI string `json:"content_uri"`
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || answer.URI == "" {
		h.Fatalf("%s: %v", res.Status, err)
	}
	return answer.URI
}

// has tells whether media can be had.
func (h *home) has(u user, uri string) bool {
	h.Helper()
	r, err := http.NewRequestWithContext(h.Context(), "GET", h.url+"/_matrix/client/v1/media/download/"+strings.TrimPrefix(uri, "mxc://"), nil)
	if err != nil {
		h.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+u.token)
	res, err := client.Do(r)
	if err != nil {
		h.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		h.Fatal(err)
	}
	return res.StatusCode == http.StatusOK
}

// TestMedia: what is done to media takes effect on a server that runs.
func TestMedia(t *testing.T) {
	h := newHome(t)
	h.mustStart()
	alice := h.register("alice")
	there := []string{"--data", h.config.Global.DataDir, "--server-name", "localhost"}
	do := func(want string, args ...string) string {
		t.Helper()
		out, diagnostics, err := said(t, append(args, there...)...)
		if err != nil || !strings.Contains(out, want) {
			t.Fatalf("%v: %v\n%s%s", args, err, out, diagnostics)
		}
		return out
	}
	sent, avatar, idle := h.upload(alice, "sent"), h.upload(alice, "avatar"), h.upload(alice, "idle")
	h.call(alice, "PUT", "/profile/"+url.PathEscape(alice.id)+"/avatar_url", object{"avatar_url": avatar})
	room, _ := h.call(alice, "POST", "/createRoom", object{})["room_id"].(string)
	h.call(alice, "PUT", "/rooms/"+url.PathEscape(room)+"/send/m.room.message/1", object{"msgtype": "m.file", "body": "x", "url": sent})

	list := do(sent, "media", "list", "--user", alice.id)
	for _, uri := range []string{avatar, idle} {
		if !strings.Contains(list, uri) {
			t.Errorf("%s is not in\n%s", uri, list)
		}
	}
	// The room names the picture too: in alice's membership.
	do("2 media changed", "media", "quarantine", "--room", room)
	if h.has(alice, sent) || h.has(alice, avatar) || !h.has(alice, idle) {
		t.Error("the quarantine is not the room's")
	}
	do("1 media changed", "media", "unquarantine", "--mxc", sent)
	do("1 media changed", "media", "unquarantine", "--mxc", avatar)
	do("1 media changed", "media", "protect", "--mxc", sent)
	do("1 media deleted", "media", "purge", "--local", "--unused", "1ns") // the picture is somebody's
	if !h.has(alice, sent) || !h.has(alice, avatar) || h.has(alice, idle) {
		t.Error("the wrong media were purged")
	}
	do("1 media changed", "media", "unprotect", "--user", alice.id)
	do("2 media deleted", "media", "purge", "--local", "--unused", "1ns", "--avatars")
	do("0 media deleted", "media", "delete", "--user", alice.id)
	for _, wrong := range [][]string{{"media", "quarantine"}, {"media", "delete", "--mxc", "x"}, {"media", "delete", "--room", room, "--user", alice.id},
		{"media", "purge", "--unused", "1h"}, {"media", "list"}, {"media", "quarantine", "--room", "!none:localhost"}, {"media", "list", "--user", "x", "more"}} {
		if _, _, err := said(t, append(wrong, there...)...); err == nil {
			t.Errorf("%v is accepted", wrong)
		}
	}
}
