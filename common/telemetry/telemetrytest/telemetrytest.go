package telemetrytest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// Values are what a registry shows now, by metric and labels in the order of
// their names: name{a=b,c=d}. Of a histogram, name_count and name_sum.
func Values(t *testing.T, r prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			key := func(name string) string {
				if labels == nil {
					return name
				}
				return fmt.Sprintf("%s{%s}", name, strings.Join(labels, ","))
			}
			if h := m.GetHistogram(); h != nil {
				out[key(family.GetName()+"_count")], out[key(family.GetName()+"_sum")] = float64(h.GetSampleCount()), h.GetSampleSum()
				continue
			}
			out[key(family.GetName())] = m.GetCounter().GetValue() + m.GetGauge().GetValue() // one of them
		}
	}
	return out
}
