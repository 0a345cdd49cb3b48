package sqldbtest

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	_ "github.com/lib/pq" // the driver
)

// PostgreSQLServer is a running server.
type PostgreSQLServer struct {
	URL string // a superuser's
	db  *sql.DB
	end func() error // holds the pipe whose end is the server's
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

// script finds scripts/postgres from a package's folder.
func script() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		path := filepath.Join(dir, "scripts", "postgres")
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("sqldbtest: there is no scripts/postgres above the test's folder")
		}
		dir = filepath.Dir(dir)
	}
}

// start starts a server that ends when this process does, however it dies: then
// the pipe that the script reads from has an end.
func start() (*PostgreSQLServer, error) {
	path, err := script()
	if err != nil {
		return nil, err
	}
	_, url, end, err := serve(path)
	if err != nil {
		return nil, err
	}
	s, err := connect(url)
	if err != nil {
		return nil, errors.Join(err, end())
	}
	s.end = end
	return s, nil
}

// serve runs scripts/postgres serve: end ends it.
func serve(path string) (dir, url string, end func() error, err error) {
	// Not a test's own folder: the server's user must be able to get there.
	if dir, err = os.MkdirTemp("", "dendrite-postgres-"); err != nil {
		return "", "", nil, err
	}
	cmd := exec.Command(path, "serve", dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt from the terminal is for us
	var failure bytes.Buffer
	cmd.Stderr = &failure
	in, err := cmd.StdinPipe()
	if err != nil {
		return "", "", nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", "", nil, err
	}
	url, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		err = errors.Join(cmd.Wait(), os.RemoveAll(dir))
		return "", "", nil, fmt.Errorf("sqldbtest: PostgreSQL does not start: %s: %w", strings.TrimSpace(failure.String()), err)
	}
	return dir, strings.TrimSpace(url), func() error { return errors.Join(in.Close(), cmd.Wait()) }, nil
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
	path, err := script()
	if err != nil {
		t.Fatal(err)
	}
	dir, url, end, err := serve(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := end(); err != nil {
			t.Error(err)
		}
	})
	return &Control{URL: url, t: t, script: path, dir: dir}
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
