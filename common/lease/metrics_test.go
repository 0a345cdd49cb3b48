package lease

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/matrix-org/dendrite/common/telemetry/telemetrytest"
	"github.com/matrix-org/dendrite/common/testwait"
)

// TestMetrics: a partition that was given back is taken, one of a dead instance
// taken over; who was taken for dead has lost it.
func TestMetrics(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		registries := map[*Manager]*prometheus.Registry{}
		manager := func(owner string) *Manager {
			registry := prometheus.NewRegistry()
			m := w.managerWith(Options{Owner: owner, Metrics: registry})
			registries[m] = registry
			return m
		}
		shows := func(m *Manager, name string, want float64) {
			t.Helper()
			if got, there := telemetrytest.Values(t, registries[m])["dendrite_lease_"+name+"{group="+t.Name()+"}"]; !there || got != want {
				t.Errorf("%s shows %s %v, want %v", m.o.Owner, name, got, want)
			}
		}
		a, b, c := manager("a"), manager("b"), manager("c")
		stopA := w.run(a)
		testwait.Until(w.t, "one has all", func() bool { return len(a.Held()) == partitions })
		shows(a, "partitions", partitions)
		shows(a, "group_partitions", partitions)
		shows(a, "taken_total", partitions)
		shows(a, "takeovers_total", 0)
		stopA()
		if err := a.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		stopB := w.run(b)
		testwait.Until(w.t, "the next has all", func() bool { return len(b.Held()) == partitions })
		shows(b, "takeovers_total", 0) // they were given back
		stopB()                        // it says nothing: dead
		stopC := w.run(c)
		testwait.Until(w.t, "another has all", func() bool { return len(c.Held()) == partitions })
		shows(c, "taken_total", partitions)
		shows(c, "takeovers_total", partitions)
		shows(b, "partitions", 0)
		shows(b, "lost_total", 0) // it does not know yet
		stopC()
		w.run(b)
		testwait.Until(w.t, "it has all again", func() bool { return len(b.Held()) == partitions })
		shows(b, "lost_total", partitions)
		shows(b, "failures_total", 0)
	})
}
