package searchapi

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/consumer"
	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/common/sqldb"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/searchapi/storage"
)

// Deps is what a Server is made from. All of it is needed but Partitions, LeaseTTL
// and Metrics.
type Deps struct {
	Config config.Search
	Log    eventlog.Log
	// DB is the component's own. It need not be durable: all that is in it can be
	// made again.
	DB     *sqldb.DB
	Caller rpc.Caller
	// Partitions of room.output; zero means roomserver's DefaultPartitions.
	Partitions int
	// LeaseTTL is about how long the work of an instance that died waits; zero
	// means lease.DefaultTTL.
	LeaseTTL time.Duration
	Logger   *logrus.Entry
	Metrics  prometheus.Registerer
}

// Server is the search-server role.
type Server struct {
	config     config.Search
	db         *storage.Database
	caller     rpc.Caller
	consumer   *consumer.Consumer
	progress   *consumer.Progress
	partitions int
	// applied is how far the partitions of this instance are indexed, committed
	// when that was stored last. The consumer's loop's only.
	applied   map[int]int64
	committed time.Time
	// linger is how long batches wait for each other, but if somebody is waiting;
	// then hurry ends the wait.
	linger  time.Duration
	waiting atomic.Int64
	hurry   chan struct{}
	// work says that there may be something to do beside what comes.
	work chan struct{}
	// searching bounds the searches at one time.
	searching chan struct{}
	// examines and ranks are maxExamined and maxRanked.
	examines, ranks int
	// View has Ready, which does not wait for history that is being read, and CaughtUp.
	*consumer.View
	metrics *metrics
	logger  *logrus.Entry
	now     func() time.Time
}

const (
	// lingerAlone and lingerShared are how long batches wait for each other: where
	// who searches can be heard, and where that may be another process's user, of whom
	// lingerMost is the bound.
	lingerAlone  = 200 * time.Millisecond
	lingerShared = 50 * time.Millisecond
	lingerMost   = 200 * time.Millisecond
)

// New makes a Server: it brings the schema up to date and ensures room.output. It
// starts nothing.
func New(ctx context.Context, deps Deps) (*Server, error) {
	deps.Config.Defaults()
	db, err := storage.New(ctx, deps.DB)
	if err != nil {
		return nil, err
	}
	topic, err := deps.Log.EnsureTopic(ctx, roomapi.OutputTopic(deps.Partitions))
	if err != nil {
		return nil, fmt.Errorf("searchapi: %s: %w", roomapi.TopicOutput, err)
	}
	progress, err := consumer.NewProgress(ctx, topic.Partitions, db.Positions)
	if err != nil {
		return nil, fmt.Errorf("searchapi: positions: %w", err)
	}
	s := &Server{
		config: deps.Config, db: db, caller: deps.Caller, progress: progress, partitions: topic.Partitions, applied: map[int]int64{},
		linger: lingerShared, hurry: make(chan struct{}, 1), work: make(chan struct{}, 1), searching: make(chan struct{}, deps.Config.MaxAtOnce),
		examines: maxExamined, ranks: maxRanked, logger: deps.Logger.WithField("component", "searchapi"), now: time.Now,
	}
	s.View = &consumer.View{Name: "searchapi", Log: deps.Log, Topic: roomapi.TopicOutput, Progress: progress, SeqOf: roomapi.OutputSeq, Await: s.await, Logger: s.logger,
		Heads: func(ctx context.Context, settled bool) ([]int64, error) {
			return roomapi.Heads(ctx, deps.Caller, settled)
		}}
	if eventlog.IsExclusive(deps.Log) {
		s.linger = lingerAlone
	}
	if s.metrics, err = newMetrics(deps.Metrics); err != nil {
		return nil, err
	}
	s.consumer, err = consumer.New(ctx, consumer.Options{
		Name: "search", Topic: topic, Derived: true, Log: deps.Log, DB: deps.DB, LeaseTTL: deps.LeaseTTL, Logger: s.logger, Metrics: deps.Metrics,
		OnAcquire: s.acquire, Rebuild: s.begin,
	})
	if err != nil {
		return nil, fmt.Errorf("searchapi: %w", err)
	}
	return s, nil
}

// Run keeps the index up to date until ctx is done.
func (s *Server) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.consumer.Run(ctx, s.index) })
	group.Go(func() error { s.tend(ctx); return nil })
	return group.Wait()
}

// await waits until the index is as far as wanted, or ctx is done.
func (s *Server) await(ctx context.Context, want []int64) error {
	s.waiting.Add(1)
	defer s.waiting.Add(-1)
	select {
	case s.hurry <- struct{}{}:
	default:
	}
	return s.progress.Await(ctx, want)
}

// partition is that of a room.
func (s *Server) partition(roomID string) int { return eventlog.PartitionFor(roomID, s.partitions) }

// owned are the partitions that are this instance's.
func (s *Server) owned() (out []int64) {
	for p := range s.partitions {
		if s.consumer.Valid(p) {
			out = append(out, int64(p))
		}
	}
	return out
}
