package e2e

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var soak = flag.Duration("e2e.soak", 0, "how long each test of faults runs (0: one short round)")

// binary is the dendrite that TestMain built.
var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "dendrite-e2e")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "dendrite")
		if err := build(binary); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		if walked, err = newWalk(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		shared = newServices()
		defer shared.end()
		return walked.end(m.Run())
	}())
}

// server is a dendrite process, started anew as often as a test likes on the
// same data.
type server struct {
	t      *testing.T
	binary string
	data   string
	env    []string
	// wrap is put before the command line, for instance strace.
	wrap  []string
	watch *watch

	mu   sync.Mutex
	cmd  *exec.Cmd
	url  string
	up   chan struct{} // closed while url is valid
	logs logBuffer
}

// startServer starts a server with open registration on fresh data; it is
// stopped when the test ends, and its log is shown if that failed.
func startServer(t *testing.T, env ...string) *server {
	t.Helper()
	s := newServer(t, env...)
	s.start()
	return s
}

func newServer(t *testing.T, env ...string) *server {
	s := &server{t: t, binary: binary, data: t.TempDir(), up: make(chan struct{}), watch: newWatch(t)}
	s.env = append(os.Environ(), "DENDRITE_REGISTRATION_OPEN=true", "DENDRITE_RATE_LIMITING_ENABLED=false")
	s.env = append(s.env, env...)
	t.Cleanup(func() {
		s.kill(syscall.SIGTERM)
		if t.Failed() {
			t.Logf("server's log:\n%s", s.logs.tail())
		}
	})
	return s
}

// start starts the process and waits until it listens.
func (s *server) start() {
	s.t.Helper()
	s.watch.blind.Store(s.binary != binary) // another release's, an altered one, or one that is built otherwise
	if err := s.tryStart(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) tryStart() error {
	line := append(append([]string{}, s.wrap...), s.binary, "--data", s.data, "--server-name", "localhost", "--listen", "127.0.0.1:0")
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Env = s.env
	cmd.Stderr = &s.logs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	address := make(chan string, 1)
	go func() {
		defer close(address)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			fmt.Fprintln(&s.logs, lines.Text())
			if _, url, ok := strings.Cut(lines.Text(), "listening on "); ok {
				select {
				case address <- strings.TrimSpace(url):
				default:
				}
			}
		}
	}()
	select {
	case url, ok := <-address:
		if !ok {
			return fmt.Errorf("dendrite ended before it listened: %w\n%s", cmd.Wait(), s.logs.tail())
		}
		s.mu.Lock()
		s.cmd, s.url = cmd, url
		close(s.up)
		s.mu.Unlock()
		return nil
	case <-time.After(60 * time.Second):
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		return fmt.Errorf("dendrite does not listen after a minute\n%s", s.logs.tail())
	}
}

// kill sends a signal to the process and waits until it has ended.
func (s *server) kill(signal syscall.Signal) {
	s.mu.Lock()
	cmd := s.cmd
	if cmd == nil {
		s.mu.Unlock()
		return
	}
	s.cmd, s.up = nil, make(chan struct{})
	s.mu.Unlock()
	// The whole group, so that a wrapper dies with it.
	_ = syscall.Kill(-cmd.Process.Pid, signal)
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		s.t.Errorf("dendrite has not ended half a minute after %v", signal)
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
	}
}

// base waits until the server listens and returns its URL.
func (s *server) base() string {
	for {
		s.mu.Lock()
		up, url := s.up, s.url
		s.mu.Unlock()
		<-up
		s.mu.Lock()
		same := s.url == url && s.up == up
		s.mu.Unlock()
		if same {
			return url
		}
	}
}

// watched implements site.
func (s *server) watched(t http.RoundTripper) http.RoundTripper { return &watcher{s.watch, t} }

func (s *server) pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return 0
	}
	return s.cmd.Process.Pid
}

// logBuffer keeps the end of what a process logged.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.buf.Len() > 1<<20 {
		b.buf.Next(1 << 19)
	}
	return b.buf.Write(p)
}

func (b *logBuffer) contains(text string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Contains(b.buf.Bytes(), []byte(text))
}

func (b *logBuffer) tail() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.buf.String()
	return all[max(0, len(all)-20000):]
}
