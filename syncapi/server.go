package syncapi

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/filters"
	"github.com/matrix-org/dendrite/common/lease"
	"github.com/matrix-org/dendrite/common/retention"
	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/common/sqldb"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/syncapi/api"
	"github.com/matrix-org/dendrite/syncapi/storage"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// Deps is what the sync-api needs.
type Deps struct {
	Config config.SyncAPI
	// Retention says how long events are shown.
	Retention  config.Retention
	ServerName string
	Log        eventlog.Log
	// DB is the sync-api's own database. It need not be durable: everything in
	// it can be built again from the log.
	DB     *sqldb.DB
	Caller rpc.Caller
	// NoThreadSubscriptions says that users cannot subscribe to threads.
	NoThreadSubscriptions bool
	Logger                *logrus.Entry
	// Partitions is the number of partitions of room.output; 0 means the default.
	Partitions int
	// LeaseTTL is about how long a partition's rows are not written when the
	// instance that does so has died; zero means lease.DefaultTTL.
	LeaseTTL time.Duration
	// Metrics may be nil.
	Metrics prometheus.Registerer
}

// Server is the sync-api.
type Server struct {
	caller rpc.Caller
	log    *logrus.Entry
	view   *view
	feed   *consumer
	now    func() time.Time
	// retention is nil where events do not expire.
	retention *retention.Rules
	// noThreads says that users cannot subscribe to threads.
	noThreads bool
	// judge prepares how a user's push rules judge events of a room.
	judge func(*user, *room) judging

	maxTimeout, maxLag time.Duration
	unfiltered         *filter
	filters            *filterCache
	sent               *sentMembers
	conns              *connections
	// lazily is the filter that rooms of sliding sync are brought into memory for.
	lazily *filter
	seen   *userapi.Reporter
	// building bounds the answers being built; stopping is closed when Run ends.
	building chan struct{}
	stopping chan struct{}
	stop     sync.Once
	// waiting counts the long polls that wait for something to tell.
	waiting atomic.Int64
	// checked is set once Ready has succeeded.
	checked atomic.Bool
}

// New prepares a sync-api: it migrates the database, finds the topics, and
// where to go on in them. Nothing is read before Run.
func New(ctx context.Context, d Deps) (*Server, error) {
	store, err := storage.Open(ctx, d.DB)
	if err != nil {
		return nil, err
	}
	topics, err := ensureTopics(ctx, d.Log, d.Partitions)
	if err != nil {
		return nil, err
	}
	c := d.Config.Defaults()
	shape := newVector(topics[0].Partitions, topics[1].Partitions, topics[2].Partitions, ephemeralID(topics[2].ID))
	v := newView(store, d.Caller, d.Logger, d.ServerName, shape)
	v.maxUsers, v.maxBytes, v.maxLag = c.CachedUsers, c.CacheBytes, c.MaxLag
	var leases *lease.Manager
	if !eventlog.IsExclusive(d.Log) {
		v.shared = true
		if leases, err = newLeases(ctx, d, v); err != nil {
			return nil, err
		}
	}
	feed, err := newConsumer(ctx, d.Log, v, topics, leases)
	if err != nil {
		return nil, err
	}
	lazily, err := parseFilter([]byte(`{"room":{"state":{"lazy_load_members":true}}}`))
	if err != nil {
		return nil, err
	}
	s := &Server{
		caller: d.Caller, log: d.Logger, view: v, feed: feed, now: time.Now, retention: retention.New(d.Retention), noThreads: d.NoThreadSubscriptions,
		maxTimeout: c.MaxTimeout, maxLag: c.MaxLag, unfiltered: newFilter(filters.None()), filters: newFilterCache(),
		sent:  &sentMembers{devices: map[string]*sentDevice{}},
		conns: newConnections(), lazily: lazily,
		seen:     userapi.NewReporter(d.Log),
		building: make(chan struct{}, c.MaxBuilding), stopping: make(chan struct{}),
	}
	s.judge = s.judgeByRules
	if d.Metrics != nil {
		if err := s.register(d.Metrics); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// ensureTopics makes sure of the topics read and written; it returns those read:
// room.output, user.output and ephemeral.
func ensureTopics(ctx context.Context, log eventlog.Log, partitions int) ([]eventlog.TopicInfo, error) {
	var out []eventlog.TopicInfo
	for _, spec := range []eventlog.TopicSpec{
		roomapi.OutputTopic(partitions),
		userapi.UserOutputTopic(0),
		{Name: userapi.TopicEphemeral, Partitions: userapi.EphemeralPartitions, Durability: eventlog.Ephemeral},
		userapi.ActivityTopic(),
	} {
		info, err := log.EnsureTopic(ctx, spec)
		if err != nil {
			return nil, fmt.Errorf("syncapi: topic %s: %w", spec.Name, err)
		}
		if spec.Name != userapi.TopicUserActivity { // which is only written
			out = append(out, info)
		}
	}
	return out, nil
}

// Register serves what other components ask.
func (s *Server) Register(r *rpc.Server) {
	api.QueryPosition.Serve(r, func(_ context.Context, req *api.PositionRequest) (*api.PositionResponse, error) {
		pos, err := parsePoint(req.Token, req.RoomID, s.view.shape)
		if err != nil {
			return nil, err
		}
		return &api.PositionResponse{Position: pos}, nil
	})
	api.QueryUnread.Serve(r, s.queryUnread)
	api.QueryReach.Serve(r, s.queryReach)
	api.QueryShow.Serve(r, s.queryShow)
}

// Run keeps the view up to date until ctx is done. Then waiting requests are
// answered at once, with the token that they came with.
func (s *Server) Run(ctx context.Context) error {
	defer s.Stop()
	waking, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() { s.view.wakeListed(waking) })
	defer group.Wait()
	defer stop()
	return s.feed.run(ctx)
}

// Stop answers all waiting requests early. Run does so too when it ends; a
// process that still serves requests in flight calls it first.
func (s *Server) Stop() { s.stop.Do(func() { close(s.stopping) }) }

// partition is the partition of a room.
func (s *Server) partition(roomID string) int {
	return s.view.partition(roomID)
}

// filterCache keeps stored filters parsed; they never change.
type filterCache struct {
	mu   sync.Mutex
	list map[[2]string]*filter
}

const maxCachedFilters = 1000

func newFilterCache() *filterCache { return &filterCache{list: map[[2]string]*filter{}} }

func (c *filterCache) get(userID, id string) *filter {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.list[[2]string{userID, id}]
}

func (c *filterCache) put(userID, id string, f *filter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.list) >= maxCachedFilters {
		clear(c.list)
	}
	c.list[[2]string{userID, id}] = f
}
