package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/matrix-org/dendrite/deploy"
)

const (
	// readyWithin bounds a start: the first one makes the schemas and topics.
	readyWithin = 2 * time.Minute
	// stopWithin is how long a process has to stop before it is killed.
	stopWithin = 30 * time.Second
	lookEvery  = 50 * time.Millisecond
)

// start starts what does not run, and waits until it is ready.
func (m *machine) start(ctx context.Context, names []string) error {
	if err := m.prepare(); err != nil {
		return err
	}
	if err := m.makeKeys(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	chosen := m.choose(names)
	for _, name := range chosen {
		if err := m.launch(ctx, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for _, name := range chosen {
		if err := m.await(ctx, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if len(names) == 0 {
		fmt.Printf("clients: http://%s and https://%s\n", m.state.Proxy.HTTP, m.state.Proxy.TLS)
		fmt.Printf("make an account: bin/create-account --url http://%s --shared-secret-file %s --username NAME --admin\n",
			m.state.Proxy.HTTP, m.cluster.Secret("registration_secret"))
	}
	return nil
}

// run starts a cluster that lasts as long as whoever holds the other end of its
// input, who so cannot die without ending it.
func (m *machine) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	err := m.start(ctx, nil)
	if err == nil {
		<-ctx.Done()
	}
	return errors.Join(err, m.end(nil, syscall.SIGKILL), os.RemoveAll(m.dir))
}

// makeKeys runs the service that makes keys, where there are none.
func (m *machine) makeKeys(ctx context.Context) error {
	command := m.services.MakeKeys(m.cluster)
	if out, err := exec.CommandContext(ctx, command.Program, command.Arguments...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", command.Program, err, out)
	}
	return nil
}

// launch starts a process that does not run.
func (m *machine) launch(ctx context.Context, name string) error {
	switch name {
	case deploy.Postgres:
		return m.startPostgres(ctx)
	case deploy.Kafka:
		return m.script(ctx, "kafka", "start")
	case deploy.Proxy:
		return m.startProxy()
	}
	if err := m.readBrokers(); err != nil {
		return err
	}
	instance, _ := m.instance(name)
	return m.spawn(name, m.services.Command(m.cluster, instance))
}

// script runs one of the repository's scripts on the folder of a service.
func (m *machine) script(ctx context.Context, service, command string) (err error) {
	c := exec.CommandContext(ctx, filepath.Join(m.services.Root, "scripts", service), command, filepath.Join(m.dir, service))
	out, err := os.CreateTemp("", "dendrite-"+service) // a pipe would be held open by what it starts
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close(), os.Remove(out.Name())) }()
	c.Stdout, c.Stderr = out, out
	if err := c.Run(); err != nil {
		said, _ := os.ReadFile(out.Name())
		return fmt.Errorf("scripts/%s %s: %w: %s", service, command, err, said)
	}
	return nil
}

// startPostgres starts PostgreSQL, and tells the roles where it is.
func (m *machine) startPostgres(ctx context.Context) error {
	if m.script(ctx, deploy.Postgres, "status") != nil {
		if err := m.script(ctx, deploy.Postgres, "install"); err != nil {
			return err
		}
		if err := m.script(ctx, deploy.Postgres, "start"); err != nil {
			return err
		}
	}
	url, err := os.ReadFile(filepath.Join(m.dir, deploy.Postgres, "url"))
	if err != nil {
		return err
	}
	return os.WriteFile(m.cluster.Secret("database_url"), url, 0o600)
}

// startProxy starts nginx, or tells it which instances there are now.
func (m *machine) startProxy() error {
	arguments, err := m.services.WriteProxy(m.cluster, m.state.Proxy)
	if err != nil {
		return err
	}
	if pid := m.pid(deploy.Proxy); pid != 0 {
		return syscall.Kill(pid, syscall.SIGHUP)
	}
	program, err := exec.LookPath("nginx")
	if err != nil {
		program = "/usr/sbin/nginx" // where Debian has it, outside the users' path
	}
	return m.spawn(deploy.Proxy, &deploy.Command{Program: program, Arguments: arguments})
}

func (m *machine) readBrokers() error {
	text, err := os.ReadFile(filepath.Join(m.dir, deploy.Kafka, "brokers"))
	if err != nil {
		return fmt.Errorf("Kafka was never started: %w", err)
	}
	m.cluster.Brokers = strings.Split(strings.TrimSpace(string(text)), ",")
	return nil
}

// spawn starts a process that outlives this one; its log is DIR/NAME/log.
func (m *machine) spawn(name string, command *deploy.Command) error {
	if m.pid(name) != 0 {
		return nil
	}
	dir := filepath.Join(m.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	c := exec.Command(command.Program, command.Arguments...)
	c.Env = []string{"GOMAXPROCS=" + strconv.Itoa(m.share())} // which the environment may say otherwise
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "DENDRITE_") { // as in a container
			c.Env = append(c.Env, variable)
		}
	}
	c.Env = append(c.Env, command.Environment...)
	c.Stdout, c.Stderr = log, log
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		return err
	}
	pid := c.Process.Pid
	go func() { _ = c.Wait() }() // else pid would find it after its end
	return os.WriteFile(filepath.Join(dir, "pid"), []byte(strconv.Itoa(pid)), 0o600)
}

