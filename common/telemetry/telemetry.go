package telemetry

import (
	"fmt"
	"io"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/sirupsen/logrus"
)

// NewLogger makes a logger that writes one line for each entry to out: level is
// error, warn, info, debug or trace, format text or json.
func NewLogger(level, format string, out io.Writer) (*logrus.Logger, error) {
	parsed, err := logrus.ParseLevel(level)
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	const times = "2006-01-02T15:04:05.000Z07:00"
	logger := logrus.New()
	logger.SetOutput(out)
	logger.SetLevel(parsed)
	switch format {
	case "text":
		logger.SetFormatter(&logrus.TextFormatter{DisableColors: true, FullTimestamp: true, TimestampFormat: times})
	case "json":
		logger.SetFormatter(&logrus.JSONFormatter{TimestampFormat: times})
	default:
		return nil, fmt.Errorf("telemetry: the log format %q is neither text nor json", format)
	}
	return logger, nil
}

// NewRegistry makes a registry that has the metrics of the Go runtime and of
// the process.
func NewRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}
