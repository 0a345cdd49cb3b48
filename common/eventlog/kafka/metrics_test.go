package kafka_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/eventlog/kafka"
	"github.com/matrix-org/dendrite/common/eventlog/kafka/kafkatest"
	"github.com/matrix-org/dendrite/common/telemetry/telemetrytest"
)

// TestMetrics: appends are timed, and what went to the broker and came from it is
// counted, by records and bytes of keys and values.
func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	log := open(t, kafkatest.Start(t), func(o *kafka.Options) { o.Metrics = registry })
	ensure(t, log, eventlog.TopicSpec{Name: "a", Partitions: 1})
	read := func(from int64, want int) {
		t.Helper()
		records, err := log.Read(t.Context(), "a", 0, from, 1<<20)
		if err != nil || len(records) != want {
			t.Fatalf("%d records, %v", len(records), err)
		}
	}
	m := eventlog.Message{Topic: "a", Key: []byte("k"), Value: []byte("value")}
	for range 2 { // read past the tail, that is behind
		if _, err := log.Append(t.Context(), m, m); err != nil {
			t.Fatal(err)
		}
	}
	read(0, 4)
	got := make(chan struct{})
	go func() {
		defer close(got)
		read(4, 1) // at the end
	}()
	if _, err := log.Append(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	<-got
	shows := telemetrytest.Values(t, registry)
	for name, want := range map[string]float64{
		"append_seconds_count": 3, "append_records_count": 3, "append_records_sum": 5, "append_bytes_sum": 5 * 6,
		"fetch_records_sum": 5, "fetch_bytes_sum": 5 * 6, "available": 1, "appended_records_total": 5, "failed_appends_total": 0,
	} {
		if shows["dendrite_kafka_"+name] != want {
			t.Errorf("%s is %v, want %v", name, shows["dendrite_kafka_"+name], want)
		}
	}
}
