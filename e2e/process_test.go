package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
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

// process is an instance of a role of a cluster. Its addresses stay the same
// from one start to the next.
type process struct {
	t        testing.TB
	role     string
	binary   string
	env      []string
	own      []string // of env, what no other process has
	data     string
	public   string // "" for roles that clients do not reach
	internal string
	metrics  string

	mu    sync.Mutex
	cmd   *exec.Cmd
	ended chan struct{}
	logs  logBuffer
}

// start starts the process and waits until it says that it runs.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		return nil
	}
	cmd := exec.Command(p.binary)
	cmd.Env, cmd.Stderr = p.env, &p.logs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	running := make(chan bool, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			fmt.Fprintln(&p.logs, lines.Text())
			if strings.Contains(lines.Text(), "is running") || strings.Contains(lines.Text(), "is listening on") {
				select {
				case running <- true:
				default:
				}
			}
		}
		_ = cmd.Wait()
		close(running)
	}()
	select {
	case ok := <-running:
		if !ok {
			return fmt.Errorf("%s ended before it ran\n%s", p.role, p.logs.tail())
		}
		p.cmd, p.ended = cmd, ended
		return nil
	case <-time.After(2 * time.Minute):
		_ = cmd.Process.Kill()
		<-ended
		return fmt.Errorf("%s does not run after two minutes\n%s", p.role, p.logs.tail())
	}
}

// signal sends a signal; false when the process does not run.
func (p *process) signal(signal syscall.Signal) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd != nil && p.cmd.Process.Signal(signal) == nil
}

// end sends a signal and waits until the process has ended.
func (p *process) end(signal syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(signal)
	select {
	case <-p.ended:
	case <-time.After(40 * time.Second):
		p.t.Errorf("%s has not ended 40 s after %v\n%s", p.role, signal, p.logs.tail())
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
	p.cmd = nil
}

// ready waits until /ready answers 200.
func (p *process) ready(ctx context.Context) error {
	last := ""
	for {
		if status, body, err := ask(ctx, p.metrics, "/ready"); err == nil && status == http.StatusOK {
			return nil
		} else if err != nil {
			last = err.Error()
		} else {
			last = body
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %s\n%s", p.role, last, p.logs.tail())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// ask gets a page of an internal address.
func ask(ctx context.Context, address, path string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return 0, "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	return res.StatusCode, string(raw), err
}

// buildCluster builds the binaries of a source into one folder, and more of it.
func buildCluster(to, source string, more ...string) error {
	args := []string{"build", "-o", to + string(filepath.Separator)}
	if raceEnabled {
		args = append(args, "-race")
	}
	args = append(append(args, "./cmd/dendrite-admin"), more...)
	for _, role := range allRoles {
		if _, err := os.Stat(filepath.Join(source, "cmd", binaryOf(role))); err == nil { // an earlier release may not have it
			args = append(args, "./cmd/"+binaryOf(role))
		}
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = source
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building the cluster: %w\n%s", err, out)
	}
	return nil
}

// allRoles are the roles of a cluster, in an order in which they may be started
// and updated.
var allRoles = []string{"room-server", "user-api", "directory-api", "sync-api", "client-api", "federation-api", "federation-sender", "media-api", "push-server", "search-server"}

func binaryOf(role string) string {
	switch {
	case role == "":
		return "dendrite"
	case strings.HasSuffix(role, "-server"):
		return "dendrite-" + role
	}
	return "dendrite-" + role + "-server"
}
