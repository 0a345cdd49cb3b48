package e2e

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDiskFull fills the disk under a server, or under PostgreSQL: writes are
// refused with an answer that says when to come again, reads go on, and all goes on
// by itself once there is room, with everything that was acknowledged, once.
func TestDiskFull(t *testing.T) { inBoth(t, diskFullInOne, diskFullInCluster) }

func diskFullInOne(t *testing.T) {
	s := newServer(t, answerSoon)
	disk := newDisk(t, s)
	s.start()
	pid := s.pid()
	f := newFull(t, s, disk)
	f.fillAndEmpty()
	if s.pid() != pid || syscall.Kill(pid, 0) != nil {
		t.Error("the process ended meanwhile")
	}

	// A server with a full disk stops in time, and what it could not write then
	// is written when it has room again.
	disk.fill(0)
	f.alice.sendUntilRefused(t, f.room, f.sent)
	began := time.Now()
	s.kill(syscall.SIGTERM)
	if took := time.Since(began); took > 12*time.Second {
		t.Errorf("with a full disk the server took %v to stop", took)
	}
	if err := s.tryStart(); err == nil {
		s.kill(syscall.SIGKILL)
	} else if !strings.Contains(err.Error(), "full") {
		t.Errorf("a start on a full disk: %v", err)
	}
	disk.empty()
	s.start()
	f.again()
	if strings.Contains(s.logs.tail(), "panic") {
		t.Error("there was a panic")
	}
}

// diskFullInCluster: the tables find no room, while the write-ahead log has some
// (where it has none PostgreSQL ends itself, as in TestDatabaseRestarts).
func diskFullInCluster(t *testing.T) {
	postgres, disk := postgresOnDisk(t)
	c := startCluster(t, clusterOptions{postgres: postgres, env: []string{answerSoon}})
	f := newFull(t, c, disk)
	db, err := sql.Open("postgres", c.databaseURL())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	began := ""
	for _, text := range []string{"SELECT pg_switch_wal()", "SELECT pg_logical_emit_message(true, 'test', 'a new file of the log')", "SELECT pg_postmaster_start_time()"} {
		if err := db.QueryRowContext(t.Context(), text).Scan(&began); err != nil {
			t.Fatal(err)
		}
	}
	f.fillAndEmpty()
	now := ""
	if err := db.QueryRowContext(t.Context(), "SELECT pg_postmaster_start_time()").Scan(&now); err != nil || now != began {
		t.Errorf("PostgreSQL was restarted: %s, %s, %v", began, now, err)
	}
	for _, p := range c.all() {
		if strings.Contains(p.logs.tail(), "panic") {
			t.Errorf("there was a panic in %v", p)
		}
	}
}

// answerSoon makes writers wait for a verdict not as long as they would.
const answerSoon = "DENDRITE_CLIENT_API_WRITER_ANSWER_TIMEOUT=3s"

// full is a conversation while a disk is full.
type full struct {
	t          *testing.T
	disk       *disk
	alice, bob *user
	room       string
	sent       map[string]string // events by transaction; "" where it is not known
}

func newFull(t *testing.T, s site, disk *disk) *full {
	t.Helper()
	f := &full{t: t, disk: disk, alice: register(t, s, "alice"), bob: register(t, s, "bob")}
	f.room = f.alice.createRoom(t, object{"preset": "public_chat"})
	f.bob.join(t, f.room)
	f.sent = map[string]string{"first": f.alice.send(t, f.room, "first", "before")}
	return f
}

func (f *full) fillAndEmpty() {
	t := f.t
	t.Helper()
	since := f.bob.syncOnce(t, "", "0").str("next_batch")
	f.disk.fill(60000) // an embedded log has room longer than the room server's store
	f.alice.sendUntilRefused(t, f.room, f.sent)
	for _, write := range writes(f.room, f.bob) {
		mustBeRefused(t, f.alice, write, true)
	}
	readsGoOn(t, f.bob, f.room, since)
	f.disk.empty()
	for _, write := range writes(f.room, f.bob) {
		untilTaken(t, f.alice, write)
	}
	f.again()
}

