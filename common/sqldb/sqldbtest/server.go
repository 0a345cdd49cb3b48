package sqldbtest

import (
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	_ "github.com/lib/pq" // the driver

	"github.com/matrix-org/dendrite/common/testserver"
)

// PostgreSQLServer is a running server.
type PostgreSQLServer struct {
	URL string // a superuser's
	db  *sql.DB
	// running holds the pipe whose end is the server's; nil where it was given.
	running *testserver.Server
}

// shared is the test binary's one server, started when it is needed first.
var shared = sync.OnceValues(func() (*PostgreSQLServer, error) {
	if url := os.Getenv("DENDRITE_TEST_POSTGRES"); url != "" {
		return connect(url)
	}
	return start()
})

// Server returns the server that this test binary's tests share.
func Server(t testing.TB) *PostgreSQLServer {
	t.Helper()
	s, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// start starts a server that ends when this process does.
func start() (*PostgreSQLServer, error) {
	running, err := testserver.Serve("postgres")
	if err != nil {
		return nil, err
	}
	s, err := connect(running.Said)
	if err != nil {
		return nil, errors.Join(err, running.End())
	}
	s.running = running
	return s, nil
}

func connect(url string) (*PostgreSQLServer, error) {
	db, err := sql.Open("postgres", url)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(2)
	if err := db.Ping(); err != nil {
		return nil, fmt.Errorf("sqldbtest: no PostgreSQL at DENDRITE_TEST_POSTGRES: %w", err)
	}
	return &PostgreSQLServer{URL: url, db: db}, nil
}

// schema makes a schema, unless it is there.
func (s *PostgreSQLServer) schema(name string) (made bool, err error) {
	res, err := s.db.Exec("SELECT FROM pg_namespace WHERE nspname = $1", name)
	if err != nil {
		return false, err
	}
	if n, err := res.RowsAffected(); err != nil || n > 0 {
		return false, err
	}
	_, err = s.db.Exec("CREATE SCHEMA " + name)
	return err == nil, err
}

func (s *PostgreSQLServer) drop(name string) error {
	_, err := s.db.Exec("DROP SCHEMA " + name + " CASCADE")
	return err
}

// Database makes a database on the shared server, for a whole installation with
// its schemas, and drops it when the test ends; it returns its URL.
func Database(t testing.TB) string {
	t.Helper()
	at, err := url.Parse(Server(t).URL)
	if err != nil {
		t.Fatal(err)
	}
	at.Path = DatabaseWith(t, "ENCODING 'UTF8' LOCALE 'C'")
	return at.String()
}

// DatabaseWith is Database with properties of the test's choice; it returns the
// database's name.
func DatabaseWith(t testing.TB, properties string) string {
	t.Helper()
	s, name := Server(t), "test_"+strings.ToLower(rand.Text())
	if _, err := s.db.Exec("CREATE DATABASE " + name + " TEMPLATE template0 " + properties); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := s.db.Exec("DROP DATABASE " + name + " WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	return name
}

// Private starts a server for one test alone, which may stop, kill and restart
// it: see Control.
func Private(t testing.TB) *Control {
	t.Helper()
	path, err := testserver.Script("postgres")
	if err != nil {
		t.Fatal(err)
	}
	running, err := testserver.Serve("postgres")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := running.End(); err != nil {
			t.Error(err)
		}
	})
	return &Control{URL: running.Said, t: t, script: path, dir: running.Dir}
}

// Control is a server that a test stops and starts.
type Control struct {
	URL         string
	t           testing.TB
	script, dir string
}

// Start starts the server again, on the same port.
func (c *Control) Start() { c.t.Helper(); c.run("start") }

// Stop stops the server in order: connections are ended.
func (c *Control) Stop() { c.t.Helper(); c.run("stop") }

// Kill kills the server as a crash would.
func (c *Control) Kill() { c.t.Helper(); c.run("kill") }

func (c *Control) run(command string) {
	c.t.Helper()
	if out, err := exec.Command(c.script, command, c.dir).CombinedOutput(); err != nil {
		c.t.Fatalf("scripts/postgres %s: %v\n%s", command, err, out)
	}
}
