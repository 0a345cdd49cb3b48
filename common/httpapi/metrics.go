package httpapi

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/matrix-org/dendrite/common/telemetry"
)

// metrics counts requests; nil counts nothing.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newMetrics(to prometheus.Registerer) (*metrics, error) {
	if to == nil {
		return nil, nil
	}
	requests, err := telemetry.Register(to, prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "dendrite", Subsystem: "http", Name: "requests_total",
		Help: "Requests answered, by method, endpoint and status.",
	}, []string{"method", "endpoint", "status"}))
	if err != nil {
		return nil, err
	}
	seconds, err := telemetry.Register(to, prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "dendrite", Subsystem: "http", Name: "request_seconds",
		Help:    "Time from a request's head to its answer, by method, endpoint and status.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 120},
	}, []string{"method", "endpoint", "status"}))
	if err != nil {
		return nil, err
	}
	return &metrics{requests, seconds}, nil
}

// count counts a request that reached no endpoint. Methods come from outside:
// only known ones become labels.
func (m *metrics) count(method, endpoint string, status int) {
	if m == nil {
		return
	}
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE":
	default:
		method = "other"
	}
	m.requests.WithLabelValues(method, endpoint, strconv.Itoa(status)).Inc()
}

// observe counts and times a request to an endpoint.
func (m *metrics) observe(method, endpoint string, status int, taken time.Duration) {
	if m == nil {
		return
	}
	code := strconv.Itoa(status)
	m.requests.WithLabelValues(method, endpoint, code).Inc()
	m.seconds.WithLabelValues(method, endpoint, code).Observe(taken.Seconds())
}
