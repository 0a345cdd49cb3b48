package pushapi

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics count what is judged and told.
type metrics struct {
	judged, news, sent, badges, failed, rejected, dropped prometheus.Counter
	delay                                                 prometheus.Histogram
}

func newMetrics(r prometheus.Registerer, s *Server) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "dendrite", Subsystem: "pushapi", Name: name, Help: help})
	}
	gauge := func(name, help string, read func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "dendrite", Subsystem: "pushapi", Name: name, Help: help}, read)
	}
	m := &metrics{
		judged:   counter("judged_total", "Events judged, once for each member with a pusher."),
		news:     counter("news_total", "Notifications to be sent, once for each pusher."),
		sent:     counter("sent_total", "Notifications that gateways took."),
		badges:   counter("badges_total", "Counts without an event that gateways took."),
		failed:   counter("failures_total", "Visits to gateways that failed."),
		rejected: counter("rejected_total", "Pushers removed because a gateway rejected the key."),
		dropped:  counter("dropped_total", "Notifications dropped because they were too old or too many."),
		delay: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "dendrite", Subsystem: "pushapi", Name: "delay_seconds",
			Help: "Time between an event and its notification.", Buckets: []float64{.02, .05, .1, .2, .5, 1, 5, 60, 600, 3600}}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.judged, m.news, m.sent, m.badges, m.failed, m.rejected, m.dropped, m.delay,
		gauge("people", "Users known to have pushers.", func() float64 { return float64(s.people.count()) }),
		gauge("memberships", "Memberships of these in rooms judged here.", func() float64 { return float64(s.rooms.members.Load()) }),
	} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("pushapi: metrics: %w", err)
		}
	}
	return m, nil
}
