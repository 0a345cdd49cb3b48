package kafka_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/eventlog/kafka"
	"github.com/matrix-org/dendrite/common/eventlog/kafka/kafkatest"
	"github.com/matrix-org/dendrite/common/telemetry/telemetrytest"
	"github.com/matrix-org/dendrite/common/testwait"
)

// load appends numbers to partitions, and reads them, whatever breaks.
type load struct {
	t    *testing.T
	log  *kafka.Log
	stop atomic.Bool
	wg   sync.WaitGroup // of readers
	// writers end by themselves after stop.
	writers sync.WaitGroup
	of      [loadPartitions]struct {
		acked, failed atomic.Int64
		offsets       []int64 // of the number at its index, once acknowledged
		seen          []int64 // by the reader, by offset
	}
	cancel context.CancelFunc
}

const loadPartitions = 4

func startLoad(t *testing.T, log *kafka.Log) *load {
	ensure(t, log, eventlog.TopicSpec{Name: "load", Partitions: loadPartitions})
	w := &load{t: t, log: log}
	ctx, cancel := context.WithCancel(context.Background())
	w.cancel = cancel
	t.Cleanup(func() { w.stop.Store(true); cancel(); w.writers.Wait(); w.wg.Wait() })
	for p := range loadPartitions {
		w.writers.Go(func() { w.write(p) })
		w.wg.Go(func() { w.read(ctx, p) })
	}
	return w
}

// write appends 0, 1, 2 …: the same number again after a failure.
func (w *load) write(p int) {
	at := &w.of[p]
	for n := 0; !w.stop.Load(); {
		offsets, err := w.log.Append(context.Background(), eventlog.Message{Topic: "load", Partition: p, Value: []byte(strconv.Itoa(n))})
		switch {
		case err == nil:
			at.offsets = append(at.offsets, offsets[0])
			at.acked.Add(1)
			n++
		case errors.Is(err, eventlog.ErrUnavailable):
			at.failed.Add(1)
		default:
			w.t.Errorf("append failed with %v", err)
			return
		}
	}
}

func (w *load) read(ctx context.Context, p int) {
	at := &w.of[p]
	for next := int64(0); ; {
		records, err := w.log.Read(ctx, "load", p, next, 1000)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			w.t.Errorf("read failed with %v", err)
			return
		}
		for _, r := range records {
			if r.Offset != next {
				w.t.Errorf("offset %d follows %d", r.Offset, next-1)
				return
			}
			n, err := strconv.ParseInt(string(r.Value), 10, 64)
			if err != nil {
				w.t.Error(err)
				return
			}
			at.seen = append(at.seen, n)
			next++
		}
	}
}

// goesOn waits until each partition has taken more.
func (w *load) goesOn(more int64) {
	w.t.Helper()
	var want [loadPartitions]int64
	for p := range want {
		want[p] = w.of[p].acked.Load() + more
	}
	testwait.Until(w.t, "appends go on", func() bool { return w.every(func(p int) bool { return w.of[p].acked.Load() >= want[p] }) })
}

// fails waits until appends to each partition have failed.
func (w *load) fails() {
	w.t.Helper()
	var was [loadPartitions]int64
	for p := range was {
		was[p] = w.of[p].failed.Load()
	}
	testwait.Until(w.t, "appends fail", func() bool { return w.every(func(p int) bool { return w.of[p].failed.Load() > was[p] }) })
	testwait.Until(w.t, "the log says so", func() bool { return errors.Is(w.log.Failed(), eventlog.ErrUnavailable) })
}

func (w *load) every(f func(p int) bool) bool {
	for p := range loadPartitions {
		if !f(p) {
			return false
		}
	}
	return true
}

// check ends the load: what was acknowledged is where it was said to be, and
// readers saw everything in order; only what failed may be there twice.
func (w *load) check() {
	w.t.Helper()
	w.stop.Store(true)
	testwait.Until(w.t, "brokers answer again", func() bool { return w.log.Failed() == nil })
	w.goesOn(0)
	w.writers.Wait() // the last appends
	ends := make([]int64, loadPartitions)
	for p := range ends {
		var err error
		if _, ends[p], err = w.log.Bounds(w.t.Context(), "load", p); err != nil {
			w.t.Fatal(err)
		}
	}
	w.drain(ends)
	for p, end := range ends {
		at := &w.of[p]
		if int64(len(at.seen)) < end {
			w.t.Fatalf("a reader saw %d of %d", len(at.seen), end)
		}
		for n, offset := range at.offsets {
			if at.seen[offset] != int64(n) {
				w.t.Fatalf("%d was acknowledged at %d, where %d is", n, offset, at.seen[offset])
			}
		}
		if !slices.IsSorted(at.seen) {
			w.t.Fatal("records are out of order")
		}
		if twice := int64(len(at.seen)) - int64(len(at.offsets)); twice > at.failed.Load()+1 {
			w.t.Fatalf("%d records too many, %d appends failed", twice, at.failed.Load())
		}
		w.t.Logf("partition %d: %d acknowledged, %d failed, %d read", p, len(at.offsets), at.failed.Load(), len(at.seen))
	}
}

