package kafka_test

import (
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/eventlog/kafka"
	"github.com/matrix-org/dendrite/common/eventlog/kafka/kafkatest"
	"github.com/matrix-org/dendrite/common/telemetry/telemetrytest"
	"github.com/matrix-org/dendrite/common/testwait"
)

// ours are the goroutines of the package and of sarama.
func ours() []string {
	all := make([]byte, 1<<20)
	var out []string
	for _, g := range strings.Split(string(all[:runtime.Stack(all, true)]), "\n\n") {
		if (strings.Contains(g, "sarama.") || strings.Contains(g, "eventlog/kafka.")) && !strings.Contains(g, "kafka_test.ours") {
			out = append(out, g)
		}
	}
	return out
}

// TestClose: whoever waits is told, what was appended stays, and nothing of the
// log goes on.
func TestClose(t *testing.T) {
	b := kafkatest.Start(t)
	before := len(ours())
	log := open(t, b, nil)
	spec := eventlog.TopicSpec{Name: "a", Partitions: 3}
	ensure(t, log, spec)
	waiting := make(chan error, 3)
	for p := range 3 {
		go func() {
			_, err := log.Read(t.Context(), "a", p, 0, 1)
			waiting <- err
		}()
	}
	acked := appendUntilClosed(t, log)
	for range 3 {
		if err := <-waiting; err != nil {
			t.Errorf("a reader got %v", err)
		}
	}
	for p := range 3 {
		go func() {
			_, next, err := log.Bounds(t.Context(), "a", p)
			for ; err == nil; next++ {
				_, err = log.Read(t.Context(), "a", p, next, 1)
			}
			waiting <- err
		}()
	}
	if err := log.Close(); err != nil {
		t.Error(err)
	}
	for range 3 {
		if err := <-waiting; !errors.Is(err, eventlog.ErrClosed) {
			t.Errorf("a reader got %v at the end", err)
		}
	}
	want := int64(0)
	for range 50 {
		want += int64(<-acked)
	}
	testwait.Until(t, "goroutines end", func() bool { return len(ours()) <= before })
	log = open(t, b, nil)
	ensure(t, log, spec)
	got := int64(0)
	for p := range 3 {
		_, end, err := log.Bounds(t.Context(), "a", p)
		if err != nil {
			t.Fatal(err)
		}
		got += end
	}
	if got < want {
		t.Errorf("%d records of %d that were acknowledged", got, want)
	}
	closed(t, log)
}

// appendUntilClosed appends with 50 writers, who each tell in the end how many
// of their records were acknowledged.
func appendUntilClosed(t *testing.T, log *kafka.Log) chan int {
	acked := make(chan int, 50)
	for w := range 50 {
		go func() {
			n := 0
			for ; ; n++ {
				_, err := log.Append(t.Context(), eventlog.Message{Topic: "a", Partition: w % 3, Value: []byte("x")})
				if errors.Is(err, eventlog.ErrClosed) {
					break
				}
				if err != nil {
					t.Error(err)
					break
				}
			}
			acked <- n
		}()
	}
	return acked
}

// closed checks that every method says so after Close.
func closed(t *testing.T, log *kafka.Log) {
	t.Helper()
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	_, ensured := log.EnsureTopic(t.Context(), eventlog.TopicSpec{Name: "a", Partitions: 3})
	_, appended := log.Append(t.Context(), eventlog.Message{Topic: "a"})
	_, read := log.Read(t.Context(), "a", 0, 0, 1)
	_, _, bounds := log.Bounds(t.Context(), "a", 0)
	for what, err := range map[string]error{"EnsureTopic": ensured, "Append": appended, "Read": read, "Bounds": bounds,
		"Trim": log.Trim(t.Context(), "a", 0, 1), "ReportOffset": log.ReportOffset(t.Context(), "g", "a", 0, 1), "Close": log.Close()} {
		if !errors.Is(err, eventlog.ErrClosed) {
			t.Errorf("%s after Close: %v", what, err)
		}
	}
}

// TestIdle: the end of a partition that nobody reads is not followed for ever,
// and again once somebody does.
func TestIdle(t *testing.T) {
	registry := prometheus.NewRegistry()
	log := open(t, kafkatest.Start(t), func(o *kafka.Options) { o.IdleAfter, o.Metrics = 10*time.Millisecond, registry })
	ensure(t, log, eventlog.TopicSpec{Name: "a", Partitions: 2})
	followed := func() float64 { return telemetrytest.Values(t, registry)["dendrite_kafka_followed_partitions"] }
	for round := range int64(3) {
		got := make(chan error, 1)
		go func() {
			_, err := log.Read(t.Context(), "a", 1, round, 1)
			got <- err
		}()
		testwait.Until(t, "it is followed", func() bool { return followed() == 1 })
		if _, err := log.Append(t.Context(), eventlog.Message{Topic: "a", Partition: 1, Value: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		if err := <-got; err != nil {
			t.Fatal(err)
		}
		testwait.Until(t, "it is not followed any more", func() bool { return followed() == 0 })
	}
}
