package consumer

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/matrix-org/dendrite/common/telemetry"
)

// metrics are shared by all consumers of a process: they differ by labels.
type metrics struct {
	lag      *prometheus.GaugeVec
	labels   []string
	records  prometheus.Counter
	failures prometheus.Counter
}

func newMetrics(o Options) (*metrics, error) {
	names := []string{"consumer", "topic"}
	lag := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "dendrite_consumer_lag_records", Help: "Records of a partition that were not consumed at the last safe point.",
	}, append(names, "partition"))
	records := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "dendrite_consumer_records_total", Help: "Records consumed.",
	}, names)
	failures := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "dendrite_consumer_failures_total", Help: "Failed attempts to consume a partition's records.",
	}, names)
	lag, err := telemetry.Register(o.Metrics, lag)
	if err != nil {
		return nil, err
	}
	if records, err = telemetry.Register(o.Metrics, records); err != nil {
		return nil, err
	}
	if failures, err = telemetry.Register(o.Metrics, failures); err != nil {
		return nil, err
	}
	labels := []string{o.Name, o.Topic.Name}
	return &metrics{lag: lag, labels: labels, records: records.WithLabelValues(labels...), failures: failures.WithLabelValues(labels...)}, nil
}

func (m *metrics) of(partition int) []string {
	return []string{m.labels[0], m.labels[1], strconv.Itoa(partition)}
}

func (m *metrics) set(partition int, lag int64) {
	m.lag.WithLabelValues(m.of(partition)...).Set(float64(lag))
}

func (m *metrics) forget(partition int) { m.lag.DeleteLabelValues(m.of(partition)...) }
