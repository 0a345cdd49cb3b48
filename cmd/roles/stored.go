package roles

import (
	"context"
	"errors"
	"os"

	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/telemetry"
)

// Stored is what an installation stores: its log and the databases of its
// roles, by the store's name, open for a tool.
type Stored struct {
	Log    eventlog.Log
	Stores map[string]*sqldb.DB
}

// OpenStored opens what an installation stores; what is not there is made,
// empty. Without the log, Log is nil.
func OpenStored(ctx context.Context, c *config.Dendrite, logger *logrus.Logger, withLog bool) (*Stored, error) {
	s := &Stored{Stores: map[string]*sqldb.DB{}}
	if err := s.open(ctx, c, logger, withLog); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Stored) open(ctx context.Context, c *config.Dendrite, logger *logrus.Logger, withLog bool) error {
	if err := os.MkdirAll(c.Global.DataDir, 0o700); err != nil {
		return err
	}
	if withLog {
		log, err := openLog(ctx, c, nil, logrus.NewEntry(logger), telemetry.NewRegistry())
		if err != nil {
			return err
		}
		s.Log = log
	}
	for _, spec := range table() {
		if spec.store == "" {
			continue
		}
		options := storeOptions(c, spec)
		options.Maintenance = true
		db, err := sqldb.Open(ctx, options)
		if err != nil {
			return err
		}
		s.Stores[spec.store] = db
	}
	return nil
}

// Close closes the databases, then the log.
func (s *Stored) Close() error {
	var errs []error
	for _, db := range s.Stores {
		errs = append(errs, db.Close())
	}
	if s.Log != nil {
		errs = append(errs, s.Log.Close())
	}
	return errors.Join(errs...)
}
