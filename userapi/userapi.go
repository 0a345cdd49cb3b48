package userapi

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/consumer"
	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/lease"
	"github.com/matrix-org/dendrite/common/pushrules"
	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
	"github.com/matrix-org/dendrite/userapi/storage"
)

// Deps is what a Server is made from. All of it is needed but
// Partitions and what says what zero means.
type Deps struct {
	Config config.UserAPI
	// PushRules says which default rules there are.
	PushRules pushrules.Features
	// NoPresence keeps none: everybody is offline.
	NoPresence bool
	// WrongPasswords is how many wrong passwords an account bears from
	// strangers; zero means any number.
	WrongPasswords config.Rate
	ServerName     string
	Log            eventlog.Log
	// DB is the component's own, opened as durable.
	DB     *sqldb.DB
	Caller rpc.Caller
	// Partitions of user.output; zero means api.UserOutputPartitions.
	Partitions int
	// LeaseTTL is about how long the partitions of an instance that died stay
	// unpublished; zero means lease.DefaultTTL.
	LeaseTTL time.Duration
	Logger   *logrus.Entry
	Metrics  prometheus.Registerer
}

// Server is the user-api role.
type Server struct {
	noPresence bool
	features   pushrules.Features
	config     config.UserAPI
	serverName string
	log        eventlog.Log
	db         *storage.Database
	output     eventlog.TopicInfo
	activity   eventlog.TopicInfo
	tokens     *tokenCache
	ends       *api.Ends // nil where there is no other instance
	hashing    chan struct{}
	failures   *failures
	typing     *typing
	presence   *presences
	heard      *heard
	reporter   *api.Reporter
	wake       chan struct{} // there may be rows to publish
	hints      chan struct{} // and others may have to publish them
	leases     *lease.Manager
	published  *consumer.Progress
	following  atomic.Bool // published has what other instances publish
	sole       bool        // no other instance can be there
	pollEvery  time.Duration
	maxInbox   int // messages to a device
	logger     *logrus.Entry
	now        func() time.Time
}

// hashesAtOnce bounds the passwords hashed at one time: each takes a core and
// much memory.
const hashesAtOnce = 2

// New makes a Server: it brings the schema up to date and ensures the topics.
// It starts nothing.
func New(ctx context.Context, deps Deps) (*Server, error) {
	deps.Config.Defaults()
	if deps.Partitions == 0 {
		deps.Partitions = api.UserOutputPartitions
	}
	s := &Server{
		config:     deps.Config,
		noPresence: deps.NoPresence,
		features:   deps.PushRules,
		maxInbox:   maxInbox,
		serverName: deps.ServerName,
		log:        deps.Log,
		tokens:     newTokenCache(maxCachedTokens),
		hashing:    make(chan struct{}, hashesAtOnce),
		typing:     newTyping(),
		presence:   newPresences(),
		heard:      newHeard(),
		published:  consumer.NewOwnProgress(deps.Partitions),
		reporter:   api.NewReporter(deps.Log),
		wake:       make(chan struct{}, 1),
		hints:      make(chan struct{}, 1),
		logger:     deps.Logger.WithField("component", "userapi"),
		now:        time.Now,
	}
	var err error
	if s.db, err = storage.New(ctx, deps.DB, deps.Partitions); err != nil {
		return nil, err
	}
	s.failures = newFailures(s.db, deps.WrongPasswords)
	for topic, spec := range map[*eventlog.TopicInfo]eventlog.TopicSpec{
		&s.output:               api.UserOutputTopic(deps.Partitions),
		&s.activity:             api.ActivityTopic(),
		new(eventlog.TopicInfo): {Name: api.TopicEphemeral, Partitions: api.EphemeralPartitions, Durability: eventlog.Ephemeral},
	} {
		if *topic, err = deps.Log.EnsureTopic(ctx, spec); err != nil {
			return nil, fmt.Errorf("userapi: %s: %w", spec.Name, err)
		}
	}
	s.sole = eventlog.IsExclusive(deps.Log)
	s.pollEvery = publishRetry
	if !s.sole {
		s.pollEvery = pollEvery
		s.ends = api.NewEnds(s.queryEnds, s.tokens.follow)
	}
	s.leases, err = lease.New(ctx, lease.Options{DB: deps.DB, Group: leaseGroup, Partitions: deps.Partitions, TTL: deps.LeaseTTL, Sole: s.sole, Logger: s.logger, Metrics: deps.Metrics})
	if err != nil {
		return nil, fmt.Errorf("userapi: %w", err)
	}
	return s, nil
}

