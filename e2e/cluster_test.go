package e2e

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// cluster is every role in processes of their own, some instances of each, on
// Kafka and PostgreSQL, behind a door.
type cluster struct {
	*door
	t        testing.TB
	dir      string // of files
	key      string // the file of the signing key
	binaries string
	env      []string // of every process
	stopFile string   // what begins the names of the files that stopAt makes
	own      func(*process) string

	mu        sync.Mutex
	processes map[string][]*process // by role
}

// clusterOptions say what is not as usual: two instances of each role on the
// services that tests share.
type clusterOptions struct {
	instances       map[string]int
	kafka, postgres *service
	binaries        string
	env             []string
	stops           bool // of altered binaries: stopAt is used
	stopped         bool // it is not started yet
	// own is a variable of one process's environment; may be nil.
	own func(*process) string
}

// startCluster starts a cluster on a new database and new topics.
func startCluster(t *testing.T, o clusterOptions) *cluster {
	t.Helper()
	dir := t.TempDir()
	c := &cluster{t: t, dir: dir, key: filepath.Join(dir, "signing.key"), binaries: o.binaries, own: o.own, processes: map[string][]*process{}}
	if c.binaries == "" {
		c.binaries = must(t, shared.binaries)
	}
	kafka, postgres := serviceOr(t, o.kafka, shared.kafka), serviceOr(t, o.postgres, shared.postgres)
	c.env = append(os.Environ(), "DENDRITE_GLOBAL_SERVER_NAME=localhost", "DENDRITE_GLOBAL_PRIVATE_KEY="+c.key,
		"DENDRITE_INTERNAL_SECRET="+rand.Text(), "DENDRITE_REGISTRATION_OPEN=true", "DENDRITE_RATE_LIMITING_ENABLED=false",
		"DENDRITE_MEDIA_API_PATH="+filepath.Join(dir, "media"))
	c.env = append(c.env, onKafka(t, kafka)...)
	c.env = append(c.env, onPostgres(t, postgres)...)
	c.env = append(c.env, o.env...)
	if o.stops {
		c.stopFile = filepath.Join(dir, "stop")
		c.env = append(c.env, "DENDRITE_TEST_STOP="+c.stopFile)
	}
	c.door = newDoor(t, c.reachable)
	c.watch.blind.Store(o.binaries != "") // another release's, or altered ones
	for _, role := range allRoles {
		n, given := o.instances[role]
		if !given {
			n = 2
		}
		for range n {
			c.processes[role] = append(c.processes[role], c.newProcess(role))
		}
	}
	t.Cleanup(c.confess)
	if o.binaries == "" {
		t.Cleanup(noDeadlocks(t, filepath.Join(postgres, "log")))
	}
	t.Cleanup(c.stop)
	if !o.stopped {
		c.startAll()
	}
	return c
}

// newProcess makes an instance of a role; it is not started.
func (c *cluster) newProcess(role string) *process {
	p := &process{t: c.t, role: role, binary: filepath.Join(c.binaries, binaryOf(role)), data: c.t.TempDir(),
		internal: freeAddress(c.t), metrics: freeAddress(c.t), public: freeAddress(c.t)}
	if c.own != nil {
		p.own = []string{c.own(p)}
	}
	return p
}

// environ is what a process is started with: it names all instances of the roles
// that are asked, those that do not run too.
func (c *cluster) environ(p *process) []string {
	env := append(slices.Clone(c.env), "DENDRITE_GLOBAL_DATA_DIR="+p.data, "DENDRITE_INTERNAL_LISTEN="+p.internal,
		"DENDRITE_METRICS_LISTEN="+p.metrics, "DENDRITE_METRICS_PROFILES=true", "DENDRITE_HTTP_LISTEN="+p.public)
	for _, role := range []string{"room-server", "user-api", "directory-api", "sync-api"} {
		var all []string
		for _, other := range c.processes[role] {
			all = append(all, other.internal)
		}
		env = append(env, "DENDRITE_INTERNAL_"+strings.ToUpper(strings.ReplaceAll(role, "-", "_"))+"="+strings.Join(all, ","))
	}
	return append(env, p.own...)
}

func (c *cluster) all() (all []*process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, role := range allRoles {
		all = append(all, c.processes[role]...)
	}
	return all
}

// reachable are the instances of a role that the door may choose.
func (c *cluster) reachable(role string) []*process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.processes[role])
}

// startAll starts what does not run, at once, and waits until all is ready.
func (c *cluster) startAll() {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Minute)
	defer cancel()
	all := c.all()
	outcome := make(chan error, len(all))
	for _, p := range all {
		p.env = c.environ(p)
		go func() {
			err := p.start()
			if err == nil {
				err = p.ready(ctx)
			}
			outcome <- err
		}()
	}
	for range all {
		if err := <-outcome; err != nil {
			c.t.Fatal(err)
		}
	}
}

// stop ends all processes in order.
func (c *cluster) stop() { c.endAll(syscall.SIGTERM) }

// endAll ends all processes, readers of requests first.
func (c *cluster) endAll(signal syscall.Signal) {
	all := c.all()
	var wg sync.WaitGroup
	for _, p := range slices.Backward(all) {
		p.signal(syscall.SIGCONT)
		wg.Go(func() { p.end(signal) })
	}
	wg.Wait()
}

// noDeadlocks begins to follow what PostgreSQL says; end fails the test if some of its
// transactions waited for each other: each time somebody waits for a second until
// PostgreSQL notices.
func noDeadlocks(t *testing.T, log string) (end func()) {
	t.Helper()
	read := func() []byte {
		said, err := os.ReadFile(log)
		if err != nil {
			t.Error(err)
		}
		return said
	}
	before := len(read())
	return func() {
		said := read()
		if _, found, ok := strings.Cut(string(said[min(before, len(said)):]), "deadlock detected"); ok {
			t.Errorf("transactions waited for each other: %s", found[:min(len(found), 4000)])
		}
	}
}

// confess shows what the processes of a test that failed have logged.
func (c *cluster) confess() {
	if !c.t.Failed() {
		return
	}
	for _, p := range c.all() {
		c.t.Logf("the log of %s (%s):\n%s", p.role, p.internal, p.logs.tail())
	}
}

// String names the instance in what a test says.
func (p *process) String() string { return fmt.Sprintf("%s at %s", p.role, p.internal) }
