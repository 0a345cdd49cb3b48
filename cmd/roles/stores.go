package roles

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/eventlog/kafka"
	"github.com/matrix-org/dendrite/common/sqldb"
	mediaapi "github.com/matrix-org/dendrite/mediaapi/api"
)

// log is a log whose state can be asked for.
type log interface {
	eventlog.Log
	// Failed returns why the log takes or gives nothing now.
	Failed() error
}

// openLog opens the log that the configuration says, and waits for brokers that
// are away.
func openLog(ctx context.Context, c *config.Dendrite, specs []spec, logger *logrus.Entry, metrics prometheus.Registerer) (log, error) {
	k := &c.EventLog.Kafka
	if len(k.Brokers) == 0 {
		embedded, err := eventlog.OpenEmbedded(ctx, filepath.Join(c.Global.DataDir, "log.db"), eventlog.EmbeddedOptions{})
		if err != nil {
			return nil, err
		}
		return embedded, nil
	}
	options := kafka.Options{Brokers: k.Brokers, TopicPrefix: k.TopicPrefix, ReplicationFactor: int16(k.ReplicationFactor),
		AppendTimeout: k.AppendTimeout, Gather: gather(specs), Logger: logger, Metrics: metrics}
	if k.SASLMechanism != "" {
		options.SASL = &kafka.SASL{Mechanism: k.SASLMechanism, User: k.SASLUsername, Password: k.SASLPassword}
	}
	if k.TLS {
		options.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		var err error
		if k.TLSCA != "" {
			if options.TLS.RootCAs, err = authoritiesOf(k.TLSCA); err != nil {
				return nil, err
			}
		}
		if k.TLSCert != "" {
			certificate, err := tls.LoadX509KeyPair(k.TLSCert, k.TLSKey)
			if err != nil {
				return nil, fmt.Errorf("event_log.kafka: %w", err)
			}
			options.TLS.Certificates = []tls.Certificate{certificate}
		}
	}
	return persist(ctx, logger, "Kafka", func() (log, error) { return kafka.Open(ctx, options) })
}

// gather is how long all of the roles can wait.
func gather(specs []spec) time.Duration {
	if len(specs) == 0 {
		return 0
	}
	return slices.MinFunc(specs, func(a, b spec) int { return cmp.Compare(a.gather, b.gather) }).gather
}

// keepsFiles tells whether the log or one of the roles' stores is a file here.
func keepsFiles(c *config.Dendrite, specs []spec) bool {
	return len(c.EventLog.Kafka.Brokers) == 0 || slices.ContainsFunc(specs, func(s spec) bool {
		return s.store != "" && c.Database.StoreURL(s.store) == "" || s.service == mediaapi.Service && c.MediaAPI.S3.Endpoint == ""
	})
}

// openStore opens a role's store, and waits for a database that is away.
func openStore(ctx context.Context, c *config.Dendrite, s spec, logger *logrus.Entry, metrics prometheus.Registerer) (*sqldb.DB, error) {
	options := storeOptions(c, s)
	options.Metrics, options.Store = metrics, s.store
	if c.Database.StoreURL(s.store) == "" {
		return sqldb.Open(ctx, options)
	}
	return persist(ctx, logger, "PostgreSQL", func() (*sqldb.DB, error) { return sqldb.Open(ctx, options) })
}

func storeOptions(c *config.Dendrite, s spec) sqldb.Options {
	o := sqldb.Options{URL: c.Database.StoreURL(s.store), Durable: s.durable, Connections: c.Database.Connections, CacheBytes: c.Database.CacheBytes}
	if o.URL == "" {
		o.URL = "file:" + filepath.Join(c.Global.DataDir, s.store+".db")
		return o
	}
	o.Schema = s.store
	return o
}

// Pauses between attempts to reach what other machines run.
const (
	minPause = 200 * time.Millisecond
	maxPause = 5 * time.Second
)

// persist opens something as often as it takes: in a cluster processes start in
// any order. What waiting does not help against is an error at once.
func persist[T any](ctx context.Context, logger *logrus.Entry, what string, open func() (T, error)) (T, error) {
	var none T
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		opened, err := open()
		if err == nil {
			return opened, nil
		}
		if !errors.Is(err, eventlog.ErrUnavailable) && !errors.Is(err, sqldb.ErrUnavailable) {
			return none, err
		}
		logger.WithError(err).Warnf("%s cannot be reached; trying again", what)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return none, err
		}
	}
}