// again sends everything again: what was acknowledged is what it was, and stands
// once.
func (f *full) again() {
	f.t.Helper()
	for txn := range f.sent {
		a := untilTaken(f.t, f.alice, bigSend(f.room, txn))
		if id := f.sent[txn]; id != "" && a.str("event_id") != id {
			f.t.Errorf("%s was %s, and is %s since the disk was full", txn, id, a.str("event_id"))
		}
		f.sent[txn] = a.str("event_id")
	}
	standOnce(f.t, f.alice, f.room, f.sent)
}

// TestDiskFullUnderLoad fills and empties the disk, and kills the server in
// either state, while people write and read, and has the whole history judged.
func TestDiskFullUnderLoad(t *testing.T) {
	inRounds(t, 20*time.Second, func(t *testing.T, d time.Duration) {
		s := newServer(t)
		disk := newDisk(t, s)
		s.start()
		for _, err := range underLoad(t, s, d, func(ctx context.Context) { fillAgain(ctx, t, s, disk) }) {
			t.Error(err)
		}
	})
}

func fillAgain(ctx context.Context, t *testing.T, s *server, disk *disk) {
	defer disk.empty()
	for round := 0; ; round++ {
		if !pause(ctx, time.Duration(500+rand.IntN(1000))*time.Millisecond) {
			t.Logf("the disk was full %d times", round)
			return
		}
		disk.fill(rand.Int64N(1 << 18)) // which store has no room first is left to chance
		pause(ctx, time.Duration(500+rand.IntN(2500))*time.Millisecond)
		if round%3 == 2 {
			s.kill(syscall.SIGKILL)
			disk.empty()
			s.start()
		}
		disk.empty()
	}
}

// inRounds runs a test once for d, or in rounds of a minute, each on data of its
// own, for as long as -e2e.soak says.
func inRounds(t *testing.T, d time.Duration, test func(*testing.T, time.Duration)) {
	if *soak == 0 {
		test(t, d)
		return
	}
	for end := time.Now().Add(*soak); time.Now().Before(end) && !t.Failed(); {
		t.Run("round", func(t *testing.T) { test(t, time.Minute) })
	}
}

// pause waits, unless ctx ends before; then it is false.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// write is a request that changes something.
type write struct {
	method, path string
	body         any
}

// writes are requests of every part of the server that stores something.
func writes(room string, other *user) []write {
	r := "/rooms/" + url.PathEscape(room)
	return []write{
		{"POST", "/register", object{"username": "carol", "password": "correct horse", "auth": object{"type": "m.login.dummy"}}},
		{"POST", "/login", object{"type": "m.login.password", "password": "correct horse", "identifier": object{"type": "m.id.user", "user": "alice"}}},
		{"POST", "/createRoom", object{"name": "another"}},
		{"PUT", r + "/state/m.room.topic", object{"topic": "full"}},
		{"POST", r + "/kick", object{"user_id": other.id}},
		{"POST", r + "/invite", object{"user_id": other.id}},
		{"PUT", "/directory/room/" + url.PathEscape("#alias:localhost"), object{"room_id": room}},
		{"PUT", "/profile/@alice:localhost/displayname", object{"displayname": "Alice"}},
		{"PUT", "/user/@alice:localhost/account_data/org.example", object{"a": strings.Repeat("b", 30000)}},
	}
}

// bigSend is a message that takes room.
func bigSend(room, txn string) write {
	return write{"PUT", fmt.Sprintf("/rooms/%s/send/m.room.message/%s", url.PathEscape(room), txn),
		object{"msgtype": "m.text", "body": strings.Repeat("x", 30000), "nonce": txn}}
}

// sendUntilRefused sends until there is no room left for it, and notes what
// became of each transaction: its event's ID if it was acknowledged.
func (u *user) sendUntilRefused(t *testing.T, room string, sent map[string]string) {
	t.Helper()
	for refused := 0; refused < 2; {
		txn := fmt.Sprint("big", len(sent))
		if a := mustBeRefused(t, u, bigSend(room, txn), false); a.status == 200 {
			sent[txn] = a.str("event_id")
		} else {
			sent[txn] = ""
			refused++
		}
		if len(sent) > 3000 {
			t.Fatal("the disk does not get full")
		}
	}
}

