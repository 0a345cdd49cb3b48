package pushapi

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/consumer"
	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/netguard"
	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/pushapi/storage"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// Deps is what a Server is made from. All of it is needed but Partitions, LeaseTTL
// and Metrics.
type Deps struct {
	Config config.Push
	Log    eventlog.Log
	// DB is the component's own. It need not be durable: after a loss, events are
	// judged and gateways told again.
	DB     *sqldb.DB
	Caller rpc.Caller
	// Denied are addresses that are not connected to for others.
	Denied []netip.Prefix
	// Partitions of room.output; zero means roomserver's DefaultPartitions.
	Partitions int
	// LeaseTTL is about how long the work of an instance that died waits; zero
	// means lease.DefaultTTL.
	LeaseTTL time.Duration
	Logger   *logrus.Entry
	Metrics  prometheus.Registerer
}

// Server is the push-server role.
type Server struct {
	config     config.Push
	db         *storage.Database
	caller     rpc.Caller
	log        eventlog.Log
	people     *people
	rooms      *rooms
	judged     *consumer.Consumer // of room.output
	changes    *consumer.Consumer // of user.output: whose pushers this instance serves
	partitions int                // of user.output
	client     *http.Client
	wake       chan struct{} // something may be due
	metrics    *metrics
	logger     *logrus.Entry
	now        func() time.Time
	pollEvery  time.Duration
	// minBackoff is the first wait after a gateway failed.
	minBackoff time.Duration
	duePage    int
	// skipped counts changes of user.output since it was stored last that they were
	// read; the loop's alone.
	skipped int
}

// New makes a Server: it brings the schema up to date and ensures the topics. It
// starts nothing.
func New(ctx context.Context, deps Deps) (*Server, error) {
	deps.Config.Defaults()
	db, err := storage.New(ctx, deps.DB)
	if err != nil {
		return nil, err
	}
	s := &Server{
		config: deps.Config, db: db, caller: deps.Caller, log: deps.Log,
		wake: make(chan struct{}, 1), logger: deps.Logger.WithField("component", "pushapi"), now: time.Now, pollEvery: pollEvery, minBackoff: minBackoff, duePage: duePage,
	}
	if eventlog.IsExclusive(deps.Log) {
		s.pollEvery = pollAlone
	}
	if s.metrics, err = newMetrics(deps.Metrics, s); err != nil {
		return nil, err
	}
	output, err := deps.Log.EnsureTopic(ctx, roomapi.OutputTopic(deps.Partitions))
	if err != nil {
		return nil, fmt.Errorf("pushapi: %s: %w", roomapi.TopicOutput, err)
	}
	users, err := deps.Log.EnsureTopic(ctx, userapi.UserOutputTopic(0))
	if err != nil {
		return nil, fmt.Errorf("pushapi: %s: %w", userapi.TopicUserOutput, err)
	}
	s.partitions = users.Partitions
	s.people = newPeople(users.Partitions)
	s.rooms = newRooms()
	s.client = s.newClient(netguard.New(deps.Denied, deps.Config.Allowed()))
	options := consumer.Options{Derived: true, Log: deps.Log, DB: deps.DB, LeaseTTL: deps.LeaseTTL, Logger: s.logger, Metrics: deps.Metrics,
		Rebuild: func(context.Context, int) error { return nil }} // nobody is told of what is long ago
	judged := options
	judged.Name, judged.Topic, judged.Gather, judged.GatherMost, judged.OnAcquire, judged.OnRelease = "push", output, gather, gatherMost, s.enter, s.rooms.leave
	if s.judged, err = consumer.New(ctx, judged); err != nil {
		return nil, fmt.Errorf("pushapi: %w", err)
	}
	options.Name, options.Topic = "push", users
	if s.changes, err = consumer.New(ctx, options); err != nil {
		return nil, fmt.Errorf("pushapi: %w", err)
	}
	return s, nil
}

// gather and gatherMost are how long records wait for more, where several come.
const (
	gather     = 25 * time.Millisecond
	gatherMost = 100 * time.Millisecond
)

// Run judges and tells until ctx is done.
func (s *Server) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.follow(ctx) })
	group.Go(func() error {
		if !s.people.await(ctx) {
			return nil // stopped before anybody was known
		}
		inner, ctx := errgroup.WithContext(ctx)
		// Pushers are handed over when nobody is served here any more.
		serving, handOver := context.WithCancel(context.WithoutCancel(ctx))
		inner.Go(func() error { return s.judged.Run(ctx, s.judge) })
		inner.Go(func() error { return s.changes.Run(serving, s.note) })
		inner.Go(func() error { defer handOver(); s.deliver(ctx); return nil })
		return inner.Wait()
	})
	return group.Wait()
}

// Ready waits until it is known who has pushers.
func (s *Server) Ready(ctx context.Context) error {
	if !s.people.await(ctx) {
		return fmt.Errorf("pushapi: nobody said who has pushers: %w", ctx.Err())
	}
	return nil
}

// hurry has the database looked at for what is due.
func (s *Server) hurry() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
