package kafka

import "github.com/prometheus/client_golang/prometheus"

type metricsOf struct {
	appended   prometheus.Counter
	batches    prometheus.Counter
	resent     prometheus.Counter
	refused    prometheus.Counter
	fetched    prometheus.Counter
	readBehind prometheus.Counter
}

func newMetrics(r prometheus.Registerer, followed func() float64) (*metricsOf, error) {
	all := []prometheus.Collector{prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "dendrite_kafka_followed_partitions", Help: "Partitions whose end is kept in memory.",
	}, followed)}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "dendrite_kafka_" + name, Help: help})
		all = append(all, c)
		return c
	}
	m := &metricsOf{
		appended:   counter("appended_records_total", "Records appended and acknowledged."),
		batches:    counter("appended_batches_total", "Batches of records appended and acknowledged."),
		resent:     counter("resent_batches_total", "Batches that had to be sent again."),
		refused:    counter("failed_appends_total", "Appends that failed, most of them since no broker answered in time."),
		fetched:    counter("fetched_records_total", "Records fetched at the ends of partitions."),
		readBehind: counter("reads_behind_total", "Fetches for readers that were behind what is kept in memory."),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range all {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
