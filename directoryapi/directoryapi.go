package directoryapi

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/consumer"
	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/directoryapi/api"
	"github.com/matrix-org/dendrite/directoryapi/storage"
	roomserver "github.com/matrix-org/dendrite/roomserver/api"
)

// Deps is what a Server is made from. All of it is needed but Partitions and
// Metrics.
type Deps struct {
	Config     config.Directory
	ServerName string
	Log        eventlog.Log
	// DB is the component's own, opened as durable: aliases are in it.
	DB     *sqldb.DB
	Caller rpc.Caller
	// Partitions of room.output; zero means roomserver's DefaultPartitions.
	Partitions int
	Logger     *logrus.Entry
	Metrics    prometheus.Registerer
}

// Server is the directory-api role.
type Server struct {
	config     config.Directory
	serverName string
	partitions int // of room.output
	db         *storage.Database
	caller     rpc.Caller
	consumer   *consumer.Consumer
	progress   *consumer.Progress
	// applied is the last Seq of each partition that the loop has applied, some
	// of them not stored yet; committed is when it stored last. The loop's only.
	applied   map[int]int64
	committed time.Time
	// sole says that no other instance can be there; if not, what was skipped
	// is told to the others through the database.
	sole    bool
	skipped chan map[int]int64
	// View has Ready and CaughtUp.
	*consumer.View
	logger *logrus.Entry
	now    func() time.Time
}

// New makes a Server: it brings the schema up to date and ensures room.output.
// It starts nothing.
func New(ctx context.Context, deps Deps) (*Server, error) {
	deps.Config.Defaults()
	db, err := storage.New(ctx, deps.DB)
	if err != nil {
		return nil, err
	}
	topic, err := deps.Log.EnsureTopic(ctx, roomserver.OutputTopic(deps.Partitions))
	if err != nil {
		return nil, fmt.Errorf("directoryapi: %s: %w", roomserver.TopicOutput, err)
	}
	progress, err := consumer.NewProgress(ctx, topic.Partitions, db.Positions)
	if err != nil {
		return nil, fmt.Errorf("directoryapi: positions: %w", err)
	}
	logger := deps.Logger.WithField("component", "directoryapi")
	s := &Server{
		config:     deps.Config,
		serverName: deps.ServerName,
		partitions: topic.Partitions,
		db:         db,
		caller:     deps.Caller,
		progress:   progress,
		applied:    map[int]int64{},
		skipped:    make(chan map[int]int64, 1),
		View: &consumer.View{Name: "directoryapi", Log: deps.Log, Topic: roomserver.TopicOutput, Progress: progress, SeqOf: roomserver.OutputSeq, Await: progress.Await, Logger: logger,
			Heads: func(ctx context.Context, settled bool) ([]int64, error) {
				return roomserver.Heads(ctx, deps.Caller, settled)
			}},
		logger: logger,
		now:    time.Now,
	}
	s.sole = eventlog.IsExclusive(deps.Log)
	s.consumer, err = consumer.New(ctx, consumer.Options{
		Name: "directory", Topic: topic, Derived: true, Gather: gather, GatherMost: gatherMost,
		Log: deps.Log, DB: deps.DB, Logger: logger, Metrics: deps.Metrics, Rebuild: s.rebuild,
	})
	if err != nil {
		return nil, fmt.Errorf("directoryapi: %w", err)
	}
	return s, nil
}

// gather and gatherMost are how long records wait for more, where several come and
// nobody here waits for them.
const (
	gather     = 20 * time.Millisecond
	gatherMost = 80 * time.Millisecond
)

// Register serves the component's methods.
func (s *Server) Register(srv *rpc.Server) {
	api.QueryAlias.Serve(srv, s.queryAlias)
	api.QueryAliases.Serve(srv, s.queryAliases)
	api.PutAlias.Serve(srv, s.putAlias)
	api.DeleteAlias.Serve(srv, s.deleteAlias)
	api.MoveAliases.Serve(srv, s.moveAliases)
	api.QueryPublished.Serve(srv, s.queryPublished)
	api.SetPublished.Serve(srv, s.setPublished)
	api.QueryPublicRooms.Serve(srv, s.queryPublicRooms)
	api.QueryRooms.Serve(srv, s.queryRooms)
	api.QueryUserRooms.Serve(srv, s.queryUserRooms)
	api.QueryVisibleUsers.Serve(srv, s.queryVisibleUsers)
	api.QueryAnnotation.Serve(srv, s.queryAnnotation)
	api.BeginUpgrade.Serve(srv, s.beginUpgrade)
	api.FinishUpgrade.Serve(srv, s.finishUpgrade)
	api.QueryUpgrades.Serve(srv, s.queryUpgrades)
	api.QueryGuestRooms.Serve(srv, s.queryGuestRooms)
	api.FinishGuestRoom.Serve(srv, s.finishGuestRoom)
	api.QueryAvatars.Serve(srv, s.queryAvatars)
	api.QueryJoined.Serve(srv, s.queryJoined)
}

// Run keeps the view up to date until ctx is done.
func (s *Server) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.consumer.Run(ctx, s.apply) })
	group.Go(func() error { s.tellSkipped(ctx); return nil })
	return group.Wait()
}
