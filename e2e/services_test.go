package e2e

import (
	"bufio"
	"crypto/rand"
	"database/sql"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	_ "github.com/lib/pq"
)

// service is a real Kafka or PostgreSQL that scripts/ start. It ends with the
// pipe to its keeper, so also when these tests are killed.
type service struct {
	script string // scripts/kafka or scripts/postgres
	dir    string
	// wrap is put before the script's command line, and seen is where dir is for
	// this process: on a disk of its own, another folder.
	wrap   []string
	seen   string
	pipe   io.Closer
	keeper *exec.Cmd
}

// startService starts one in a new folder; keep is the script's word for that.
func startService(script, keep string, args ...string) (*service, error) {
	dir, err := os.MkdirTemp("", "dendrite-"+filepath.Base(script))
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // PostgreSQL runs as another user
		return nil, err
	}
	s := &service{script: script, dir: filepath.Join(dir, "data")}
	s.seen = s.dir
	return s, s.start(keep, args...)
}

// start starts it, whose folder is not there yet.
func (s *service) start(keep string, args ...string) (err error) {
	s.keeper = s.command(keep, args...)
	var complaints logBuffer
	s.keeper.Stderr = &complaints
	if s.pipe, err = s.keeper.StdinPipe(); err != nil {
		return err
	}
	out, err := s.keeper.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.keeper.Start(); err != nil {
		return err
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil { // it says so when it runs
		return fmt.Errorf("%s %s: %w\n%s", s.script, keep, err, complaints.tail())
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return nil
}

// command is the script's, with a word of its own.
func (s *service) command(word string, args ...string) *exec.Cmd {
	script := "../" + s.script
	if here, err := os.Getwd(); err == nil { // what wraps it may be elsewhere
		script = filepath.Join(here, script)
	}
	line := append(append(slices.Clone(s.wrap), script, word, s.dir), args...)
	return exec.Command(line[0], line[1:]...)
}

// end stops the service and removes its data.
func (s *service) end() error {
	err := s.pipe.Close()
	_ = s.keeper.Wait() // it may have been killed
	if e := os.RemoveAll(filepath.Dir(s.dir)); err == nil {
		err = e
	}
	return err
}

// do runs the script with a word of its own: stop, start, kill, restart.
func (s *service) do(t testing.TB, word string, args ...string) {
	t.Helper()
	if out, err := s.command(word, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", s.script, word, err, out)
	}
}

func must(t testing.TB, f func() (string, error)) string {
	t.Helper()
	s, err := f()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// serviceOr returns the folder of a test's own service, or of the shared one.
func serviceOr(t testing.TB, own *service, otherwise func() (string, error)) string {
	t.Helper()
	if own != nil {
		return own.seen
	}
	return must(t, otherwise)
}

// onKafka is the environment of a process whose log is on those brokers, in
// topics of its own.
func onKafka(t testing.TB, dir string) []string {
	t.Helper()
	return []string{"DENDRITE_EVENT_LOG_KAFKA_BROKERS=" + says(t, dir, "brokers"), "DENDRITE_EVENT_LOG_KAFKA_TOPIC_PREFIX=" + unique() + "."}
}

// onPostgres is the environment of a process whose stores are there, in a
// database of its own, which it makes.
func onPostgres(t testing.TB, dir string) []string {
	t.Helper()
	super := says(t, dir, "url")
	db, err := sql.Open("postgres", super)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	name := unique()
	if _, err := db.ExecContext(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(super)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return []string{"DENDRITE_DATABASE_URL=" + u.String()}
}

func unique() string { return "e2e_" + strings.ToLower(rand.Text()[:12]) }

// says returns what a file in a service's folder says.
func says(t testing.TB, dir, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// services are those that tests share which do them no harm; each starts when
// it is needed first.
type services struct {
	kafka, postgres, binaries, plain, altered func() (string, error) // the folder

	mu      sync.Mutex
	started []*service
	folders []string
}

func newServices() *services {
	s := &services{}
	start := func(script, keep string) func() (string, error) {
		return sync.OnceValues(func() (string, error) {
			started, err := startService(script, keep)
			if err != nil {
				return "", err
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.started = append(s.started, started)
			return started.seen, nil
		})
	}
	s.kafka, s.postgres = start("scripts/kafka", "run"), start("scripts/postgres", "serve")
	build := func(into func(dir string) error) func() (string, error) {
		return sync.OnceValues(func() (string, error) {
			dir, err := os.MkdirTemp("", "dendrite-binaries")
			if err != nil {
				return "", err
			}
			s.mu.Lock()
			s.folders = append(s.folders, dir)
			s.mu.Unlock()
			return dir, into(dir)
		})
	}
	s.binaries = build(func(dir string) error { return buildCluster(dir, "..") })
	s.plain = build(buildPlain)
	s.altered = build(buildAltered)
	return s
}

// end stops what was started.
func (s *services) end() {
	for _, started := range s.started {
		if err := started.end(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	for _, dir := range s.folders {
		_ = os.RemoveAll(dir) // what is left is in the system's folder for it
	}
}

// shared is set by TestMain.
var shared *services

// ownKafka starts brokers for one test.
func ownKafka(t *testing.T, args ...string) *service { return own(t, "scripts/kafka", "run", args...) }

// ownPostgres starts a database server for one test.
func ownPostgres(t *testing.T) *service { return own(t, "scripts/postgres", "serve") }

// postgresOnDisk starts a database server for one test on a disk of its own. Its
// user is not root there, though it be root here.
func postgresOnDisk(t *testing.T) (*service, *disk) {
	t.Helper()
	d := &disk{t: t, folder: t.TempDir()}
	if err := d.mount("755"); err != nil {
		t.Fatalf("PostgreSQL needs a file system of its own here, in a user namespace: %v", err)
	}
	s := &service{script: "scripts/postgres", dir: filepath.Join(d.folder, "data"), seen: filepath.Join(d.seen(), "data"),
		wrap: append(d.inside(), "unshare", "-U", "--map-user=1", "--map-group=1")}
	if err := s.start("serve"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.pipe.Close()
		_ = s.keeper.Wait() // it removes the data
	})
	return s, d
}

func own(t *testing.T, script, keep string, args ...string) *service {
	t.Helper()
	s, err := startService(script, keep, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.end(); err != nil {
			t.Error(err)
		}
	})
	return s
}
