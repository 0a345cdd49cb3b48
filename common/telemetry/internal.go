package telemetry

import (
	"context"
	"io"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/sirupsen/logrus"
)

// readyWithin bounds how long a look at whether the process is ready takes.
const readyWithin = 3 * time.Second

// Internal is what a process serves to those who run it, on a listener that
// strangers cannot reach.
type Internal struct {
	// Metrics are served at /metrics, to a few readers at a time.
	Metrics prometheus.Gatherer
	// Ready returns why the process should get no requests now, nil if it
	// should; /ready tells, with 200 or 503. /live is 200 for as long as the
	// process answers at all.
	Ready func(context.Context) error
	// Profiles says whether profiles are served, below /debug/pprof/: they show
	// what is in memory, and taking one costs time.
	Profiles bool
	Logger   *logrus.Entry
}

// Handler makes the handler of it all.
func (i Internal) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(i.Metrics, promhttp.HandlerOpts{
		ErrorLog:            i.Logger,
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: 4,
		Timeout:             20 * time.Second,
	}))
	mux.HandleFunc("GET /live", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "live") })
	mux.HandleFunc("GET /ready", i.ready)
	if i.Profiles {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}

func (i Internal) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyWithin)
	defer cancel()
	if err := i.Ready(ctx); err != nil {
		say(w, http.StatusServiceUnavailable, "not ready: "+err.Error())
		return
	}
	say(w, http.StatusOK, "ready")
}

// say writes a line of text. It fails when whoever asked has gone.
func say(w http.ResponseWriter, status int, line string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, line+"\n")
}