// requestTime is more than what a writer waits for a verdict.
const requestTime = 10 * time.Second

// mustBeRefused makes a request that may be answered 200, where the store has
// room to itself, or 503 or 504 with an errcode and the time to come again.
func mustBeRefused(t *testing.T, u *user, w write, named bool) *answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), requestTime)
	defer cancel()
	began := time.Now()
	a, err := u.tryIn(ctx, w.method, w.path, w.body)
	if err != nil {
		t.Fatalf("%s %s on a full disk: %v", w.method, w.path, err)
	}
	if named {
		t.Logf("%s %s on a full disk: %d after %v", w.method, w.path, a.status, time.Since(began))
	}
	switch {
	case a.status == 200, a.status == 403: // 403: nothing to kick or invite after what had room
	case a.status != 503 && a.status != 504, a.errcode() == "", a.headers.Get("Retry-After") == "":
		t.Errorf("%s %s on a full disk: %d %s", w.method, w.path, a.status, a.raw)
	}
	return a
}

// untilTaken makes a request again until it is done, or had been.
func untilTaken(t *testing.T, u *user, w write) *answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		a, err := u.tryIn(ctx, w.method, w.path, w.body)
		if err != nil {
			t.Fatalf("%s %s after the disk was full: %v", w.method, w.path, err)
		}
		if a.status < 500 {
			if code := a.errcode(); a.status != 200 && code != "M_USER_IN_USE" && code != "M_FORBIDDEN" && code != "M_UNKNOWN" {
				t.Errorf("%s %s after the disk was full: %d %s", w.method, w.path, a.status, a.raw)
			}
			return a
		}
		pause(ctx, 100*time.Millisecond)
	}
}

func readsGoOn(t *testing.T, u *user, room, since string) {
	t.Helper()
	r := "/rooms/" + url.PathEscape(room)
	for _, path := range []string{"/account/whoami", "/sync?timeout=0", "/sync?timeout=100&since=" + url.QueryEscape(since),
		r + "/messages?dir=b&limit=5", r + "/state", r + "/joined_members", "/profile/@alice:localhost", "/joined_rooms", "/publicRooms"} {
		began := time.Now()
		if a, err := u.try("GET", path, nil); err != nil || a.status != 200 || time.Since(began) > 10*time.Second {
			t.Errorf("GET %s on a full disk, after %v: %+v %v", path, time.Since(began), a, err)
		}
	}
}

// standOnce checks that a room holds each event, once, and none for a
// transaction twice.
func standOnce(t *testing.T, u *user, room string, sent map[string]string) {
	t.Helper()
	seen := map[string]int{}
	byTxn := map[string]string{}
	for from := ""; ; {
		a := u.call(t, "GET", "/rooms/"+url.PathEscape(room)+"/messages?dir=b&limit=100&from="+url.QueryEscape(from), nil)
		for _, e := range list(a.body["chunk"]) {
			id, _ := dig(e, "event_id").(string)
			seen[id]++
			if txn, ok := dig(e, "content", "nonce").(string); ok {
				if other := byTxn[txn]; other != "" {
					t.Errorf("%s took effect as %s and as %s", txn, other, id)
				}
				byTxn[txn] = id
			}
		}
		if from = a.str("end"); from == "" {
			break
		}
	}
	for txn, id := range sent {
		if seen[id] != 1 {
			t.Errorf("%s, acknowledged as %s, stands %d times in the room", txn, id, seen[id])
		}
	}
}

// disk is where a server stores, and can be made full.
type disk struct {
	t      *testing.T
	folder string
	// holder is the process in whose mount namespace the folder is a small file
	// system; 0 where none can be made, and system calls of s are made to fail
	// instead.
	holder int
	s      *server
	tracer *exec.Cmd
}

// wideBytes is what a disk holds that is not full.
const wideBytes = 4 << 30

