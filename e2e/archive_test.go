package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// TestArchive: a room moves from one installation to another, whose users go on
// in it.
func TestArchive(t *testing.T) {
	tool := filepath.Join(t.TempDir(), "room-archive")
	if out, err := exec.Command("go", "build", "-o", tool, "../cmd/room-archive").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	from, to := startServer(t), newServer(t)
	alice, bob := register(t, from, "alice"), register(t, from, "bob")
	room := alice.createRoom(t, object{"preset": "public_chat", "name": "Moving"})
	bob.join(t, room)
	var sent []string
	for _, text := range []string{"one", "two", "three"} {
		sent = append(sent, alice.send(t, room, text, text))
	}
	alice.call(t, "PUT", "/rooms/"+room+"/redact/"+sent[1]+"/r", object{})
	from.kill(syscall.SIGTERM)

	file := filepath.Join(t.TempDir(), "room")
	archive := func(want bool, s *server, args ...string) string {
		t.Helper()
		out, err := exec.Command(tool, append([]string{"--data", s.data, "--server-name", "localhost"}, args...)...).CombinedOutput()
		if (err == nil) != want {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	archive(true, from, "export", room, file)
	archive(false, from, "export", room, file) // it replaces nothing
	archive(false, from, "export", "!unknown:localhost", file+"2")
	if _, err := os.Stat(file + "2"); !os.IsNotExist(err) {
		t.Fatal("a failed export leaves a file")
	}
	data, err := os.ReadFile(file)
	if err != nil || bytes.Contains(data, []byte(`"two"`)) || !bytes.Contains(data, []byte(`"three"`)) {
		t.Fatalf("%v; the archive is\n%s", err, data)
	}

	archive(false, to, "import", file) // signed by a key that this one has not got
	key, err := os.ReadFile(filepath.Join(from.data, "signing.key"))
	if err != nil {
		t.Fatal(err)
	}
	to.data = t.TempDir()
	if err := os.WriteFile(filepath.Join(to.data, "signing.key"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	archive(true, to, "import", file)
	to.start()
	archive(false, to, "import", file) // in use
	alice = register(t, to, "alice")
	timeline := list(dig(alice.syncOnce(t, "", "0").body, "rooms", "join", room, "timeline", "events"))
	if last := timeline[len(timeline)-1].(object); last["type"] != "m.room.redaction" {
		t.Fatalf("the last event is %v", last)
	}
	next := alice.send(t, room, "four", "four")
	bob = register(t, to, "bob")
	chunk := list(bob.call(t, "GET", "/rooms/"+room+"/messages?dir=b&limit=5", nil).body["chunk"])
	if first := chunk[0].(object); first["event_id"] != next || len(chunk) != 5 {
		t.Fatalf("%v", chunk)
	}
}
