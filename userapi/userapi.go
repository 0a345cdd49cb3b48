package userapi

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
	"github.com/matrix-org/dendrite/userapi/storage"
)

// Deps is what a Server is made from. All of it is needed but Caller,
// Partitions and Metrics.
type Deps struct {
	Config config.UserAPI
	// NoPresence keeps none: everybody is offline.
	NoPresence bool
	ServerName string
	Log        eventlog.Log
	// DB is the component's own, opened as durable.
	DB     *sqldb.DB
	Caller rpc.Caller
	// Partitions of user.output; zero means api.UserOutputPartitions.
	Partitions int
	Logger     *logrus.Entry
	Metrics    prometheus.Registerer
}

// Server is the user-api role.
type Server struct {
	noPresence bool
	config     config.UserAPI
	serverName string
	log        eventlog.Log
	db         *storage.Database
	output     eventlog.TopicInfo
	activity   eventlog.TopicInfo
	tokens     *tokenCache
	hashing    chan struct{}
	typing     *typing
	presence   *presences
	wake       chan struct{}
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
		serverName: deps.ServerName,
		log:        deps.Log,
		tokens:     newTokenCache(maxCachedTokens),
		hashing:    make(chan struct{}, hashesAtOnce),
		typing:     newTyping(),
		presence:   newPresences(),
		wake:       make(chan struct{}, 1),
		logger:     deps.Logger.WithField("component", "userapi"),
		now:        time.Now,
	}
	var err error
	if s.db, err = storage.New(ctx, deps.DB, deps.Partitions); err != nil {
		return nil, err
	}
	for topic, spec := range map[*eventlog.TopicInfo]eventlog.TopicSpec{
		&s.output:               {Name: api.TopicUserOutput, Partitions: deps.Partitions, Durability: eventlog.Derived},
		&s.activity:             {Name: api.TopicUserActivity, Partitions: api.ActivityPartitions, Durability: eventlog.Ephemeral},
		new(eventlog.TopicInfo): {Name: api.TopicEphemeral, Partitions: api.EphemeralPartitions, Durability: eventlog.Ephemeral},
	} {
		if *topic, err = deps.Log.EnsureTopic(ctx, spec); err != nil {
			return nil, fmt.Errorf("userapi: %s: %w", spec.Name, err)
		}
	}
	return s, nil
}

// Register serves the component's methods.
func (s *Server) Register(srv *rpc.Server) {
	api.VerifyToken.Serve(srv, s.verifyToken)
	api.Register.Serve(srv, s.register)
	api.Available.Serve(srv, s.available)
	api.Login.Serve(srv, s.login)
	api.Refresh.Serve(srv, s.refresh)
	api.CheckPassword.Serve(srv, s.checkPassword)
	api.SetPassword.Serve(srv, s.setPassword)
	api.Deactivate.Serve(srv, s.deactivate)
	api.QueryDevices.Serve(srv, s.queryDevices)
	api.PutDevice.Serve(srv, s.putDevice)
	api.DeleteDevices.Serve(srv, s.deleteDevices)
	api.Authorise.Serve(srv, s.authorise)
	api.IssueToken.Serve(srv, s.issueToken)
	api.QueryOpenID.Serve(srv, s.queryOpenID)
	api.QueryRegistrationToken.Serve(srv, s.queryRegistrationToken)
	api.PutRegistrationToken.Serve(srv, s.putRegistrationToken)
	s.registerData(srv)
}

// Run publishes changes and consumes activity until ctx is done.
func (s *Server) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.publish(ctx) })
	group.Go(func() error { return s.consumeActivity(ctx) })
	group.Go(func() error { return s.expire(ctx) })
	return group.Wait()
}

// write runs f in a transaction and has the changes published that it made.
func (s *Server) write(ctx context.Context, f func(*sqldb.Tx) error) error {
	if err := s.db.Write(ctx, f); err != nil {
		return err
	}
	select {
	case s.wake <- struct{}{}:
	default: // it is awake already
	}
	return nil
}