// leaseGroup names the leases of who publishes user.output.
const leaseGroup = "userapi/" + api.TopicUserOutput

// Register serves the component's methods.
func (s *Server) Register(srv *rpc.Server) {
	api.VerifyToken.Serve(srv, s.verifyToken)
	api.QueryEnds.Serve(srv, s.queryEnds)
	api.Register.Serve(srv, s.register)
	api.Available.Serve(srv, s.available)
	api.Login.Serve(srv, s.login)
	api.Refresh.Serve(srv, s.refresh)
	api.SetPassword.Serve(srv, s.setPassword)
	api.Deactivate.Serve(srv, s.deactivate)
	api.QueryDevices.Serve(srv, s.queryDevices)
	api.PutDevice.Serve(srv, s.putDevice)
	api.DeleteDevices.Serve(srv, s.deleteDevices)
	api.Authorise.Serve(srv, s.authorise)
	api.IssueToken.Serve(srv, s.issueToken)
	api.QueryOpenID.Serve(srv, s.queryOpenID)
	api.QueryAvatars.Serve(srv, s.queryAvatars)
	api.QueryRegistrationToken.Serve(srv, s.queryRegistrationToken)
	api.PutRegistrationToken.Serve(srv, s.putRegistrationToken)
	api.ScheduleDelayed.Serve(srv, s.scheduleDelayed)
	api.QueryDelayed.Serve(srv, s.queryDelayed)
	api.UpdateDelayed.Serve(srv, s.updateDelayed)
	api.TakeDelayed.Serve(srv, s.takeDelayed)
	api.FinishDelayed.Serve(srv, s.finishDelayed)
	api.TakePurge.Serve(srv, s.takePurge)
	api.KeepPurge.Serve(srv, s.keepPurge)
	api.FinishPurge.Serve(srv, s.finishPurge)
	api.SearchUsers.Serve(srv, s.searchUsers)
	api.QueryAccount.Serve(srv, s.queryAccount)
	api.Moderate.Serve(srv, s.moderate)
	api.PutReport.Serve(srv, s.putReport)
	s.registerData(srv)
	s.registerKeys(srv)
	s.registerPushers(srv)
	s.registerThreads(srv)
}

// Run publishes changes and consumes activity until ctx is done, then hands its
// partitions over.
func (s *Server) Run(ctx context.Context) error {
	group, inner := errgroup.WithContext(ctx)
	group.Go(func() error { s.leases.Run(inner); return nil })
	group.Go(func() error { return s.publish(inner) })
	group.Go(func() error { return s.consumeActivity(inner) })
	group.Go(func() error { s.settleHeard(inner); return nil })
	group.Go(func() error { return s.expire(inner) })
	group.Go(func() error { s.indexUsers(inner); return nil })
	if !s.sole {
		group.Go(func() error { s.hint(inner); return nil })
		group.Go(func() error { s.followOutput(inner); return nil })
		for p := range api.EphemeralPartitions {
			group.Go(func() error { s.followTyping(inner, p); return nil })
		}
	}
	err := group.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	return errors.Join(err, s.leases.Leave(last))
}

// write runs f in a transaction and has the changes published that it made.
func (s *Server) write(ctx context.Context, f func(*sqldb.Tx) error) error {
	if err := s.db.Write(ctx, f); err != nil {
		return err
	}
	s.hurry()
	if !s.sole {
		select {
		case s.hints <- struct{}{}:
		default: // they will be told
		}
	}
	return nil
}
