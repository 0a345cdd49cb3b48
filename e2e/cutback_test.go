package e2e

import (
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestStoreCutBack puts stores that are rebuilt from a log back to what they
// were some time ago, as a loss of power may: whatever had been acknowledged
// since comes back from the log, as the same events in the same order, and
// sync tokens go on.
func TestStoreCutBack(t *testing.T) {
	for _, cut := range [][]string{{"roomserver.db"}, {"syncapi.db"}, {"roomserver.db", "syncapi.db"}} {
		t.Run(strings.Join(cut, "+"), func(t *testing.T) {
			s := startServer(t)
			alice, bob := register(t, s, "alice"), register(t, s, "bob")
			room := alice.createRoom(t, object{"preset": "public_chat"})
			bob.join(t, room)
			alice.send(t, room, "early", "before the cut")
			s.kill(syscall.SIGTERM)
			saved := t.TempDir()
			copyStores(t, s.data, saved, cut)

			s.start()
			since := bob.syncOnce(t, "", "0").str("next_batch")
			var want []string
			for i := range 40 {
				switch {
				case i%10 == 5:
					want = append(want, alice.call(t, "PUT", fmt.Sprintf("/rooms/%s/state/m.room.topic", url.PathEscape(room)),
						object{"topic": fmt.Sprint(i)}).str("event_id"))
				default:
					want = append(want, alice.send(t, room, fmt.Sprint("late", i), "after the cut"))
				}
			}
			carol := register(t, s, "carol")
			carol.join(t, room)
			s.kill(syscall.SIGKILL)
			copyStores(t, saved, s.data, cut)

			s.start()
			got := bob.syncOnce(t, since, "10000")
			token := since
			var events []string
			for len(events) < len(want)+1 {
				timeline := dig(got.body, "rooms", "join", room, "timeline")
				if dig(timeline, "limited") == true {
					prev, _ := dig(timeline, "prev_batch").(string)
					q := url.Values{"dir": {"b"}, "limit": {"100"}, "from": {prev}, "to": {token}}
					chunk := ids(list(bob.call(t, "GET", "/rooms/"+url.PathEscape(room)+"/messages?"+q.Encode(), nil).body["chunk"]))
					slices.Reverse(chunk)
					events = append(events, chunk...)
				}
				here := ids(list(dig(timeline, "events")))
				if len(here) == 0 {
					break
				}
				events = append(events, here...)
				token = got.str("next_batch")
				got = bob.syncOnce(t, token, "2000")
			}
			if len(events) != len(want)+1 || !slices.Equal(events[:len(want)], want) {
				t.Fatalf("after the cut, sync gives %d events, want the %d acknowledged and a join:\n%v\n%v", len(events), len(want), events, want)
			}
			if again := alice.send(t, room, "late39", "after the cut"); again != want[39] {
				t.Fatalf("a retry made %s, was %s", again, want[39])
			}
			topic := bob.call(t, "GET", "/rooms/"+url.PathEscape(room)+"/state/m.room.topic", nil)
			if topic.str("topic") != "35" {
				t.Fatalf("the topic is %v", topic.body)
			}
			carol.send(t, room, "hello", "I joined after the cut")
		})
	}
}

func ids(events []any) []string {
	var out []string
	for _, e := range events {
		id, _ := dig(e, "event_id").(string)
		out = append(out, id)
	}
	return out
}

// copyStores replaces stores in one folder by those of another, files beside
// them (-wal, -shm) included.
func copyStores(t *testing.T, from, to string, names []string) {
	t.Helper()
	for _, name := range names {
		old, err := filepath.Glob(filepath.Join(to, name+"*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range old {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
		files, err := filepath.Glob(filepath.Join(from, name+"*"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no store %s in %s: %v", name, from, err)
		}
		for _, path := range files {
			copyFile(t, path, filepath.Join(to, filepath.Base(path)))
		}
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
}
