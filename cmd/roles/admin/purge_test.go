package admin

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// TestPurge: history and rooms are purged beside a server that runs.
func TestPurge(t *testing.T) {
	h := newHome(t)
	h.mustStart()
	alice, bob := h.register("alice"), h.register("bob")
	there := []string{"--data", h.config.Global.DataDir, "--server-name", "localhost"}
	do := func(want string, args ...string) {
		t.Helper()
		out, diagnostics, err := said(t, append(args, there...)...)
		if err != nil || !strings.Contains(out, want) {
			t.Fatalf("%v: %v\n%s%s", args, err, out, diagnostics)
		}
	}
	room, _ := h.call(alice, "POST", "/createRoom", object{"preset": "public_chat"})["room_id"].(string)
	other, _ := h.call(alice, "POST", "/createRoom", object{})["room_id"].(string)
	h.call(bob, "POST", "/join/"+url.PathEscape(room), object{})
	var sent []string
	for n := range 5 {
		sent = append(sent, h.send(alice, room, fmt.Sprint(n), "x"))
	}
	whole := h.history(bob, room)

	do("OUTCOME", "purges")
	do("3 events are purged", "purge-history", room, "--before", sent[3])
	want := slices.DeleteFunc(whole, func(id string) bool { return slices.Contains(sent[:3], id) })
	if got := h.history(bob, room); !slices.Equal(got, want) {
		t.Fatalf("after the purge: %v, want %v", got, want)
	}
	do("0 events are purged", "purge-history", "--before", "2020-01-31", room)
	do("left to the servers", "purge-history", room, "--before", "2020-01-31T12:00:00Z", "--wait=false")
	for _, wrong := range [][]string{{"purge-history", room}, {"purge-history", "--before", "1"}, {"purge-history", room, "--before", "tomorrow"},
		{"purge-history", room, "--before", "2999-01-01"}, {"purge-history", room, "--before", "$none"}, {"purge-history", other, "--before", sent[3]},
		{"purge-history", "!none:localhost", "--before", "1"}, {"purge-history", "room", "--before", "1"}, {"purge-history", room, other, "--before", "1"},
		{"purge-room", room}, {"purge-room"}, {"purge-room", "!none:localhost"}, {"purges", "all"}} {
		if out, _, err := said(t, append(wrong, there...)...); err == nil {
			t.Errorf("%v is accepted: %s", wrong, out)
		}
	}
	if status, _ := h.try(bob, "GET", "/rooms/"+url.PathEscape(room)+"/messages?dir=b", object{}); status != 200 {
		t.Fatalf("a refused purge of a room: %d", status)
	}
	do("The room is purged", "purge-room", room, "--force")
	for _, u := range []user{alice, bob} {
		if status, _ := h.try(u, "GET", "/rooms/"+url.PathEscape(room)+"/messages?dir=b", object{}); status != 403 && status != 404 {
			t.Errorf("a purged room answers %s with %d", u.id, status)
		}
	}
	h.call(alice, "POST", "/rooms/"+url.PathEscape(other)+"/leave", object{})
	do("The room is purged", "purge-room", other)
	do(other, "purges")
}