// newDisk gives a server that has not started a disk of its own: a file system
// in memory, in a mount namespace that a process holds open. Where namespaces are
// not permitted, a full disk is what strace makes the system calls say.
func newDisk(t *testing.T, s *server) *disk {
	t.Helper()
	d := &disk{t: t, folder: s.data, s: s}
	if err := d.mount("700"); err != nil {
		t.Logf("no file system of its own (%v): strace makes writes fail instead", err)
		t.Cleanup(d.empty)
		return d
	}
	s.wrap = d.inside()
	t.Cleanup(func() { s.kill(syscall.SIGTERM) })
	return d
}

// mount makes the folder a file system, until the test ends.
func (d *disk) mount(mode string) error {
	holder := exec.Command("unshare", "-rm", "sh", "-c", `mount -t tmpfs -o "mode=$2,size=$1" tmpfs "$0" && echo mounted && exec cat`,
		d.folder, fmt.Sprint(wideBytes), mode)
	in, err := holder.StdinPipe()
	if err != nil {
		return err
	}
	out, err := holder.StdoutPipe()
	if err != nil {
		return err
	}
	var why strings.Builder
	holder.Stderr = &why
	if err := holder.Start(); err != nil {
		return err
	}
	end := func() {
		_ = in.Close() // it ends with its input
		_ = holder.Wait()
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "mounted\n" {
		end()
		return fmt.Errorf("unshare: %w %s", err, strings.TrimSpace(why.String()))
	}
	d.holder = holder.Process.Pid
	d.t.Cleanup(end)
	return nil
}

// seen is the folder as it is seen from outside of the namespace.
func (d *disk) seen() string { return filepath.Join("/proc", fmt.Sprint(d.holder), "root", d.folder) }

// inside is what to put before a command to run it in the holder's namespaces.
func (d *disk) inside() []string {
	return []string{"nsenter", "--preserve-credentials", "-U", "-m", "-t", fmt.Sprint(d.holder)}
}

// fill leaves about that many bytes of room.
func (d *disk) fill(leave int64) {
	d.t.Helper()
	if d.holder == 0 {
		d.inject()
		return
	}
	var err error
	for range 20 { // what is written meanwhile may make it too small
		var used syscall.Statfs_t
		if err = syscall.Statfs(d.seen(), &used); err != nil {
			break
		}
		if err = d.resize(int64(used.Blocks-used.Bfree)*used.Bsize + leave); err == nil {
			return
		}
	}
	d.t.Fatal(err)
}

// empty makes room again.
func (d *disk) empty() {
	if d.holder != 0 {
		if err := d.resize(wideBytes); err != nil {
			d.t.Fatal(err)
		}
		return
	}
	if d.tracer != nil {
		_ = d.tracer.Process.Signal(syscall.SIGTERM) // strace lets go of the server
		_ = d.tracer.Wait()
		d.tracer = nil
	}
}

func (d *disk) resize(bytes int64) error {
	line := append(d.inside(), "mount", "-o", fmt.Sprintf("remount,size=%d", bytes), d.folder)
	if out, err := exec.Command(line[0], line[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("making the disk %d bytes large: %w %s", bytes, err, out)
	}
	return nil
}

// inject makes the server's writes fail until empty.
func (d *disk) inject() {
	if d.tracer != nil {
		return
	}
	d.tracer = exec.Command("strace", "-f", "-p", fmt.Sprint(d.s.pid()), "-o", "/dev/null",
		"-e", "trace=pwrite64,ftruncate", "-e", "inject=pwrite64,ftruncate:error=ENOSPC")
	out, err := d.tracer.StderrPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := d.tracer.Start(); err != nil {
		d.t.Fatalf("neither unshare nor strace can fill a disk here: %v", err)
	}
	said := bufio.NewReader(out)
	if line, err := said.ReadString('\n'); !strings.Contains(line, "attached") {
		d.t.Fatalf("neither unshare nor strace can fill a disk here: %s %v", line, err)
	}
	go func() { _, _ = io.Copy(io.Discard, said) }()
}
