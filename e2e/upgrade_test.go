package e2e

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// previousRelease returns the last release before the version given, which
// RELEASES names, and its commit.
func previousRelease(t *testing.T, version string) (release, commit string) {
	t.Helper()
	text, err := os.ReadFile("../RELEASES")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0 || strings.HasPrefix(fields[0], "#"):
		case len(fields) != 2 || len(fields[1]) != 40:
			t.Fatalf("RELEASES: %q is no version and commit", line)
		case fields[0] != "v"+version:
			release, commit = fields[0], fields[1]
		}
	}
	if commit == "" {
		t.Fatalf("RELEASES names no release before %s", version)
	}
	return release, commit
}

// checkOut puts the source of a commit into a new folder, from the history of
// this repository.
func checkOut(t *testing.T, commit string) string {
	t.Helper()
	if out, err := exec.Command("git", "-C", "..", "merge-base", "--is-ancestor", commit, "HEAD").CombinedOutput(); err != nil {
		t.Fatalf("%s is not in the history that is here: a clone for tests must be whole (git fetch --unshallow): %v\n%s", commit, err, out)
	}
	dir := t.TempDir()
	archive := exec.Command("git", "-C", "..", "archive", "--format=tar", commit)
	unpack := exec.Command("tar", "-x", "-C", dir)
	var complaints logBuffer // of both
	archive.Stderr, unpack.Stderr = &complaints, &complaints
	var err error
	if unpack.Stdin, err = archive.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	for _, step := range []func() error{unpack.Start, archive.Run, unpack.Wait} {
		if err := step(); err != nil {
			t.Fatalf("the source of %s: %v\n%s", commit, err, complaints.tail())
		}
	}
	return dir
}

// versionOf asks a binary which version it is.
func versionOf(t *testing.T, binary string) string {
	t.Helper()
	out, err := exec.Command(binary, "--version").Output()
	if err != nil {
		t.Fatalf("%s --version: %v", binary, err)
	}
	fields := strings.Fields(string(out))
	if len(fields) < 2 {
		t.Fatalf("%s --version says %q", binary, out)
	}
	return fields[1]
}

// previousBinaries builds the release before this version, all in one too.
func previousBinaries(t *testing.T) string {
	t.Helper()
	version := versionOf(t, binary)
	release, commit := previousRelease(t, version)
	dir := t.TempDir()
	if err := buildCluster(dir, checkOut(t, commit), "./cmd/dendrite"); err != nil {
		t.Fatal(err)
	}
	if was := versionOf(t, filepath.Join(dir, "dendrite")); "v"+was != release {
		t.Fatalf("the commit of %s builds %s", release, was)
	}
	t.Logf("from %s to %s, and back", release, version)
	return dir
}

// TestUpgrade goes from the previous release to this one and back, which changes
// tables and records in between, and nobody notices.
func TestUpgrade(t *testing.T) {
	previous := previousBinaries(t)
	t.Run("cluster", func(t *testing.T) { rollingUpgrade(t, previous) })
	t.Run("all in one", func(t *testing.T) { upgradeInOne(t, previous) })
}

// rollingUpgrade replaces every instance of every role, one after the other: no
// request of any client fails.
func rollingUpgrade(t *testing.T, previous string) {
	current := must(t, shared.binaries)
	c := startCluster(t, clusterOptions{binaries: previous, instances: lacking(previous)})
	before := c.formats(t)
	c.disturbed(t, 0, deliveryWithin, func(ctx context.Context) {
		refusals := c.countRefusals()
		all := c.all()
		c.replace(all, current)
		wait(ctx, 3*time.Second) // all new
		sendLater(t, c)
		after := c.formats(t)
		slices.Reverse(all) // who asks goes back before who is asked
		c.replace(all, previous)
		wait(ctx, 3*time.Second) // all old again, on what the new ones have left
		for _, r := range refusals() {
			t.Errorf("a request failed: %s", r)
		}
		t.Logf("%v before, %v after", before, after)
		if before.migrations == after.migrations {
			t.Error("no table has changed: nothing was tested")
		}
		if before.delayed != 0 || after.delayed == 0 {
			t.Error("no record has changed: nothing was tested")
		}
	})
}

// sendLater has an event sent later, and waits until it is there.
func sendLater(t *testing.T, c *cluster) {
	t.Helper()
	u := register(t, c, unique())
	room := u.createRoom(t, object{})
	const delayed = "/_matrix/client/unstable/org.matrix.msc4140"
	id := u.call(t, "PUT", delayed+"/rooms/"+url.PathEscape(room)+"/delayed_event/m.room.message/1", object{"delay_ms": 1, "content": object{"body": "late"}}).str("delay_id")
	until(t, "the delayed event is sent", func() bool { return u.call(t, "GET", delayed+"/delayed_events/"+id, nil).str("event_id") != "" })
}

// lacking says that there are no instances of roles that a release has not.
func lacking(binaries string) map[string]int {
	out := map[string]int{}
	for _, role := range allRoles {
		if _, err := os.Stat(filepath.Join(binaries, binaryOf(role))); err != nil {
			out[role] = 0
		}
	}
	return out
}

// replace stops instances and starts other binaries in their places.
func (c *cluster) replace(all []*process, binaries string) {
	for _, p := range all {
		p.end(syscall.SIGTERM)
		p.binary = filepath.Join(binaries, binaryOf(p.role))
		c.restart(p)
	}
}

// formats are what differs between the releases in what is stored.
type formats struct {
	migrations int // of the room server's tables
	delayed    int // records of room.output that name a delayed event
}

// formats looks into the room server's database.
func (c *cluster) formats(t *testing.T) (f formats) {
	t.Helper()
	i := slices.IndexFunc(c.env, func(v string) bool { return strings.HasPrefix(v, "DENDRITE_DATABASE_URL=") })
	_, url, _ := strings.Cut(c.env[i], "=")
	db, err := sql.Open("postgres", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.QueryRowContext(t.Context(), `SELECT (SELECT max(version_id) FROM roomserver.goose_roomserver),
		(SELECT count(*) FROM roomserver.events WHERE convert_from(output, 'UTF8') LIKE '%"delay_id":%')`).Scan(&f.migrations, &f.delayed)
	if err != nil {
		t.Error(err)
	}
	return f
}

// upgradeInOne replaces the one process, on SQLite and the embedded log.
func upgradeInOne(t *testing.T, previous string) {
	s := newServer(t)
	s.binary = filepath.Join(previous, "dendrite")
	s.start()
	l, faults := measuredLoad(t, s, 0, func(ctx context.Context) {
		for _, next := range []string{binary, filepath.Join(previous, "dendrite")} {
			wait(ctx, 2*time.Second)
			s.kill(syscall.SIGTERM)
			s.binary = next
			s.start()
		}
		wait(ctx, 2*time.Second)
	})
	for _, err := range faults {
		t.Error(err)
	}
	if l.request > answeredWithin {
		t.Errorf("a request took %v", l.request)
	}
}

// String says what was found.
func (f formats) String() string {
	return fmt.Sprintf("%d migrations and %d records of delayed events", f.migrations, f.delayed)
}
