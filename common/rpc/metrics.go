package rpc

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/matrix-org/dendrite/common/telemetry"
)

// metrics count and time the calls between processes, of one side. A call in one
// process is a Go call, which is not counted.
type metrics struct {
	seconds  *prometheus.HistogramVec // by service and method
	errors   *prometheus.CounterVec   // by service, method and code
	repeated *prometheus.CounterVec   // by service and method; the asking side's
}

// newMetrics makes the metrics of a side, client or server.
func newMetrics(r prometheus.Registerer, side string) (*metrics, error) {
	method := []string{"service", "method"}
	m := &metrics{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "dendrite_rpc_" + side + "_seconds", Help: "Time of calls between processes, with all their attempts.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, method),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dendrite_rpc_" + side + "_errors_total", Help: "Calls between processes that ended with an error, by what it was.",
		}, append(method, "code")),
		repeated: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dendrite_rpc_" + side + "_repeated_total", Help: "Attempts after the first of a call, at another instance where there is one.",
		}, method),
	}
	var err error
	if m.seconds, err = telemetry.Register(r, m.seconds); err != nil {
		return nil, err
	}
	if m.errors, err = telemetry.Register(r, m.errors); err != nil || side == "server" {
		return m, err
	}
	m.repeated, err = telemetry.Register(r, m.repeated)
	return m, err
}

// Codes of errors that are not a method's own, whose code is their HTTP status.
const (
	codeUnanswered = "unanswered" // no answer came
	codeAbandoned  = "abandoned"  // who asked waits no longer
	codeOverloaded = "503"
	codeTimeout    = "504"
	codeInternal   = "500"
)

// codeOf is the code of an error that a method returned. Statuses are few, while
// the errcodes that other servers send may be anything.
func codeOf(err error) string {
	if known := knownError(err); known != nil {
		return strconv.Itoa(known.Status)
	}
	return codeInternal
}

// ended counts a call; code is "" where it has succeeded.
func (m *metrics) ended(call Call, began time.Time, code string) {
	m.seconds.WithLabelValues(call.Service, call.Method).Observe(time.Since(began).Seconds())
	if code != "" {
		m.errors.WithLabelValues(call.Service, call.Method, code).Inc()
	}
}