// share is how many cores a process may keep busy at once: the instances of a role
// share those that there are. A Go process looks for work on each core that it may
// use; with four of each role on two cores that took a quarter of all CPU.
func (m *machine) share() int {
	instances, most := map[string]int{}, 1
	for _, i := range m.state.Instances {
		instances[i.Role]++
		most = max(most, instances[i.Role])
	}
	return max(1, runtime.NumCPU()/most)
}

// await waits until a process is ready.
func (m *machine) await(ctx context.Context, name string) error {
	url := "http://" + m.state.Proxy.HTTP + "/health"
	switch instance, ok := m.instance(name); {
	case ok:
		url = "http://" + instance.Addresses[deploy.OperatorPort] + "/ready"
	case name != deploy.Proxy:
		return nil // its script has waited
	}
	for {
		said, err := get(ctx, url)
		if err == nil {
			return nil
		}
		if m.pid(name) == 0 {
			return fmt.Errorf("it has ended: %s", m.lastWords(name))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("it is not ready: %w %s", err, said)
		case <-time.After(lookEvery):
		}
	}
}

// lastWords is the end of a process's log.
func (m *machine) lastWords(name string) string {
	const most = 1000
	text, err := os.ReadFile(filepath.Join(m.dir, name, "log"))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-most):])
}

func get(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = errors.New(res.Status)
	}
	return string(text), err
}

// end ends processes, in the order opposite to that of a start.
func (m *machine) end(names []string, signal syscall.Signal) error {
	chosen := m.choose(names)
	slices.Reverse(chosen)
	ctx := context.Background()
	var waiting []string
	for _, name := range chosen {
		switch name {
		case deploy.Postgres, deploy.Kafka:
			if err := m.gone(waiting); err != nil { // they are still needed
				return err
			}
			waiting = nil
			if err := m.script(ctx, name, map[bool]string{true: "kill", false: "stop"}[signal == syscall.SIGKILL]); err != nil {
				return err
			}
		default:
			if pid := m.pid(name); pid != 0 {
				if err := send(pid, signal); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				waiting = append(waiting, name)
			}
		}
	}
	return m.gone(waiting)
}

// send sends a signal to a process that may have ended. SIGKILL goes to its
// children too, which nginx could not end any more.
func send(pid int, signal syscall.Signal) error {
	if pid == 0 {
		return nil // and not our own group
	}
	if signal == syscall.SIGKILL {
		pid = -pid // spawn has made it the first of a session
	}
	if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

// gone waits until processes have ended, and kills those that do not.
func (m *machine) gone(names []string) error {
	deadline := time.Now().Add(stopWithin)
	for _, name := range names {
		for m.pid(name) != 0 {
			if time.Now().After(deadline) {
				fmt.Fprintf(os.Stderr, "cluster: %s does not stop and is killed\n", name)
				if err := send(m.pid(name), syscall.SIGKILL); err != nil {
					return err
				}
			}
			time.Sleep(lookEvery)
		}
		if err := os.Remove(filepath.Join(m.dir, name, "pid")); err != nil {
			return err
		}
	}
	return nil
}

// pid returns the process that runs under a name, 0 for none.
func (m *machine) pid(name string) int {
	text, err := os.ReadFile(filepath.Join(m.dir, name, "pid"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil || syscall.Kill(pid, 0) != nil {
		return 0
	}
	// A process that nobody has waited for is dead; another one may have its number.
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return pid // not Linux
	}
	program, rest, _ := strings.Cut(string(stat), ") ")
	if strings.HasPrefix(rest, "Z") || !strings.Contains(program, "(dendrite-") && !strings.Contains(program, "(nginx") {
		return 0
	}
	return pid
}

// status prints what runs, and fails when something does not.
func (m *machine) status() error {
	var ended []string
	for _, name := range m.choose(nil) {
		state := "does not run"
		switch pid := m.pid(name); {
		case name == deploy.Postgres || name == deploy.Kafka:
			if m.script(context.Background(), name, "status") == nil {
				state = "runs"
			}
		case pid != 0:
			state = fmt.Sprintf("runs as %d", pid)
			if instance, ok := m.instance(name); ok {
				said, err := get(context.Background(), "http://"+instance.Addresses[deploy.OperatorPort]+"/ready")
				if err != nil {
					said = err.Error() + " " + said
				}
				state += ", " + strings.TrimSpace(said)
			}
		}
		if state == "does not run" {
			ended = append(ended, name)
		}
		fmt.Printf("%-22s %s\n", name, state)
	}
	if len(ended) > 0 {
		return fmt.Errorf("%d of the processes do not run", len(ended))
	}
	return nil
}
