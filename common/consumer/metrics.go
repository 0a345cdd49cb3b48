package consumer

import (
	"errors"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
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
	if o.Metrics != nil {
		var err error
		if lag, err = register(o.Metrics, lag); err != nil {
			return nil, err
		}
		if records, err = register(o.Metrics, records); err != nil {
			return nil, err
		}
		if failures, err = register(o.Metrics, failures); err != nil {
			return nil, err
		}
	}
	labels := []string{o.Name, o.Topic.Name}
	return &metrics{lag: lag, labels: labels, records: records.WithLabelValues(labels...), failures: failures.WithLabelValues(labels...)}, nil
}

// register registers a collector, or returns the one that another consumer of
// this process has registered.
func register[C prometheus.Collector](r prometheus.Registerer, c C) (C, error) {
	err := r.Register(c)
	var there prometheus.AlreadyRegisteredError
	if errors.As(err, &there) {
		if old, ok := there.ExistingCollector.(C); ok {
			return old, nil
		}
	}
	return c, err
}

func (m *metrics) of(partition int) []string {
	return []string{m.labels[0], m.labels[1], strconv.Itoa(partition)}
}

func (m *metrics) set(partition int, lag int64) {
	m.lag.WithLabelValues(m.of(partition)...).Set(float64(lag))
}

func (m *metrics) forget(partition int) { m.lag.DeleteLabelValues(m.of(partition)...) }
