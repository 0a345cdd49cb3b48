package e2e

import (
	"bufio"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// TestSyncedBeforeAcknowledged traces system calls while people send: each 200 must
// follow a completed fsync of the log that began after the message had been written
// to it. SIGKILL cannot show that, for it keeps the page cache.
//
// In a cluster it is PostgreSQL's log, for what no other log can restore, which the
// user-api keeps. What the room server and the views commit need not wait for the
// disk (sqldb.Options.Durable). Kafka does not sync either, and nothing we ask
// could make it: what it has acknowledged is on all replicas in sync. So of what is
// appended the trace shows what can be asked for, acks=all; that a broker of three
// may be lost is TestBrokerOfThreeDies.
func TestSyncedBeforeAcknowledged(t *testing.T) { inBoth(t, syncedInOne, syncedInCluster) }

const senders, each = 8, 25

func syncedInOne(t *testing.T) {
	s := newServer(t)
	trace := filepath.Join(t.TempDir(), "trace")
	s.wrap = []string{"strace", "-f", "-yy", "-s", "20000", "-o", trace,
		"-e", "trace=read,write,writev,pwrite64,fsync,fdatasync"}
	s.start()
	owner := register(t, s, "owner")
	room := owner.createRoom(t, object{"preset": "public_chat"})
	sendNonces(t, s, func(u *user) { u.join(t, room) }, func(_ *user, nonce string) string {
		return fmt.Sprintf("/rooms/%s/send/m.room.message/%s", url.PathEscape(room), nonce)
	})
	s.kill(syscall.SIGTERM)
	judge := newSyncJudge("/send/m.room.message/", "log.db")
	judge.file(t, trace)
	judge.verdict(t)
}

// sendNonces has several people each put something at paths that have a nonce.
func sendNonces(t *testing.T, s site, prepare func(*user), path func(u *user, nonce string) string) {
	t.Helper()
	var wg sync.WaitGroup
	for i := range senders {
		u := register(t, s, fmt.Sprintf("sender%d", i))
		prepare(u)
		wg.Go(func() {
			for n := range each {
				nonce := fmt.Sprintf("nonce-%d-%d-", i, n)
				if a, err := u.try("PUT", path(u, nonce), object{"body": nonce}); err != nil || a.status != 200 {
					t.Errorf("send: %v %v", a, err)
				}
			}
		})
	}
	wg.Wait()
}

// syncJudge reads a trace of system calls.
type syncJudge struct {
	open    map[string]string // thread → call that has begun and not returned
	asked   map[string]string // connection → nonce of the request it waits on
	dirty   map[string]bool   // nonces written to the log, not synced
	syncing map[string]syncCall
	synced  map[string]bool

	request      string // part of a path that is asked for
	log          string // part of the log's path
	acknowledged int
	faults       []string
}

// syncCall is an fsync that has begun: what it covers when it returns.
type syncCall struct{ covers []string }

func newSyncJudge(request, log string) *syncJudge {
	return &syncJudge{request: request, log: log, open: map[string]string{}, asked: map[string]string{}, dirty: map[string]bool{},
		syncing: map[string]syncCall{}, synced: map[string]bool{}}
}

var (
	callLine = regexp.MustCompile(`^(\d+)\s+(read|write|writev|pwrite64|fsync|fdatasync)\((\d+)<((?:->|[^>])*)>`)
	resumed  = regexp.MustCompile(`^(\d+)\s+<\.\.\. (\w+) resumed>`)
	nonceRE  = regexp.MustCompile(`nonce-\d+-\d+-`)
)

// file takes a trace.
func (j *syncJudge) file(t *testing.T, name string) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		j.line(lines.Text())
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
}

func (j *syncJudge) verdict(t *testing.T) {
	t.Helper()
	for _, fault := range j.faults {
		t.Error(fault)
	}
	if j.acknowledged != senders*each {
		t.Errorf("the trace shows %d acknowledged sends, want %d", j.acknowledged, senders*each)
	}
}

// line takes a line of the trace. A call may stand in two: "… <unfinished ...>"
// where it began and "<... call resumed>" where it returned.
func (j *syncJudge) line(text string) {
	if m := resumed.FindStringSubmatch(text); m != nil {
		begun := j.open[m[1]]
		delete(j.open, m[1])
		if begun != "" {
			j.returned(m[1], begun, begun+text)
		}
		return
	}
	m := callLine.FindStringSubmatch(text)
	if m == nil {
		return
	}
	j.begun(m[1], text)
	if strings.HasSuffix(text, "<unfinished ...>") {
		j.open[m[1]] = text
		return
	}
	j.returned(m[1], text, text)
}

func (j *syncJudge) isLog(file string) bool { return strings.Contains(file, j.log) }

// begun handles what counts from the moment that a call begins: an answer may
// be on its way then, and an fsync covers what had been written before.
func (j *syncJudge) begun(thread, text string) {
	m := callLine.FindStringSubmatch(text)
	call, file := m[2], m[4]
	switch {
	case (call == "fsync" || call == "fdatasync") && j.isLog(file):
		var covers []string
		for nonce := range j.dirty {
			covers = append(covers, nonce)
		}
		j.syncing[thread] = syncCall{covers}
	case (call == "write" || call == "writev") && j.asked[file] != "":
		nonce := j.asked[file]
		delete(j.asked, file)
		j.acknowledged++
		if !strings.Contains(text, "200 OK") {
			j.faults = append(j.faults, fmt.Sprintf("%s was answered %.120s", nonce, text))
		} else if !j.synced[nonce] {
			j.faults = append(j.faults, nonce+" was acknowledged before the log that holds it was synced")
		}
	}
}

func (j *syncJudge) returned(thread, begun, whole string) {
	m := callLine.FindStringSubmatch(begun)
	call, file := m[2], m[4]
	switch {
	case call == "read" && strings.HasPrefix(file, "TCP"):
		// The request's first byte may have been read ahead of the rest.
		if strings.Contains(whole, j.request) {
			j.asked[file] = nonceRE.FindString(whole)
		}
	case call == "pwrite64" && j.isLog(file):
		for _, nonce := range nonceRE.FindAllString(whole, -1) {
			if !j.synced[nonce] {
				j.dirty[nonce] = true
			}
		}
	case call == "fsync" || call == "fdatasync":
		if sync, ok := j.syncing[thread]; ok && strings.HasSuffix(whole, "= 0") {
			for _, nonce := range sync.covers {
				j.synced[nonce] = true
				delete(j.dirty, nonce)
			}
		}
		delete(j.syncing, thread)
	}
}
