package sqldb_test

import (
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/common/telemetry/telemetrytest"
	"github.com/matrix-org/dendrite/common/testwait"
)

// TestPoolMetrics: what is open, in use and waited for shows, while it is.
func TestPoolMetrics(t *testing.T) {
	sqldbtest.Each(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		o := sqldbtest.Options(t, filepath.Join(t.TempDir(), "t.db"))
		o.Connections, o.Metrics, o.Store = 1, registry, "s"
		db := sqldbtest.OpenWith(t, o)
		pool := "writers"
		if sqldbtest.EngineOf(t) == sqldbtest.PostgreSQL {
			pool = "all"
		}
		of := func(name string) float64 {
			return telemetrytest.Values(t, registry)["dendrite_sqldb_"+name+"{pool="+pool+",store=s}"]
		}
		shows := func(name string, want float64) {
			t.Helper()
			if got := of(name); got != want {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
		}
		shows("connections_limit", 1)
		shows("connections_in_use", 0)
		waited := make(chan error)
		must(t, db.Write(t.Context(), func(*sqldb.Tx) error {
			shows("connections_open", 1)
			shows("connections_in_use", 1)
			shows("wait_seconds_count", 0)
			go func() { waited <- db.Write(t.Context(), func(*sqldb.Tx) error { return nil }) }()
			testwait.Until(t, "another one waits", func() bool { return of("waiting") == 1 })
			return nil
		}))
		must(t, <-waited)
		shows("waiting", 0)
		shows("wait_seconds_count", 1)
		shows("connections_in_use", 0)
		shows("connections_open", 1)
		if n := telemetrytest.Values(t, registry)["dendrite_sqldb_statements_total{store=s}"]; n < 4 { // BEGIN and COMMIT twice
			t.Errorf("%v statements ran", n)
		}
	})
}
