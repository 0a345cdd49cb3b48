package e2e

import (
	"context"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"
)

// Bounds of what clients may notice of a fault.
const (
	// deliveryWithin is how late an acknowledged event may be with its readers
	// when one instance dies.
	deliveryWithin = 5 * time.Second
	// answeredWithin is how long a request may take: as long as the server waits
	// for a verdict, and some.
	answeredWithin = 30 * time.Second
)

// roundTime is how long a load on one cluster is at most until its history is
// judged and forgotten: with the race detector a history and what made it take
// about 25 kB for each event.
const roundTime = 3 * time.Minute

// disturbed runs a load on a cluster while something happens to it, and judges
// what clients saw; one that is to be long in rounds. delivery bounds how late
// events may be; 0 for not at all.
func (c *cluster) disturbed(t *testing.T, d, delivery time.Duration, disturb func(context.Context)) {
	t.Helper()
	for rounds := max(1, (d+roundTime-1)/roundTime); rounds > 0 && !t.Failed(); rounds-- {
		round := d / rounds
		d -= round
		c.disturbedOnce(t, round, delivery, disturb)
	}
}

func (c *cluster) disturbedOnce(t *testing.T, d, delivery time.Duration, disturb func(context.Context)) {
	t.Helper()
	l, faults := measuredLoad(t, c, d, disturb)
	for _, err := range faults {
		t.Error(err)
	}
	t.Logf("the longest delivery took %v, the longest request %v", l.delivery, l.request)
	if delivery > 0 && l.delivery > delivery {
		t.Errorf("an acknowledged event was %v late with a reader", l.delivery)
	}
	if l.request > answeredWithin {
		t.Errorf("a request took %v", l.request)
	}
}

// every does something again and again until ctx is done, and wants it done at
// least so many times.
func every(t *testing.T, ctx context.Context, least int, pause func() time.Duration, do func()) {
	t.Helper()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			t.Logf("%d times", n)
			if n < least {
				t.Errorf("only %d times: nothing was tested", n)
			}
			return
		case <-time.After(pause()):
			do()
		}
	}
}

// TestInstancesDie kills instances of any role at random, one at a time.
func TestInstancesDie(t *testing.T) {
	c := startCluster(t, clusterOptions{})
	c.disturbed(t, max(30*time.Second, *soak), deliveryWithin, func(ctx context.Context) {
		all := c.all()
		every(t, ctx, 4, func() time.Duration { return time.Duration(500+rand.IntN(2000)) * time.Millisecond }, func() {
			p := all[rand.IntN(len(all))]
			p.end(syscall.SIGKILL)
			wait(ctx, time.Duration(rand.IntN(4000))*time.Millisecond)
			c.restart(p)
		})
	})
}

// restart starts a process and waits until it is ready.
func (c *cluster) restart(p *process) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Minute)
	defer cancel()
	err := p.start()
	if err == nil {
		err = p.ready(ctx)
	}
	if err != nil {
		c.t.Error(err)
	}
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// TestStoppedPastLease: a room server that is stopped for longer than its leases
// hold, and then goes on, has lost its partitions and does no harm.
func TestStoppedPastLease(t *testing.T) {
	c := startCluster(t, clusterOptions{})
	c.disturbed(t, max(25*time.Second, *soak), 0, func(ctx context.Context) {
		servers := c.reachable("room-server")
		every(t, ctx, 2, func() time.Duration { return 2 * time.Second }, func() {
			p := servers[rand.IntN(len(servers))]
			p.signal(syscall.SIGSTOP)
			wait(ctx, 5*time.Second)
			p.signal(syscall.SIGCONT)
		})
	})
}

// TestBrokerRestarts: the broker is restarted, in order and by SIGKILL.
func TestBrokerRestarts(t *testing.T) {
	kafka := ownKafka(t)
	c := startCluster(t, clusterOptions{kafka: kafka})
	c.disturbed(t, max(40*time.Second, *soak), 0, func(ctx context.Context) {
		words := []string{"stop", "kill"}
		every(t, ctx, 2, func() time.Duration { return 4 * time.Second }, func() {
			kafka.do(t, words[0])
			words[0], words[1] = words[1], words[0]
			kafka.do(t, "start")
		})
	})
}

