package roles

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/sqldb"
)

// Stored is what an installation stores: its log and the databases of its
// roles, by the store's name, open for a tool.
type Stored struct {
	Log    eventlog.Log
	Stores map[string]*sqldb.DB
}

// OpenStored opens what an installation stores; what is not there is made,
// empty. Without the log, Log is nil.
func OpenStored(ctx context.Context, c *config.Dendrite, withLog bool) (*Stored, error) {
	s := &Stored{Stores: map[string]*sqldb.DB{}}
	dir := c.Global.DataDir
	err := os.MkdirAll(dir, 0o700)
	if err == nil && withLog {
		var log *eventlog.Embedded
		if log, err = eventlog.OpenEmbedded(ctx, filepath.Join(dir, "log.db"), eventlog.EmbeddedOptions{}); err == nil {
			s.Log = log
		}
	}
	for _, spec := range table() {
		if spec.store == "" || err != nil {
			continue
		}
		var db *sqldb.DB
		db, err = sqldb.Open(ctx, sqldb.Options{URL: "file:" + filepath.Join(dir, spec.store+".db"), Durable: spec.durable,
			Connections: c.Database.Connections, CacheBytes: c.Database.CacheBytes, Maintenance: true})
		if err == nil {
			s.Stores[spec.store] = db
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", dir, err), s.Close())
	}
	return s, nil
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
