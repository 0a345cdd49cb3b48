package searchapi

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics count what is indexed and found.
type metrics struct {
	indexed, removed, history, examined prometheus.Counter
	histories                           prometheus.Gauge
	seconds                             prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "dendrite", Subsystem: "searchapi", Name: name, Help: help})
	}
	m := &metrics{
		indexed:  counter("indexed_total", "Events indexed as they came."),
		removed:  counter("removed_total", "Redactions and purges that the index followed."),
		history:  counter("history_total", "Events of rooms' history that were read to be indexed."),
		examined: counter("examined_total", "Events with the words of a search that were looked at for it."),
		histories: prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "dendrite", Subsystem: "searchapi", Name: "histories",
			Help: "Partitions whose history is being read: older messages are not found yet."}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "dendrite", Subsystem: "searchapi", Name: "search_seconds",
			Help: "Time that searches took.", Buckets: []float64{.005, .01, .02, .05, .1, .2, .5, 1, 2, 5}}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.indexed, m.removed, m.history, m.examined, m.histories, m.seconds} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("searchapi: metrics: %w", err)
		}
	}
	return m, nil
}
