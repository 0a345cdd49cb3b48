package clientapi

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/retention"
	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// Deps is what a Server is made from. All of it is needed but Partitions and
// Metrics.
type Deps struct {
	Config config.ClientAPI
	// Global is what discovery tells; where it is zero nothing is told.
	Global config.Global
	// Registration says who may make accounts.
	Registration config.Registration
	// Retention says how long events are kept.
	Retention config.Retention
	// ServerName is the part of user IDs and aliases behind the colon.
	ServerName string
	// Keys sign what is made here; the first is the current one.
	Keys []gomatrixserverlib.SigningKey
	Log  eventlog.Log
	// Caller reaches the user-api, the room server and the directory-api.
	Caller rpc.Caller
	// Partitions of room.input; zero means api.DefaultPartitions.
	Partitions int
	Logger     *logrus.Entry
	// Metrics registers the package's metrics; nil for none.
	Metrics prometheus.Registerer
}

// Server is the client-api role.
type Server struct {
	config     config.ClientAPI
	global     config.Global
	serverName string
	keys       []gomatrixserverlib.SigningKey
	caller     rpc.Caller
	logger     *logrus.Entry
	writer     *Writer

	registration config.Registration
	jobs         chan struct{} // work in many rooms may be waiting
	delayed      chan struct{} // when the next delayed event is due may have changed
	activity     *userapi.Reporter
	// retention is nil where events are kept; purgeInterval is the time between looks.
	retention     *retention.Rules
	purgeInterval time.Duration
	// others has when what no timeline shows was looked for last, by partition.
	others   *sync.Map
	purged   *prometheus.CounterVec
	jobOwner string // names this instance to who gives out jobs
}

// New makes a Server and ensures the topics that it uses. It starts nothing.
func New(ctx context.Context, deps Deps) (*Server, error) {
	if len(deps.Keys) == 0 {
		return nil, errors.New("clientapi: no signing key")
	}
	deps.Config.Defaults()
	logger := deps.Logger.WithField("component", "clientapi")
	writer, err := NewWriter(ctx, WriterDeps{
		Config:     deps.Config.Writer,
		ServerName: deps.ServerName,
		Log:        deps.Log,
		Caller:     deps.Caller,
		Partitions: deps.Partitions,
		Logger:     logger,
		Metrics:    deps.Metrics,
	})
	if err != nil {
		return nil, err
	}
	if _, err := deps.Log.EnsureTopic(ctx, userapi.ActivityTopic()); err != nil {
		return nil, fmt.Errorf("clientapi: %s: %w", userapi.TopicUserActivity, err)
	}
	deps.Retention.Defaults()
	s := &Server{
		config:     deps.Config,
		global:     deps.Global,
		serverName: deps.ServerName,
		keys:       deps.Keys,
		caller:     deps.Caller,
		logger:     logger,
		writer:     writer,

		registration: deps.Registration,
		jobs:         make(chan struct{}, 1),
		delayed:      make(chan struct{}, 1),
		activity:     userapi.NewReporter(deps.Log),
		jobOwner:     rand.Text(),

		retention:     retention.New(deps.Retention),
		purgeInterval: deps.Retention.Interval,
		others:        new(sync.Map),
		purged: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "dendrite_clientapi_purged_events_total",
			Help: "Events that the room server was told to forget, by why.",
		}, []string{"kind"}),
	}
	if deps.Metrics != nil {
		if err := deps.Metrics.Register(s.purged); err != nil {
			return nil, fmt.Errorf("clientapi: metrics: %w", err)
		}
	}
	return s, nil
}

// Writer returns what appends to room.input, for the durable jobs of other
// components of this process (a new display name in a thousand rooms).
func (s *Server) Writer() *Writer { return s.writer }

// Run hears verdicts, and takes up what a crash interrupted, until ctx is done.
func (s *Server) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.writer.Run(ctx) })
	group.Go(func() error { s.resumeUpgrades(ctx); return nil })
	group.Go(func() error { s.runJobs(ctx); return nil })
	group.Go(func() error { s.runDelayed(ctx); return nil })
	group.Go(func() error { s.runPurges(ctx); return nil })
	group.Go(func() error { s.activity.Run(ctx, s.unreported); return nil })
	return group.Wait()
}

// Endpoints lists every public endpoint of the package.
func (s *Server) Endpoints() []httpapi.Endpoint {
	var all []httpapi.Endpoint
	for _, list := range [][]httpapi.Endpoint{
		s.discoveryEndpoints(),
		s.accountEndpoints(),
		s.roomEndpoints(),
		s.reportEndpoints(),
		s.moderationEndpoints(),
		s.callEndpoints(),
		s.delayedEndpoints(),
		s.retentionEndpoints(),
		s.threadEndpoints(),
	} {
		all = append(all, s.reporting(list)...)
	}
	return all
}
