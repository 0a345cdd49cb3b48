package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/lease"
	"github.com/matrix-org/dendrite/common/sqldb"
	directory "github.com/matrix-org/dendrite/directoryapi/storage"
	media "github.com/matrix-org/dendrite/mediaapi/storage"
	push "github.com/matrix-org/dendrite/pushapi/storage"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	rooms "github.com/matrix-org/dendrite/roomserver/storage"
	search "github.com/matrix-org/dendrite/searchapi/storage"
	syncs "github.com/matrix-org/dendrite/syncapi/storage"
	userapi "github.com/matrix-org/dendrite/userapi/api"
	users "github.com/matrix-org/dendrite/userapi/storage"

	"github.com/matrix-org/dendrite/cmd/roles"
)

// component is what this package knows of a store.
type component struct {
	store string
	// migrate makes the tables, or brings them up to date.
	migrate func(context.Context, *sqldb.DB) error
	// places finds where the store's consumers have come to, as the tables
	// placeTables say.
	places      func(context.Context, *sqldb.DB) ([]Place, error)
	placeTables []string
	// repartition changes the store, once copied; may be nil.
	repartition func(context.Context, *sqldb.Tx, plan) error
	// remade says that the store is not copied: it is made anew where it is next.
	remade bool
}

// leaseTables are those of common/lease.
func leaseTables() []string { return []string{"lease_partitions", "lease_members"} }

func components() []component {
	return []component{
		{"roomserver", withLeases(func(ctx context.Context, db *sqldb.DB) error {
			_, err := rooms.New(ctx, db)
			return err
		}), leasePlaces, leaseTables(), repartitionRooms, false},
		{"userapi", withLeases(func(ctx context.Context, db *sqldb.DB) error {
			_, err := users.New(ctx, db, userapi.UserOutputPartitions)
			return err
		}), leasePlaces, leaseTables(), nil, false},
		{"directoryapi", withLeases(func(ctx context.Context, db *sqldb.DB) error {
			_, err := directory.New(ctx, db)
			return err
		}), viewPlaces(directory.New), leaseTables(), repartitionDirectory, false},
		{"syncapi", withLeases(func(ctx context.Context, db *sqldb.DB) error {
			_, err := syncs.Open(ctx, db)
			return err
		}), syncPlaces, append(leaseTables(), "offsets"), nil, false},
		{"mediaapi", func(ctx context.Context, db *sqldb.DB) error {
			_, err := media.New(ctx, db)
			return err
		}, noPlaces, nil, nil, false}, // it reads no topic
		{"pushapi", withLeases(func(ctx context.Context, db *sqldb.DB) error {
			_, err := push.New(ctx, db)
			return err
		}), leasePlaces, leaseTables(), repartitionPush, false},
		// What it finds events by is each engine's own.
		{"searchapi", withLeases(func(ctx context.Context, db *sqldb.DB) error {
			_, err := search.New(ctx, db)
			return err
		}), viewPlaces(search.New), leaseTables(), nil, true},
	}
}

// remade tells whether a store is not copied.
func remade(store string) bool {
	return slices.ContainsFunc(components(), func(c component) bool { return c.store == store && c.remade })
}

func withLeases(migrate func(context.Context, *sqldb.DB) error) func(context.Context, *sqldb.DB) error {
	return func(ctx context.Context, db *sqldb.DB) error {
		return errors.Join(migrate(ctx, db), lease.Migrate(ctx, db))
	}
}

func noPlaces(context.Context, *sqldb.DB) ([]Place, error) { return nil, nil }

// storedTopics are the topics whose records outlive a restart.
func storedTopics(partitions int) []eventlog.TopicSpec {
	return []eventlog.TopicSpec{roomapi.InputTopic(partitions), roomapi.OutputTopic(partitions), userapi.UserOutputTopic(0)}
}

// Installation is an installation's log and stores, open while no server runs.
type Installation struct {
	*roles.Stored
	Name       string // for an operator
	ServerName string
	// Partitions of the topics that hold rooms.
	Partitions int
	topics     map[string]eventlog.TopicInfo
}

// Open opens an installation. If running is set, one on whose log a server runs
// is opened without it.
func Open(ctx context.Context, name string, c *config.Dendrite, logger *logrus.Logger, running bool) (*Installation, error) {
	stored, err := roles.OpenStored(ctx, c, logger, true)
	if running && errors.Is(err, eventlog.ErrInUse) {
		stored, err = roles.OpenStored(ctx, c, logger, false)
	}
	if err != nil {
		return nil, err
	}
	i := &Installation{Stored: stored, Name: name, ServerName: c.Global.ServerName, Partitions: c.EventLog.Partitions}
	for store := range stored.Stores {
		if !slices.ContainsFunc(components(), func(c component) bool { return c.store == store }) {
			return nil, errors.Join(fmt.Errorf("the store %s is not known here", store), i.Close())
		}
	}
	return i, nil
}

// prepare brings the tables up to date and finds the topics.
func (i *Installation) prepare(ctx context.Context) error {
	for _, c := range components() {
		if err := c.migrate(ctx, i.Stores[c.store]); err != nil {
			return fmt.Errorf("%s: %w", c.store, err)
		}
	}
	i.topics = map[string]eventlog.TopicInfo{}
	if i.Log == nil {
		return nil
	}
	for _, spec := range storedTopics(i.Partitions) {
		info, err := i.Log.EnsureTopic(ctx, spec)
		if err != nil {
			return fmt.Errorf("%s: %w", spec.Name, err)
		}
		i.topics[spec.Name] = info
	}
	return nil
}

// errRunning says that a server runs on the installation.
var errRunning = errors.New("a server runs on it: stop all of them first")

// stopped fails if some instance has a lease that holds. Who has a log open that
// is for one process only knows without looking.
func (i *Installation) stopped(ctx context.Context) error {
	if eventlog.IsExclusive(i.Log) {
		return nil
	}
	places, err := i.places(ctx)
	if err != nil {
		return err
	}
	for _, p := range places {
		if p.Live {
			return fmt.Errorf("%s: %w (%s has partition %d of %s)", i.Name, errRunning, p.Owner, p.Partition, p.Topic)
		}
	}
	return nil
}
