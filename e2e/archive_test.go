package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// TestArchive: a room moves from one installation to another, whose users go on
// in it: from one process to another, and from a cluster to a process and on to
// another cluster.
func TestArchive(t *testing.T) {
	tool := filepath.Join(t.TempDir(), "room-archive")
	if out, err := exec.Command("go", "build", "-o", tool, "../cmd/room-archive").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	inBoth(t, func(t *testing.T) {
		r := newArchived(t, tool, startServer(t).home())
		to := newServer(t)
		r.export(t)
		r.tool(t, false, to.home(), "import", r.file) // signed by a key that this one has not got
		to.data = t.TempDir()
		r.moveTo(t, to.home())
		r.tool(t, false, to.home(), "import", r.file) // in use
	}, func(t *testing.T) {
		r := newArchived(t, tool, startCluster(t, clusterOptions{}).home())
		r.export(t)
		r.moveTo(t, newServer(t).home())
		r.home.stop()
		r.export(t)
		r.moveTo(t, startCluster(t, clusterOptions{stopped: true}).home())
	})
}

// home is an installation, as a tool and whoever starts it know it.
type home struct {
	site
	env         []string // of a tool
	key         string   // the file of the signing key
	start, stop func()
}

func (s *server) home() *home {
	return &home{s, append(slices.Clone(s.env), "DENDRITE_GLOBAL_DATA_DIR="+s.data, "DENDRITE_GLOBAL_SERVER_NAME=localhost"),
		filepath.Join(s.data, "signing.key"), s.start, func() { s.kill(syscall.SIGTERM) }}
}

func (c *cluster) home() *home {
	return &home{c, append(slices.Clone(c.env), "DENDRITE_GLOBAL_DATA_DIR="+c.t.TempDir()), c.key, c.startAll, c.stop}
}

// archived is a room that moves.
type archived struct {
	binary, file string
	home         *home // where it is; stopped but while users go on in it
	room         string
	last         string // event
}

// newArchived makes the room, and stops where it is.
func newArchived(t *testing.T, binary string, at *home) *archived {
	t.Helper()
	r := &archived{binary: binary, home: at}
	alice, bob := register(t, at, "alice"), register(t, at, "bob")
	r.room = alice.createRoom(t, object{"preset": "public_chat", "name": "Moving"})
	bob.join(t, r.room)
	var sent []string
	for _, text := range []string{"one", "two", "three"} {
		sent = append(sent, alice.send(t, r.room, text, text))
	}
	r.last = alice.call(t, "PUT", "/rooms/"+r.room+"/redact/"+sent[1]+"/r", object{}).str("event_id")
	at.stop()
	return r
}

// tool runs room-archive on an installation.
func (r *archived) tool(t *testing.T, want bool, at *home, args ...string) {
	t.Helper()
	cmd := exec.Command(r.binary, args...)
	cmd.Env = at.env
	if out, err := cmd.CombinedOutput(); (err == nil) != want {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
}

// export writes the room to a new file.
func (r *archived) export(t *testing.T) {
	t.Helper()
	r.file = filepath.Join(t.TempDir(), "room")
	r.tool(t, true, r.home, "export", r.room, r.file)
	r.tool(t, false, r.home, "export", r.room, r.file) // it replaces nothing
	r.tool(t, false, r.home, "export", "!unknown:localhost", r.file+"2")
	if _, err := os.Stat(r.file + "2"); !os.IsNotExist(err) {
		t.Fatal("a failed export leaves a file")
	}
	data, err := os.ReadFile(r.file)
	if err != nil || bytes.Contains(data, []byte(`"two"`)) || !bytes.Contains(data, []byte(`"three"`)) {
		t.Fatalf("%v; the archive is\n%s", err, data)
	}
}

// moveTo imports the file into an empty installation, which gets the signing key
// first, and starts that. Its users are new there, and in the room.
func (r *archived) moveTo(t *testing.T, to *home) {
	t.Helper()
	key, err := os.ReadFile(r.home.key)
	if err == nil {
		err = os.WriteFile(to.key, key, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	r.tool(t, true, to, "import", r.file)
	to.start()
	r.home = to
	alice := register(t, to, "alice")
	timeline := ids(list(dig(alice.syncOnce(t, "", "0").body, "rooms", "join", r.room, "timeline", "events")))
	if len(timeline) == 0 || timeline[len(timeline)-1] != r.last {
		t.Fatalf("the timeline is %v, the last event was %s", timeline, r.last)
	}
	r.last = alice.send(t, r.room, "goes on", "it goes on")
	bob := register(t, to, "bob")
	chunk := ids(list(bob.call(t, "GET", "/rooms/"+r.room+"/messages?dir=b&limit=5", nil).body["chunk"]))
	if len(chunk) != 5 || chunk[0] != r.last || chunk[1] != timeline[len(timeline)-1] {
		t.Fatalf("%v", chunk)
	}
}