// drain reads what the load's readers have not come to, and ends them.
func (w *load) drain(ends []int64) {
	w.t.Helper()
	for p, end := range ends { // readers are woken together with us
		if end == 0 {
			continue
		}
		if _, err := w.log.Read(w.t.Context(), "load", p, end-1, 1); err != nil {
			w.t.Fatal(err)
		}
	}
	w.cancel()
	w.wg.Wait()
	for p, end := range ends {
		at := &w.of[p]
		for int64(len(at.seen)) < end {
			records, err := w.log.Read(w.t.Context(), "load", p, int64(len(at.seen)), 1000)
			if err != nil {
				w.t.Fatal(err)
			}
			for _, r := range records {
				n, err := strconv.ParseInt(string(r.Value), 10, 64)
				if err != nil {
					w.t.Fatal(err)
				}
				at.seen = append(at.seen, n)
			}
		}
	}
}

// TestBrokerAway: the only broker is stopped, then killed, while appends and
// reads go on.
func TestBrokerAway(t *testing.T) {
	t.Parallel() // it has brokers of its own, and mostly waits for them
	cluster := kafkatest.StartCluster(t)
	registry := prometheus.NewRegistry()
	log := open(t, cluster.Broker, func(o *kafka.Options) {
		o.AppendTimeout, o.RequestTimeout, o.Metrics = time.Second, time.Second, registry
	})
	w := startLoad(t, log)
	w.goesOn(50)
	for _, end := range []func(int){cluster.Stop, cluster.Kill} {
		end(1)
		w.fails()
		away(t, log)
		shows := telemetrytest.Values(t, registry)
		for _, operation := range []string{"append", "fetch", "request"} {
			failed := 0.0
			for name, n := range shows { // an append may hear that there is no leader before the connection ends
				if strings.HasPrefix(name, "dendrite_kafka_errors_total{") && strings.HasSuffix(name, ",operation="+operation+"}") {
					failed += n
				}
			}
			if failed == 0 {
				t.Errorf("no %s is known to have failed", operation)
			}
		}
		if shows["dendrite_kafka_available"] != 0 {
			t.Error("brokers are said to be available")
		}
		cluster.Restart(1)
		w.goesOn(50)
	}
	w.check()
}

// away checks what else a caller sees while no broker answers.
func away(t *testing.T, log *kafka.Log) {
	t.Helper()
	if _, _, err := log.Bounds(t.Context(), "load", 0); !errors.Is(err, eventlog.ErrUnavailable) {
		t.Errorf("bounds: %v", err)
	}
	if err := log.Trim(t.Context(), "load", 0, 1); !errors.Is(err, eventlog.ErrUnavailable) {
		t.Errorf("trim: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := log.Append(ctx, eventlog.Message{Topic: "load", Value: []byte("0")}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an append whose time is up: %v", err)
	}
}

// TestBounded: while no broker takes anything, appends hold no more than their
// room, and what was given up is not appended afterwards.
func TestBounded(t *testing.T) {
	t.Parallel() // it has brokers of its own, and mostly waits for them
	cluster := kafkatest.StartCluster(t)
	log := open(t, cluster.Broker, func(o *kafka.Options) { o.AppendTimeout, o.BufferBytes = time.Second, 8<<10 })
	ensure(t, log, eventlog.TopicSpec{Name: "a", Partitions: 1})
	if _, err := log.Append(t.Context(), eventlog.Message{Topic: "a", Value: []byte("first")}); err != nil {
		t.Fatal(err)
	}
	cluster.Kill(1)
	var wg sync.WaitGroup
	var refused atomic.Int64
	const appends = 50 // of 1 KiB: most never had room
	for range appends {
		wg.Go(func() {
			_, err := log.Append(t.Context(), eventlog.Message{Topic: "a", Value: make([]byte, 1000)})
			if !errors.Is(err, eventlog.ErrUnavailable) {
				t.Errorf("an append without brokers: %v", err)
			}
			refused.Add(1)
		})
	}
	wg.Wait()
	cluster.Restart(1)
	testwait.Until(t, "appends go on", func() bool {
		_, err := log.Append(t.Context(), eventlog.Message{Topic: "a", Value: []byte("last")})
		return err == nil
	})
	_, end, err := log.Bounds(t.Context(), "a", 0)
	if err != nil || end > 10 || refused.Load() != appends {
		t.Errorf("%d records, %v, after %d were refused", end, err, refused.Load())
	}
}

// TestThreeBrokers: one of three is killed, and comes back.
func TestThreeBrokers(t *testing.T) {
	t.Parallel() // it has brokers of its own, and mostly waits for them
	cluster := kafkatest.StartCluster(t, "--nodes", "3")
	w := startLoad(t, open(t, cluster.Broker, func(o *kafka.Options) { o.ReplicationFactor = 3 }))
	w.goesOn(50)
	cluster.Kill(2)
	w.goesOn(50)
	cluster.Restart(2)
	cluster.Stop(1)
	w.goesOn(50)
	w.check()
}
