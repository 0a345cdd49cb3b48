package lease

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/matrix-org/dendrite/common/telemetry"
)

// metrics are those of one group, shared with no other Manager of the process.
type metrics struct {
	taken, takeovers, lost, failures prometheus.Counter
}

// measure makes the metrics.
func (m *Manager) measure() error {
	labels := prometheus.Labels{"group": m.o.Group}
	gauge := func(name, help string, read func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "dendrite_lease_" + name, Help: help, ConstLabels: labels}, read)
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "dendrite_lease_" + name, Help: help, ConstLabels: labels})
	}
	m.metrics = &metrics{
		taken:     counter("taken_total", "Partitions that this instance took, whoever had them."),
		takeovers: counter("takeovers_total", "Partitions that this instance took from one that had not given them back."),
		lost:      counter("lost_total", "Partitions that this instance lost without having given them back."),
		failures:  counter("failures_total", "Attempts to renew leases that failed."),
	}
	return telemetry.RegisterAll(m.o.Metrics, m.metrics.taken, m.metrics.takeovers, m.metrics.lost, m.metrics.failures,
		gauge("group_partitions", "Partitions that there are to be owned.", func() float64 { return float64(m.o.Partitions) }),
		// Not a gauge that is set: leases run out by themselves.
		gauge("partitions", "Partitions whose lease this instance holds now.", func() float64 { return float64(len(m.Held())) }))
}

// lost counts the leases that were held and are somebody else's now.
func lost(held map[int]held, mine []Lease) int {
	n := len(held)
	for _, l := range mine {
		if h, ok := held[l.Partition]; ok && h.Epoch == l.Epoch {
			n--
		}
	}
	return n
}
