package e2e

import (
	"context"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestStopped stops a room server for longer than its leases hold, in turn just
// between the commit of a batch and its publishing and just before the commit,
// while one answer in seven of the brokers is lost. Who takes over publishes what
// is missing, and the one that was stopped does no harm when it goes on.
func TestStopped(t *testing.T) {
	c := startCluster(t, clusterOptions{binaries: must(t, shared.altered), stops: true, env: []string{"DENDRITE_TEST_LOSE_ANSWERS=yes"}})
	c.disturbed(t, max(25*time.Second, *soak), 0, func(ctx context.Context) {
		n := 0
		every(t, ctx, 2, func() time.Duration { return 2 * time.Second }, func() {
			if n++; n%2 == 0 {
				c.commitLate(ctx)
				return
			}
			p := c.stopAt(ctx, "publish", nil)
			if p == nil {
				return // the load has ended
			}
			wait(ctx, 4*time.Second)
			p.signal(syscall.SIGCONT)
		})
	})
}

// stopAt waits until a room server has stopped itself in a place, one that is not
// other; nil when ctx is done before.
func (c *cluster) stopAt(ctx context.Context, place string, other *process) *process {
	c.askToStop(place)
	return c.stopped(ctx, other)
}

func (c *cluster) askToStop(place string) {
	if err := os.WriteFile(c.stopFile+"."+place, nil, 0o600); err != nil {
		c.t.Error(err)
	}
}

// asksToStop tells whether nobody has stopped there yet.
func (c *cluster) asksToStop(place string) bool {
	_, err := os.Stat(c.stopFile + "." + place)
	return err == nil
}

// stopped waits until a room server that is not other has stopped itself; nil when
// ctx is done before.
func (c *cluster) stopped(ctx context.Context, other *process) *process {
	for ctx.Err() == nil {
		for _, p := range c.reachable("room-server") {
			if p != other && p.state() == "T" {
				return p
			}
		}
		wait(ctx, 20*time.Millisecond)
	}
	c.goOn()
	return nil
}

// goOn takes back what asks room servers to stop, and lets those go on that have.
func (c *cluster) goOn() {
	for _, place := range []string{"write", "publish"} {
		_ = os.Remove(c.stopFile + "." + place) // if it is there still
	}
	for _, p := range c.reachable("room-server") {
		p.signal(syscall.SIGCONT)
	}
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
