package roles

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/sqldb"
)

// log is a log whose state can be asked for.
type log interface {
	eventlog.Log
	// Failed returns why the log takes or gives nothing now.
	Failed() error
}

// openLog opens the log that the configuration says, and waits for brokers that
// are away.
func openLog(ctx context.Context, c *config.Dendrite, logger *logrus.Entry, metrics prometheus.Registerer) (log, error) {
	k := &c.EventLog.Kafka
	if len(k.Brokers) == 0 {
		return eventlog.OpenEmbedded(ctx, filepath.Join(c.Global.DataDir, "log.db"), eventlog.EmbeddedOptions{})
	}
	return nil, errors.New("event_log.kafka is not there yet")
}

// openStore opens a role's store, and waits for a database that is away.
func openStore(ctx context.Context, c *config.Dendrite, s spec, logger *logrus.Entry) (*sqldb.DB, error) {
	options := sqldb.Options{URL: c.Database.StoreURL(s.store), Durable: s.durable, Connections: c.Database.Connections, CacheBytes: c.Database.CacheBytes}
	if options.URL == "" {
		options.URL = "file:" + filepath.Join(c.Global.DataDir, s.store+".db")
		return sqldb.Open(ctx, options)
	}
	return persist(ctx, logger, "PostgreSQL", func() (*sqldb.DB, error) { return sqldb.Open(ctx, options) })
}

// Pauses between attempts to reach what other machines run.
const (
	minPause = 200 * time.Millisecond
	maxPause = 5 * time.Second
)

// persist opens something as often as it takes: in a cluster processes start in
// any order.
func persist[T any](ctx context.Context, logger *logrus.Entry, what string, open func() (T, error)) (T, error) {
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		opened, err := open()
		if err == nil {
			return opened, nil
		}
		logger.WithError(err).Warnf("%s cannot be reached; trying again", what)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return opened, err
		}
	}
}
