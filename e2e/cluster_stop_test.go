package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestStoppedBeforePublishing: a room server is stopped for longer than its leases
// hold just between the commit of a batch and its publishing. Who takes over
// publishes what is missing, and the one that was stopped does no harm when it
// goes on.
func TestStoppedBeforePublishing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "stop")
	c := startCluster(t, clusterOptions{binaries: withStop(t), env: []string{"DENDRITE_TEST_STOP=" + file}})
	c.disturbed(t, max(25*time.Second, *soak), 0, func(ctx context.Context) {
		every(t, ctx, 2, func() time.Duration { return 2 * time.Second }, func() {
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Error(err)
			}
			p := c.stopped(ctx)
			if p == nil {
				return // the load has ended
			}
			wait(ctx, 5*time.Second)
			p.signal(syscall.SIGCONT)
		})
	})
}

// withStop makes a folder of the cluster's binaries in which the room server can
// be stopped there.
func withStop(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	built := must(t, shared.binaries)
	for _, role := range allRoles {
		if err := os.Symlink(filepath.Join(built, binaryOf(role)), filepath.Join(dir, binaryOf(role))); err != nil {
			t.Fatal(err)
		}
	}
	const publish = "../roomserver/publish.go"
	source, err := os.ReadFile(publish)
	if err != nil {
		t.Fatal(err)
	}
	stop, err := os.ReadFile("testdata/stophere.go")
	if err != nil {
		t.Fatal(err)
	}
	const begin = "func (s *Server) publish(ctx context.Context, b *batch) {\n"
	if strings.Count(string(source), begin) != 1 {
		t.Fatalf("%s has no %q", publish, begin)
	}
	texts := map[string]string{
		publish:                      strings.Replace(string(source), begin, begin+"\tstopHere()\n", 1),
		"../roomserver/stop_here.go": string(stop),
	}
	own := filepath.Join(dir, binaryOf("room-server"))
	if err := os.Remove(own); err != nil {
		t.Fatal(err)
	}
	if err := buildOf("room-server", own, "-overlay", overlayOf(t, texts)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// stopped waits until a room server has stopped itself; nil when ctx is done
// before.
func (c *cluster) stopped(ctx context.Context) *process {
	for ctx.Err() == nil {
		for _, p := range c.reachable("room-server") {
			if p.state() == "T" {
				return p
			}
		}
		wait(ctx, 20*time.Millisecond)
	}
	for _, p := range c.reachable("room-server") {
		p.signal(syscall.SIGCONT) // it may have stopped meanwhile
	}
	return nil
}

// state is the process's, as proc(5) names it.
func (p *process) state() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return ""
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/stat")
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	state, _, _ := strings.Cut(rest, " ")
	return state
}
