package consumer

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	records, failures prometheus.Counter
}

// register makes the consumer's metrics. Lag is computed when it is asked for.
func (m *metrics) register(opts Options) error {
	labels := prometheus.Labels{"consumer": opts.Name, "topic": opts.Topic.Name}
	m.records = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "dendrite_consumer_records_total", Help: "Records handled.", ConstLabels: labels})
	m.failures = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "dendrite_consumer_failures_total", Help: "Batches that failed and were tried again.", ConstLabels: labels})
	end := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "dendrite_consumer_log_end", Help: "Sum of the ends of the topic's partitions; less the records handled, it is the lag.", ConstLabels: labels,
	}, func() float64 {
		sum := int64(0)
		for p := range opts.Topic.Partitions {
			if _, end, err := opts.Log.Bounds(context.Background(), opts.Topic.Name, p); err == nil {
				sum += end
			}
		}
		return float64(sum)
	})
	if opts.Metrics == nil {
		return nil
	}
	for _, c := range []prometheus.Collector{m.records, m.failures, end} {
		if err := opts.Metrics.Register(c); err != nil {
			return err
		}
	}
	return nil
}
