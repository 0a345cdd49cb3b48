package roomserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/consumer"
	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/roomserver/storage"
)

// Deps are what a Server is made of.
type Deps struct {
	Config     config.RoomServer
	ServerName string
	Keys       []gomatrixserverlib.SigningKey // the first signs
	Log        eventlog.Log
	// DB is the component's own; it need not be durable if room.input is.
	DB *sqldb.DB
	// Address is where other processes reach this one's methods; "" if there are
	// no others.
	Address string
	// Partitions of room.input and room.output; zero means DefaultPartitions.
	Partitions int
	Logger     *logrus.Entry
	Metrics    prometheus.Registerer

	// For tests of this package: other limits than those that are the version's,
	// and what is called before a room that is set aside is worked on.
	limits    limits
	computing func(ctx context.Context, roomID string)
}

// Server is the room server role.
type Server struct {
	config     config.RoomServer
	serverName string
	key        gomatrixserverlib.SigningKey
	log        eventlog.Log
	store      *storage.Store
	consumer   *consumer.Consumer
	rooms      *roomCache
	timelines  *eventCache
	states     *stateCache
	heads      heads
	progress   *progress
	input      eventlog.TopicInfo
	// published is the last Seq that stands in each partition of room.output;
	// the consuming goroutine's.
	published []int64
	// adopted is set where room.output was ahead of the store; by partition.
	adopted []*adopted
	// forgotten is the hour of records in which old verdicts were dropped last.
	forgotten int64
	limits    limits
	asides    *asides
	computing func(ctx context.Context, roomID string) // see Deps
	metrics   metrics
	logger    *logrus.Entry
}

// gather is how long a batch waits for more where many write: a few of the
// milliseconds that a send takes through Kafka.
const gather = 2 * time.Millisecond

// New makes a Server: it brings the schema up to date and ensures the topics.
// It starts nothing.
func New(ctx context.Context, deps Deps) (*Server, error) {
	if len(deps.Keys) == 0 {
		return nil, errors.New("roomserver: no signing key")
	}
	deps.Config.Defaults()
	store, err := storage.New(ctx, deps.DB)
	if err != nil {
		return nil, err
	}
	s := &Server{config: deps.Config, serverName: deps.ServerName, key: deps.Keys[0], log: deps.Log, store: store,
		rooms: newRoomCache(deps.Config.CacheBytes / 8 * 5), timelines: newEventCache(deps.Config.CacheBytes / 4),
		states: newStateCache(deps.Config.CacheBytes / 8), progress: newProgress(), logger: deps.Logger.WithField("component", "roomserver")}
	input, err := deps.Log.EnsureTopic(ctx, api.InputTopic(deps.Partitions))
	if err != nil {
		return nil, fmt.Errorf("roomserver: %w", err)
	}
	for _, spec := range []eventlog.TopicSpec{api.OutputTopic(deps.Partitions), api.AnswersTopic()} {
		if _, err := deps.Log.EnsureTopic(ctx, spec); err != nil {
			return nil, fmt.Errorf("roomserver: %w", err)
		}
	}
	if err := s.metrics.register(deps.Metrics); err != nil {
		return nil, fmt.Errorf("roomserver: %w", err)
	}
	if s.limits = deps.limits; s.limits == (limits{}) {
		s.limits = defaultLimits
	}
	s.asides, s.computing = newAsides(&s.metrics), deps.computing
	s.input = input
	s.published, s.adopted = make([]int64, input.Partitions), make([]*adopted, input.Partitions)
	if s.heads.positions, err = s.readPositions(ctx); err != nil {
		return nil, err
	}
	s.consumer, err = consumer.New(ctx, consumer.Options{
		Name: "rooms", Topic: input, Trim: true, Log: deps.Log, DB: deps.DB, Address: deps.Address, Gather: gather,
		Logger: s.logger, Metrics: deps.Metrics, OnAcquire: s.acquire, OnRelease: s.asides.forget,
		MaxRecords: s.limits.batch,
	})
	if err != nil {
		return nil, fmt.Errorf("roomserver: %w", err)
	}
	return s, nil
}

func (s *Server) readPositions(ctx context.Context) (p storage.Positions, err error) {
	err = s.store.ReadOne(ctx, func(tx *sqldb.Tx) (err error) {
		p, err = s.store.Positions(ctx, tx, s.input.Partitions)
		return err
	})
	if err != nil {
		return p, fmt.Errorf("roomserver: positions: %w", err)
	}
	return p, nil
}

// acquire takes a partition over: what is in memory of it is from before
// another instance had it.
func (s *Server) acquire(ctx context.Context, partition int) error {
	stored, err := s.readPositions(ctx)
	if err != nil {
		return err
	}
	s.heads.mu.Lock()
	s.heads.positions.Seqs[partition], s.heads.positions.Others[partition] = stored.Seqs[partition], stored.Others[partition]
	s.heads.applied++
	s.rooms.removePartition(partition)
	s.timelines.clear()
	s.states.clear()
	s.heads.mu.Unlock()
	if err := s.acquireAside(ctx, partition); err != nil {
		return err
	}
	return s.republish(ctx, partition)
}

// othersEvery is how often to look how far other instances have come.
const othersEvery = 50 * time.Millisecond

// Ready waits until everything has been consumed that was in room.input when it
// was called: after a start, until queries show all that has been acknowledged.
func (s *Server) Ready(ctx context.Context) error {
	stored, err := s.consumer.Stored(ctx)
	if err != nil {
		return fmt.Errorf("roomserver: ready: %w", err)
	}
	for p := range s.input.Partitions {
		_, end, err := s.log.Bounds(ctx, api.TopicInput, p)
		if err != nil {
			return err
		}
		if stored[p] > end { // before anything is appended there
			return fmt.Errorf("roomserver: ready: %w: partition %d was read up to %d, ends at %d", consumer.ErrTopicShorter, p, stored[p], end)
		}
		for stored[p] < end {
			ok, moved := s.progress.reached(p, end)
			if ok {
				break
			}
			select {
			case <-moved:
			case <-time.After(othersEvery):
				if s.owns(p) {
					break
				}
				if stored, err = s.consumer.Stored(ctx); err != nil { // by its owner
					return fmt.Errorf("roomserver: ready: %w", err)
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// trimOutputEvery is the time between looks at what retention lets go of room.output.
const trimOutputEvery = time.Minute

// Run consumes room.input until ctx is done; a batch that has begun is finished.
func (s *Server) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.consumer.Run(ctx, s.consume) })
	group.Go(func() error { return s.trimOutput(ctx) })
	group.Go(func() error { return s.runAhead(ctx) })
	return group.Wait()
}

// trimOutput lets the log drop old outputs: readers that fall behind by more
// than the topic's retention have to be rebuilt.
func (s *Server) trimOutput(ctx context.Context) error {
	tick := time.NewTicker(trimOutputEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for p := range s.published {
			_, end, err := s.log.Bounds(ctx, api.TopicOutput, p)
			if err == nil {
				// The last record stays: it tells how far the topic goes.
				err = s.log.Trim(ctx, api.TopicOutput, p, end-1)
			}
			if err != nil && ctx.Err() == nil {
				s.logger.WithError(err).Warn("Cannot trim room.output")
			}
		}
	}
}
