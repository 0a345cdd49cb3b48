package sqldb

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/matrix-org/dendrite/common/telemetry"
)

// measure makes the metrics of a database and its pools.
func (db *DB) measure(o Options) error {
	store := prometheus.Labels{"store": o.Store}
	db.retried = prometheus.NewCounter(prometheus.CounterOpts{Name: "dendrite_sqldb_retried_transactions_total",
		Help: "Transactions that ran again after a serialisation failure or a deadlock.", ConstLabels: store})
	all := []prometheus.Collector{db.retried, prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "dendrite_sqldb_statements_total",
		Help: "Statements that ran, those that begin and end transactions included.", ConstLabels: store},
		func() float64 { return float64(db.Statements()) })}
	pools := map[string]*pool{"all": db.writers}
	if db.readers != db.writers {
		pools = map[string]*pool{"writers": db.writers, "readers": db.readers}
	}
	for name, p := range pools {
		all = append(all, p.measure(prometheus.Labels{"store": o.Store, "pool": name})...)
	}
	return telemetry.RegisterAll(o.Metrics, all...)
}

// measure makes the metrics of a pool.
func (p *pool) measure(labels prometheus.Labels) []prometheus.Collector {
	gauge := func(name, help string, read func() int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "dendrite_sqldb_" + name, Help: help, ConstLabels: labels},
			func() float64 { return float64(read()) })
	}
	// Who gets a connection at once is not among them, and costs nothing.
	waited := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "dendrite_sqldb_wait_seconds", ConstLabels: labels,
		Help: "Time waited for a connection, by those who had to wait.", Buckets: prometheus.ExponentialBuckets(0.0005, 4, 10)})
	p.waited = waited
	return []prometheus.Collector{waited,
		gauge("connections_limit", "Connections that may be open.", func() int { return cap(p.slots) }),
		gauge("connections_open", "Connections that are open.", p.open),
		gauge("connections_in_use", "Connections that are in use.", func() int { return len(p.slots) }),
		gauge("waiting", "Transactions and reads that wait for a connection.", func() int { return int(p.waiting.Load()) }),
	}
}
