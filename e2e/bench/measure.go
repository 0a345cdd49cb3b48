package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// bench is a run.
type bench struct {
	*options
	target *target
	out    io.Writer
	unique string // begins the names of this run's users
}

// run runs the scenarios.
func run(ctx context.Context, o *options, t *target, out io.Writer) error {
	if o.profiles != "" {
		if err := os.MkdirAll(o.profiles, 0o700); err != nil {
			return err
		}
	}
	b := &bench{options: o, target: t, out: out, unique: fmt.Sprintf("bench%x", time.Now().UnixNano())}
	fmt.Fprintf(out, "%-34s %7s %9s %9s %9s %8s %8s %8s %8s  %-17s %5s\n", "what", "ops", "ops/s", "p50 ms", "p99 ms", "CPU ms", "pg ms", "broker", "SQL",
		"MiB before/at end/most", "load")
	for _, s := range scenarios {
		if len(o.names) > 0 && !slices.Contains(o.names, s.name) {
			continue
		}
		if err := s.run(ctx, b); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// load is what is measured: so many operations by so many workers.
type load struct {
	name    string
	ops     int
	workers int
	// units is what an operation counts for, such as the keys of a request; 0 means 1.
	units int
	// do is the n-th operation.
	do func(ctx context.Context, n int) error
	// until waits for what is to come of all of them; may be nil.
	until func(ctx context.Context) error
}

// figures are what came out.
type figures struct {
	elapsed time.Duration
	ops     float64
	before  reading
	after   reading
	profile string // a file; "" if there is none
}

// profileSeconds is how long a profile is taken from the beginning of a load.
const profileSeconds = 5

// measure runs a load and prints its line, with what notes make of the figures.
func (b *bench) measure(ctx context.Context, l load, notes ...func(f *figures) string) error {
	if err := b.settle(ctx); err != nil {
		return err
	}
	f := &figures{ops: float64(l.ops * max(1, l.units))}
	profiled := b.profile(ctx, l.name)
	var err error
	if f.before, err = b.target.read(ctx); err != nil {
		return err
	}
	peak := b.target.watch()
	began := time.Now()
	latencies, err := spread(ctx, l)
	f.elapsed = time.Since(began)
	if err == nil && l.until != nil {
		err = l.until(ctx)
	}
	if err == nil {
		err = b.settle(ctx)
	}
	most := peak()
	if err != nil {
		return fmt.Errorf("%s: %w", l.name, err)
	}
	if f.after, err = b.target.read(ctx); err != nil {
		return err
	}
	if f.profile, err = profiled(); err != nil {
		return err
	}
	slices.Sort(latencies)
	fmt.Fprintf(b.out, "%-34s %7.0f %9.1f %9.2f %9.2f %8.3f %8.3f %8.3f %8.1f  %6.0f/%6.0f/%6.0f %5s", l.name, f.ops, f.ops/f.elapsed.Seconds(),
		quantile(latencies, 0.5), quantile(latencies, 0.99), f.per(func(r *reading) float64 { return r.server }), f.per(func(r *reading) float64 { return r.postgres }),
		f.per(func(r *reading) float64 { return r.brokers }), f.per(func(r *reading) float64 { return r.statements }), f.before.memory, f.after.memory, most, loadAverage())
	for _, note := range notes {
		fmt.Fprint(b.out, "  ", note(f))
	}
	fmt.Fprintln(b.out, f.byRole())
	return nil
}

// per is how much of something there was for each operation.
func (f *figures) per(of func(*reading) float64) float64 {
	return (of(&f.after) - of(&f.before)) / f.ops
}

// byRole tells which processes the CPU of an operation is of, if there are several.
func (f *figures) byRole() string {
	if len(f.after.roles) < 2 {
		return ""
	}
	var parts []string
	for role, ms := range f.after.roles {
		if per := (ms - f.before.roles[role]) / f.ops; per >= 0.001 {
			parts = append(parts, fmt.Sprintf("%s %.3f", role, per))
		}
	}
	slices.Sort(parts)
	return "  [" + strings.Join(parts, ", ") + "]"
}

// spread has the workers do the operations, each the next one.
func spread(ctx context.Context, l load) ([]time.Duration, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	latencies := make([]time.Duration, l.ops)
	var next atomic.Int64
	var all sync.WaitGroup
	for range max(1, l.workers) {
		all.Go(func() {
			for {
				n := int(next.Add(1)) - 1
				if n >= l.ops || ctx.Err() != nil {
					return
				}
				began := time.Now()
				if err := l.do(ctx, n); err != nil {
					cancel(err)
					return
				}
				latencies[n] = time.Since(began)
			}
		})
	}
	all.Wait()
	return latencies, context.Cause(ctx)
}

// await waits until something holds, for a minute at most.
func await(ctx context.Context, what string, holds func() bool) error {
	for deadline := time.Now().Add(time.Minute); !holds(); {
		if time.Now().After(deadline) {
			return fmt.Errorf("a minute later it does not hold that %s", what)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

// each does something n times, by that many workers, without measuring it.
func each(ctx context.Context, n, workers int, do func(ctx context.Context, n int) error) error {
	_, err := spread(ctx, load{ops: n, workers: workers, do: do})
	return err
}

// A server has settled once it takes less than a tenth of a core.
const (
	settleLook = 300 * time.Millisecond
	settleMost = 2 * time.Minute
)

// settle waits until the server has done what it was asked for. One that is never
// quiet is measured as it is.
func (b *bench) settle(ctx context.Context) error {
	var last float64
	for began := time.Now(); time.Since(began) < settleMost; {
		r := b.target.processes.read()
		now := r.server + r.postgres
		if last > 0 && now-last < float64(settleLook.Milliseconds())/10 {
			return nil
		}
		last = now
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(settleLook):
		}
	}
	return nil
}

func quantile(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]) / float64(time.Millisecond)
}

func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "?"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}

// profile begins to take a CPU profile of a server that is one process, if that is
// wanted; the function returned waits for it.
func (b *bench) profile(ctx context.Context, name string) func() (string, error) {
	if b.profiles == "" || len(b.target.metrics) != 1 {
		return func() (string, error) { return "", nil }
	}
	file := filepath.Join(b.profiles, strings.NewReplacer(" ", "-", "/", "", ",", "", ":", "").Replace(name)+".pprof")
	done := make(chan error, 1)
	go func() {
		data, err := get(ctx, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", b.target.metrics[0], profileSeconds))
		if err == nil {
			err = os.WriteFile(file, data, 0o600)
		}
		done <- err
	}()
	return func() (string, error) { return file, <-done }
}

// shares tells, if there is a profile, how much of the CPU time is that of functions
// whose names match, and of what they call.
func shares(parts map[string]string) func(*figures) string {
	return func(f *figures) string {
		if f.profile == "" {
			return ""
		}
		var out []string
		for name, functions := range parts {
			said, err := exec.Command("go", "tool", "pprof", "-top", "-nodecount=0", "-nodefraction=0", "-focus="+functions, f.profile).Output()
			if err != nil {
				return err.Error()
			}
			// Showing nodes accounting for 1.29s, 25.80% of 5s total
			_, rest, _ := strings.Cut(string(said), "accounting for ")
			_, rest, _ = strings.Cut(rest, ", ")
			share, _, _ := strings.Cut(rest, "%")
			out = append(out, fmt.Sprintf("%s %s%%", name, share))
		}
		slices.Sort(out)
		return strings.Join(out, ", ")
	}
}
