package kafkatest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/eventlog/kafka"
	"github.com/matrix-org/dendrite/common/testserver"
)

// Variable names running brokers, separated by commas.
const Variable = "DENDRITE_TEST_KAFKA"

// within bounds how long brokers may take to start, with what they download.
const within = 5 * time.Minute

// Broker is a Kafka with a prefix for topics that is the test's own.
type Broker struct {
	Brokers []string
	Prefix  string
}

// shared starts the process's node at the first call. Nobody ends it but the
// end of the process, so tests of a package run one after the other on it.
var shared = sync.OnceValues(func() (*running, error) {
	if given := os.Getenv(Variable); given != "" {
		return &running{brokers: strings.Split(given, ",")}, nil
	}
	dir, err := os.MkdirTemp("", "dendrite-kafka-") // the script removes it
	if err != nil {
		return nil, err
	}
	return run(dir)
})

// running are brokers that live until stop is called, or nobody can call it any
// more: a pipe that is not referred to is closed.
type running struct {
	brokers []string
	stop    func()
}

// Start returns the brokers that all tests of the process share.
func Start(t testing.TB) Broker {
	t.Helper()
	r, err := shared()
	if err != nil {
		t.Fatalf("Kafka could not be started: %v", err)
	}
	b := Broker{Brokers: r.brokers, Prefix: "t" + strings.ToLower(rand.Text()[:12]) + "."}
	t.Cleanup(func() {
		if err := b.clear(); err != nil {
			t.Logf("The test's topics stay: %v", err)
		}
	})
	return b
}

// clear deletes the test's topics: brokers are slower the more they have.
func (b Broker) clear() (err error) {
	admin, err := sarama.NewClusterAdmin(b.Brokers, sarama.NewConfig())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, admin.Close()) }()
	topics, err := admin.ListTopics()
	if err != nil {
		return err
	}
	for name := range topics {
		if strings.HasPrefix(name, b.Prefix) {
			err = errors.Join(err, admin.DeleteTopic(name))
		}
	}
	return err
}

// Options are those of a log on the brokers.
func (b Broker) Options(t testing.TB) kafka.Options {
	logger := logrus.New()
	logger.SetFormatter(&logrus.TextFormatter{TimestampFormat: time.StampMilli, FullTimestamp: true})
	logger.SetOutput(output{t})
	logger.SetLevel(logrus.DebugLevel)
	return kafka.Options{Brokers: b.Brokers, TopicPrefix: b.Prefix, Logger: logrus.NewEntry(logger)}
}

// output writes to a test's log.
type output struct{ t testing.TB }

// Write implements io.Writer.
func (o output) Write(p []byte) (int, error) {
	o.t.Logf("%s", bytes.TrimRight(p, "\n"))
	return len(p), nil
}

// Cluster is a Kafka of a test's own.
type Cluster struct {
	Broker
	t   testing.TB
	dir string
}

// StartCluster starts a cluster with the options of scripts/kafka; it ends with
// the test.
func StartCluster(t testing.TB, options ...string) *Cluster {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "kafka")
	r, err := run(dir, options...)
	if err != nil {
		t.Fatalf("Kafka could not be started: %v", err)
	}
	t.Cleanup(r.stop)
	return &Cluster{Broker: Broker{Brokers: r.brokers}, t: t, dir: dir}
}

// Stop stops a node, Kill kills it, Restart starts it again.
func (c *Cluster) Stop(node int) { c.call("stop", node) }

// Kill kills a node with SIGKILL.
func (c *Cluster) Kill(node int) { c.call("kill", node) }

// Restart starts a node that was stopped or killed.
func (c *Cluster) Restart(node int) { c.call("start", node) }

func (c *Cluster) call(what string, node int) {
	c.t.Helper()
	script, err := testserver.Script("kafka")
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	began := time.Now()
	if out, err := exec.CommandContext(ctx, script, what, c.dir, strconv.Itoa(node)).CombinedOutput(); err != nil {
		c.t.Fatalf("%s of node %d: %v\n%s", what, node, err, out)
	}
	c.t.Logf("%s of node %d took %v", what, node, time.Since(began))
}

// run runs the script's run. The pipe to its stdin is what keeps the brokers.
func run(dir string, options ...string) (_ *running, err error) {
	path, err := testserver.Script("kafka")
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, append([]string{"run", dir}, options...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt is for the tests alone
	keep, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	said, err := os.CreateTemp("", "dendrite-kafka-said-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, said.Close(), os.Remove(said.Name())) }()
	cmd.Stderr = said // a file, not a pipe: what outlives this process holds up nobody
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop := sync.OnceFunc(func() {
		_ = keep.Close() // the script has ended already if this fails
		_ = cmd.Wait()
	})
	late := time.AfterFunc(within, stop)
	defer late.Stop()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if list, ok := strings.CutPrefix(lines.Text(), "kafka ready on "); ok {
			return &running{strings.Split(list, ","), stop}, nil
		}
	}
	stop()
	if _, err := said.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	why, err := io.ReadAll(said)
	return nil, errors.Join(fmt.Errorf("%s: %s", path, bytes.TrimSpace(why)), err)
}
