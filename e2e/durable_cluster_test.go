package e2e

import (
	"bufio"
	encoding "encoding/binary"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func syncedInCluster(t *testing.T) {
	c := startCluster(t, clusterOptions{})
	owner := register(t, c, "owner")
	room := owner.createRoom(t, object{"preset": "public_chat"})
	pids := processesOf(t, must(t, shared.postgres))
	for _, role := range []string{"client-api", "room-server"} {
		for _, p := range c.reachable(role) {
			pids = append(pids, p.pid())
		}
	}
	trace := filepath.Join(t.TempDir(), "trace")
	end := attach(t, pids, "-f", "-yy", "-s", "400000", "-o", trace, "-e", "trace=read,write,writev,pwrite64,fsync,fdatasync")
	sendNonces(t, c, func(*user) {}, func(u *user, nonce string) string {
		return fmt.Sprintf("/user/%s/account_data/%s", url.PathEscape(u.id), nonce)
	})
	for i := range 10 {
		owner.send(t, room, fmt.Sprint(i), "appended")
	}
	end()
	judge := newSyncJudge("/account_data/nonce-", "/pg_wal/")
	judge.file(t, trace)
	judge.verdict(t)
	// Each message is appended to room.input, and then to room.output.
	acks := acksIn(t, trace, says(t, must(t, shared.kafka), "brokers"))
	if len(acks) < 20 || slices.ContainsFunc(acks, func(n int) bool { return n != -1 }) {
		t.Errorf("appends ask for acknowledgements of %v replicas, want -1 (all), at least twenty times", acks)
	}
}

// processesOf are those of a PostgreSQL server.
func processesOf(t *testing.T, dir string) []int {
	t.Helper()
	first, _, _ := strings.Cut(says(t, dir, "data/postmaster.pid"), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	pids := []int{pid}
	for _, file := range stats {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		child, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		at := strings.LastIndex(string(stat), ") ")
		if fields := strings.Fields(string(stat)[at+1:]); len(fields) > 1 && fields[1] == first {
			pids = append(pids, child)
		}
	}
	return pids
}

// pid is the process's; 0 when it does not run.
func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// attach traces processes that run until the function returned is called.
func attach(t *testing.T, pids []int, args ...string) (end func()) {
	t.Helper()
	waiting := map[string]bool{}
	for _, pid := range pids {
		args = append(args, "-p", fmt.Sprint(pid))
		waiting[fmt.Sprint(pid)] = true
	}
	cmd := exec.Command("strace", args...)
	out, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	said := bufio.NewReader(out)
	for text := ""; len(waiting) > 0; {
		line, err := said.ReadString('\n')
		if text += line; err != nil {
			t.Fatalf("strace cannot attach to %v: %v\n%s", pids, err, text)
		}
		if m := attached.FindStringSubmatch(line); m != nil {
			delete(waiting, m[1])
		}
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, said)
	}()
	stop := func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // strace lets go of them
		<-ended
		_ = cmd.Wait() // the signal's
	}
	t.Cleanup(stop)
	return stop
}

var attached = regexp.MustCompile(`Process (\d+) attached`)

// acksIn are the acknowledgements that requests to append ask for in a trace.
func acksIn(t *testing.T, trace, broker string) (out []int) {
	t.Helper()
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		_, rest, ok := strings.Cut(line, "->"+broker+"]>, \"")
		if !ok || !strings.Contains(line, " write(") {
			continue
		}
		if acks, ok := acksOf(unescaped(rest, 64)); ok {
			out = append(out, acks)
		}
	}
	return out
}

// acksOf reads a request of Kafka's protocol, of any kind.
// See https://kafka.apache.org/protocol: length, API key, version, correlation,
// client; of Produce (key 0) the transaction's ID follows, and acks.
func acksOf(b []byte) (acks int, ok bool) {
	const produce, fixed = 0, 4 + 2 + 2 + 4
	if len(b) < fixed+2 || encoding.BigEndian.Uint16(b[4:]) != produce {
		return 0, false
	}
	at := fixed
	for range 2 { // strings, which may be null
		if len(b) < at+2 {
			return 0, false
		}
		at += 2 + max(0, int(int16(encoding.BigEndian.Uint16(b[at:]))))
	}
	if len(b) < at+2 {
		return 0, false
	}
	return int(int16(encoding.BigEndian.Uint16(b[at:]))), true
}

// unescaped are the first bytes of a string as strace shows it.
func unescaped(s string, n int) (out []byte) {
	for i := 0; i < len(s) && len(out) < n && s[i] != '"'; i++ {
		if s[i] != '\\' || i+1 == len(s) {
			out = append(out, s[i])
			continue
		}
		i++
		if at := strings.IndexByte("tnvfr", s[i]); at >= 0 {
			out = append(out, "\t\n\v\f\r"[at])
			continue
		}
		if s[i] < '0' || s[i] > '7' {
			out = append(out, s[i])
			continue
		}
		octal := 0
		end := i
		for ; end < len(s) && end < i+3 && s[end] >= '0' && s[end] <= '7'; end++ {
			octal = octal*8 + int(s[end]-'0')
		}
		out = append(out, byte(octal))
		i = end - 1
	}
	return out
}