// TestBrokerAway: without a broker writes are refused with 503 and nothing is
// lost; when it is back all goes on by itself.
func TestBrokerAway(t *testing.T) {
	kafka := ownKafka(t)
	c := startCluster(t, clusterOptions{kafka: kafka})
	away := 20 * time.Second
	if *soak > 0 {
		away = 2 * time.Minute
	}
	c.disturbed(t, away+15*time.Second, 0, func(ctx context.Context) {
		wait(ctx, 5*time.Second)
		kafka.do(t, "stop")
		wait(ctx, away)
		for _, p := range c.all() {
			if status, body, err := ask(t.Context(), p.metrics, "/ready"); err != nil || status != 503 && logs[p.role] {
				t.Errorf("%v without a broker: %d %s, %v", p, status, body, err)
			}
			if status, body, err := ask(t.Context(), p.metrics, "/live"); err != nil || status != 200 {
				t.Errorf("%v without a broker: /live %d %s, %v", p, status, body, err)
			}
		}
		kafka.do(t, "start")
		<-ctx.Done()
	})
}

// logs are the roles that cannot do anything without the log.
var logs = map[string]bool{"room-server": true, "client-api": true, "sync-api": true}

// TestDatabaseRestarts: PostgreSQL is restarted, in order and by SIGKILL.
func TestDatabaseRestarts(t *testing.T) {
	postgres := ownPostgres(t)
	c := startCluster(t, clusterOptions{postgres: postgres})
	c.disturbed(t, max(30*time.Second, *soak), 0, func(ctx context.Context) {
		words := []string{"stop", "kill"}
		every(t, ctx, 2, func() time.Duration { return 4 * time.Second }, func() {
			postgres.do(t, words[0])
			words[0], words[1] = words[1], words[0]
			wait(ctx, time.Second)
			postgres.do(t, "start")
		})
	})
}

// TestBrokerOfThreeDies: topics are held by three brokers, of which one is killed
// at a time.
func TestBrokerOfThreeDies(t *testing.T) {
	kafka := ownKafka(t, "--nodes", "3")
	c := startCluster(t, clusterOptions{kafka: kafka, env: []string{"DENDRITE_EVENT_LOG_KAFKA_REPLICATION_FACTOR=3"}})
	c.disturbed(t, max(45*time.Second, *soak), 0, func(ctx context.Context) {
		nodes := []string{"1", "2", "3"}
		every(t, ctx, 1, func() time.Duration { return 4 * time.Second }, func() {
			node := nodes[rand.IntN(len(nodes))]
			kafka.do(t, "kill", node)
			wait(ctx, 8*time.Second)
			kafka.do(t, "start", node)
		})
	})
}

// TestRollingRestart restarts every instance of every role, one after the other,
// in order: no request of any client fails.
func TestRollingRestart(t *testing.T) {
	c := startCluster(t, clusterOptions{})
	c.disturbed(t, 0, deliveryWithin, func(context.Context) {
		refusals := c.countRefusals()
		for _, p := range c.all() {
			p.end(syscall.SIGTERM)
			c.restart(p)
		}
		for _, r := range refusals() {
			t.Errorf("a request failed: %s", r)
		}
	})
}

// TestGrowAndShrink: room servers become three, and one again.
func TestGrowAndShrink(t *testing.T) {
	c := startCluster(t, clusterOptions{instances: map[string]int{"room-server": 1}})
	c.disturbed(t, max(25*time.Second, *soak), deliveryWithin, func(ctx context.Context) {
		every(t, ctx, 1, func() time.Duration { return 3 * time.Second }, func() {
			var more []*process
			for range 2 {
				p := c.newProcess("room-server")
				p.env = c.environ(p)
				c.restart(p)
				more = append(more, p)
			}
			wait(ctx, 4*time.Second)
			for _, p := range more {
				p.end(syscall.SIGTERM)
			}
		})
	})
}
