package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// targetOptions say which server is measured.
type targetOptions struct {
	binary, cluster, url, pids, brokers, metrics, secretFile string
}

func (o *targetOptions) flags(set *flag.FlagSet) {
	set.StringVar(&o.binary, "binary", "", "the dendrite that is started; \"\" builds the one of this source")
	set.StringVar(&o.cluster, "cluster", "", "the folder of a cluster that scripts/cluster has started")
	set.StringVar(&o.url, "url", "", "the address of a server that runs")
	set.StringVar(&o.pids, "pids", "", "its processes, as NAME=PID with commas between: roles, and postgres")
	set.StringVar(&o.brokers, "brokers", "", "the processes of Kafka, with commas between")
	set.StringVar(&o.metrics, "metrics", "", "the addresses of its metrics, with commas between")
	set.StringVar(&o.secretFile, "secret-file", "", "a file with its registration.shared_secret, if registration is closed")
}

// target is the server.
type target struct {
	url       string
	processes processes
	metrics   []string // addresses
	secret    string
	stop      func()
}

func newTarget(ctx context.Context, o targetOptions) (*target, error) {
	switch {
	case o.cluster != "":
		return clusterTarget(o.cluster)
	case o.url != "":
		return givenTarget(o)
	}
	return ownTarget(ctx, o.binary)
}

// givenTarget is a server that somebody else has started.
func givenTarget(o targetOptions) (*target, error) {
	t := &target{url: strings.TrimSuffix(o.url, "/"), processes: processes{roots: map[int]string{}}, stop: func() {}}
	for pair := range strings.SplitSeq(o.pids, ",") {
		name, number, ok := strings.Cut(pair, "=")
		if !ok {
			name, number = "server", pair
		}
		pid, err := strconv.Atoi(number)
		if err != nil {
			return nil, fmt.Errorf("-pids: %q is not NAME=PID", pair)
		}
		t.processes.roots[pid] = name
	}
	if o.brokers != "" {
		for number := range strings.SplitSeq(o.brokers, ",") {
			pid, err := strconv.Atoi(number)
			if err != nil {
				return nil, fmt.Errorf("-brokers: %q is no number", number)
			}
			t.processes.brokers = append(t.processes.brokers, pid)
		}
	}
	if o.metrics != "" {
		t.metrics = strings.Split(o.metrics, ",")
	}
	if o.secretFile != "" {
		text, err := os.ReadFile(o.secretFile)
		if err != nil {
			return nil, err
		}
		t.secret = strings.TrimSpace(string(text))
	}
	return t, nil
}

// clusterTarget is what scripts/cluster runs in a folder.
func clusterTarget(dir string) (*target, error) {
	text, err := os.ReadFile(filepath.Join(dir, "cluster.json"))
	if err != nil {
		return nil, err
	}
	var state struct {
		Proxy     struct{ HTTP string }
		Instances []struct {
			Name, Role string
			Addresses  map[string]string
		}
	}
	if err := json.Unmarshal(text, &state); err != nil {
		return nil, err
	}
	o := targetOptions{url: "http://" + state.Proxy.HTTP, secretFile: filepath.Join(dir, "secrets", "registration_secret")}
	var pids, metrics, brokers []string
	add := func(name, file string) error {
		pid, err := firstLine(file)
		pids = append(pids, name+"="+pid)
		return err
	}
	for _, i := range state.Instances {
		err = errors.Join(err, add(i.Role, filepath.Join(dir, i.Name, "pid")))
		metrics = append(metrics, i.Addresses["9090"]) // the port of metrics.listen in deploy/dendrite.yaml
	}
	err = errors.Join(err, add("proxy", filepath.Join(dir, "proxy", "pid")), add(postgres, filepath.Join(dir, postgres, "data", "postmaster.pid")))
	files, e := filepath.Glob(filepath.Join(dir, "kafka", "*", "pid"))
	if err = errors.Join(err, e); err != nil {
		return nil, err
	}
	for _, file := range files {
		pid, err := firstLine(file)
		if err != nil {
			return nil, err
		}
		brokers = append(brokers, pid)
	}
	o.pids, o.metrics, o.brokers = strings.Join(pids, ","), strings.Join(metrics, ","), strings.Join(brokers, ",")
	return givenTarget(o)
}

func firstLine(file string) (string, error) {
	text, err := os.ReadFile(file)
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSpace(line), err
}

// ownTarget builds and starts a server on fresh data, all in one.
func ownTarget(ctx context.Context, binary string) (_ *target, err error) {
	dir, err := os.MkdirTemp("", "dendrite-bench")
	if err != nil {
		return nil, err
	}
	t := &target{stop: func() { _ = os.RemoveAll(dir) }}
	defer func() {
		if err != nil {
			t.stop()
		}
	}()
	if binary == "" {
		binary = filepath.Join(dir, "dendrite")
		if out, err := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", binary, "github.com/matrix-org/dendrite/cmd/dendrite").CombinedOutput(); err != nil {
			return nil, fmt.Errorf("go build: %w\n%s", err, out)
		}
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(binary, "--data", filepath.Join(dir, "data"), "--server-name", "localhost", "--listen", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), "DENDRITE_REGISTRATION_OPEN=true", "DENDRITE_REGISTRATION_GUESTS_OPEN=true", "DENDRITE_RATE_LIMITING_ENABLED=false",
		"DENDRITE_METRICS_LISTEN="+address, "DENDRITE_METRICS_PROFILES=true", "DENDRITE_PUSH_ANY_URL=true", "DENDRITE_PUSH_ALLOW_RANGES=127.0.0.0/8")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	url, ended, err := startProcess(cmd, filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	t.url, t.metrics = url, []string{address}
	t.processes.roots = map[int]string{cmd.Process.Pid: "dendrite"}
	t.stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
		_ = os.RemoveAll(dir)
	}
	return t, nil
}

// startProcess starts a server and waits until it says where it listens; ended is
// closed with it.
func startProcess(cmd *exec.Cmd, log string) (url string, ended chan struct{}, err error) {
	file, err := os.Create(log)
	if err != nil {
		return "", nil, err
	}
	cmd.Stderr = file
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	said := make(chan string, 1)
	ended = make(chan struct{})
	go func() {
		defer close(ended)
		defer file.Close()
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if _, at, ok := strings.Cut(lines.Text(), "listening on "); ok {
				select {
				case said <- strings.TrimSpace(at):
				default:
				}
			}
		}
		_ = cmd.Wait()
	}()
	select {
	case url = <-said:
		return url, ended, nil
	case <-ended:
		text, _ := os.ReadFile(log)
		return "", nil, fmt.Errorf("dendrite ended before it listened: %s", text)
	case <-time.After(time.Minute):
		_ = cmd.Process.Kill()
		<-ended
		return "", nil, errors.New("dendrite does not listen after a minute")
	}
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// read reads what the server has taken so far.
func (t *target) read(ctx context.Context) (reading, error) {
	r := t.processes.read()
	for _, address := range t.metrics {
		text, err := get(ctx, "http://"+address+"/metrics")
		if err != nil {
			return r, err
		}
		for line := range strings.Lines(string(text)) {
			if rest, ok := strings.CutPrefix(line, "dendrite_sqldb_statements_total{"); ok {
				_, number, _ := strings.Cut(rest, "} ")
				n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
				if err != nil {
					return r, fmt.Errorf("metrics: %q", line)
				}
				r.statements += n
			}
		}
	}
	return r, nil
}

func (t *target) watch() func() float64 { return t.processes.watch() }

// get gets a page that is not Matrix's.
func get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	return whole(res)
}
