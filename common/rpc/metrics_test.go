package rpc

import (
	"context"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/matrix-org/dendrite/common/telemetry/telemetrytest"
)

// TestMetrics: both sides count calls by method and errors by code, and the
// asking one the attempts that it made again.
func TestMetrics(t *testing.T) {
	asking, answering := prometheus.NewRegistry(), prometheus.NewRegistry()
	address := serveHTTP(t, HandlerOptions{Server: testServer(nil, nil), Metrics: answering})
	addresses := []string{"http://" + deadAddress(t), address}
	c := client(t, "", ClientOptions{Metrics: asking, Address: func(context.Context, string, string) (string, error) {
		next := addresses[0]
		if len(addresses) > 1 {
			addresses = addresses[1:]
		}
		return next, nil
	}})
	call := func(of, code string) {
		t.Helper()
		_, err := failing.Call(t.Context(), c, &struct{ Case string }{of})
		if (err != nil) != (code != "") {
			t.Fatalf("%s: %v", of, err)
		}
	}
	call("none", "") // at the second attempt
	call("none", "")
	call("wrapped", "404")
	call("plain", "500")
	addresses = []string{"http://" + deadAddress(t)}
	call("none", "unanswered")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := echo.Call(gone, c, &everything{}); err == nil {
		t.Error("a call for nobody succeeds")
	}
	counts := func(r prometheus.Gatherer) map[string]float64 {
		got := telemetrytest.Values(t, r)
		maps.DeleteFunc(got, func(name string, _ float64) bool { return strings.Contains(name, "_sum{") })
		return got
	}
	if got, want := counts(asking), map[string]float64{
		"dendrite_rpc_client_seconds_count{method=failing,service=test}":                5,
		"dendrite_rpc_client_errors_total{code=404,method=failing,service=test}":        1,
		"dendrite_rpc_client_errors_total{code=500,method=failing,service=test}":        1,
		"dendrite_rpc_client_errors_total{code=unanswered,method=failing,service=test}": 1,
		"dendrite_rpc_client_repeated_total{method=failing,service=test}":               1 + maxAttempts - 1,
		"dendrite_rpc_client_seconds_count{method=echo,service=test}":                   1,
		"dendrite_rpc_client_errors_total{code=abandoned,method=echo,service=test}":     1,
	}; !maps.Equal(got, want) {
		t.Errorf("the asking side counts %v", got)
	}
	if got, want := counts(answering), map[string]float64{
		"dendrite_rpc_server_seconds_count{method=failing,service=test}":         4,
		"dendrite_rpc_server_errors_total{code=404,method=failing,service=test}": 1,
		"dendrite_rpc_server_errors_total{code=500,method=failing,service=test}": 1,
	}; !maps.Equal(got, want) {
		t.Errorf("the answering side counts %v", got)
	}
}

// BenchmarkEnded: what counting a call costs, beside the tens of microseconds of
// the call.
func BenchmarkEnded(b *testing.B) {
	m, err := newMetrics(prometheus.NewRegistry(), "client")
	if err != nil {
		b.Fatal(err)
	}
	call, began := Call{Service: "roomserver", Method: "state"}, time.Now()
	b.ReportAllocs()
	for b.Loop() {
		m.ended(call, began, "")
	}
}
