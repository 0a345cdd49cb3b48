package roles

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/clientapi"
	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/pushrules"
	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/directoryapi"
	directoryapiapi "github.com/matrix-org/dendrite/directoryapi/api"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/mediaapi"
	mediaapiapi "github.com/matrix-org/dendrite/mediaapi/api"
	"github.com/matrix-org/dendrite/pushapi"
	"github.com/matrix-org/dendrite/roomserver"
	roomserverapi "github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/searchapi"
	"github.com/matrix-org/dendrite/syncapi"
	syncapiapi "github.com/matrix-org/dendrite/syncapi/api"
	"github.com/matrix-org/dendrite/userapi"
	userapiapi "github.com/matrix-org/dendrite/userapi/api"
)

// Role is a part of Dendrite. It may also serve methods (Register) and public
// endpoints (Endpoints).
type Role interface {
	// Run works until ctx is done, and then stops cleanly.
	Run(ctx context.Context) error
}

type registrar interface{ Register(*rpc.Server) }

type endpoints interface{ Endpoints() []httpapi.Endpoint }

// readier has something to catch up with before it can answer.
type readier interface{ Ready(context.Context) error }

// follower reads what others write, and tells whether it keeps up: it waits until
// it has read all that was there when it was asked, or ctx is done.
type follower interface{ CaughtUp(context.Context) error }

// stopper answers early who waits for something to happen.
type stopper interface{ Stop() }

// world is what roles are made of.
type world struct {
	config *config.Dendrite
	keys   []gomatrixserverlib.SigningKey
	log    eventlog.Log
	caller rpc.Caller
	// address is where other processes reach this one; "" if there are none.
	address string
	logger  *logrus.Entry
	metrics prometheus.Registerer
}

// spec is a row of the table of roles.
type spec struct {
	name string
	// service is what the role serves to others, by common/rpc; "" for nothing.
	service string
	// public says that the role has endpoints for clients or other servers.
	public bool
	// store is the name of the role's database; "" for none. durable says that
	// no log can restore it.
	store   string
	durable bool
	// gather is how long what it reads and writes of a log that others share may
	// wait for more to come with it, while much does; kafka.Options.Gather.
	gather time.Duration
	make   func(context.Context, *world, *sqldb.DB) (Role, error)
}

// table is every role there is: what it reads and writes stands in its doc.go.
func table() []spec {
	return []spec{
		roomServer,
		{"user-api", userapiapi.Service, false, "userapi", true, 5 * time.Millisecond, func(ctx context.Context, w *world, db *sqldb.DB) (Role, error) {
			return userapi.New(ctx, userapi.Deps{Config: w.config.UserAPI, PushRules: pushrules.Features{ThreadSubscriptions: !w.config.ClientAPI.ThreadSubscriptions.Disabled}, NoPresence: !w.config.Presence.Enabled, WrongPasswords: w.config.RateLimiting.WrongPasswords(), ServerName: w.config.Global.ServerName,
				Log: w.log, DB: db, Caller: w.caller, Logger: w.logger, Metrics: w.metrics})
		}},
		{"directory-api", directoryapiapi.Service, false, "directoryapi", true, 5 * time.Millisecond, func(ctx context.Context, w *world, db *sqldb.DB) (Role, error) {
			return directoryapi.New(ctx, directoryapi.Deps{Config: w.config.Directory, ServerName: w.config.Global.ServerName,
				Log: w.log, DB: db, Caller: w.caller, Partitions: w.config.EventLog.Partitions, Logger: w.logger, Metrics: w.metrics})
		}},
		{"sync-api", syncapiapi.Service, true, "syncapi", false, 15 * time.Millisecond, func(ctx context.Context, w *world, db *sqldb.DB) (Role, error) {
			return syncapi.New(ctx, syncapi.Deps{Config: w.config.SyncAPI, Retention: w.config.Retention, NoThreadSubscriptions: w.config.ClientAPI.ThreadSubscriptions.Disabled, ServerName: w.config.Global.ServerName,
				Log: w.log, DB: db, Caller: w.caller, Partitions: w.config.EventLog.Partitions, Logger: w.logger, Metrics: w.metrics})
		}},
		{"client-api", "", true, "", false, 4 * time.Millisecond, func(ctx context.Context, w *world, _ *sqldb.DB) (Role, error) {
			return clientapi.New(ctx, clientapi.Deps{Config: w.config.ClientAPI, Global: w.config.Global, Registration: w.config.Registration, Retention: w.config.Retention, ServerName: w.config.Global.ServerName, Keys: w.keys,
				Log: w.log, Caller: w.caller, Partitions: w.config.EventLog.Partitions, Logger: w.logger, Metrics: w.metrics})
		}},
		{"federation-api", "", true, "", false, 0, absent},
		{"federation-sender", "", false, "", false, 0, absent},
		{"media-api", mediaapiapi.Service, true, "mediaapi", true, 0, func(ctx context.Context, w *world, db *sqldb.DB) (Role, error) {
			return mediaapi.New(ctx, mediaapi.Deps{Config: w.config.MediaAPI, ServerName: w.config.Global.ServerName, DataDir: w.config.Global.DataDir,
				Denied: w.config.Federation.Denied(), DB: db, Caller: w.caller, Logger: w.logger, Metrics: w.metrics})
		}},
		{"push-server", "", true, "pushapi", false, 50 * time.Millisecond, func(ctx context.Context, w *world, db *sqldb.DB) (Role, error) {
			return pushapi.New(ctx, pushapi.Deps{Config: w.config.Push, Denied: w.config.Federation.Denied(),
				Log: w.log, DB: db, Caller: w.caller, Partitions: w.config.EventLog.Partitions, Logger: w.logger, Metrics: w.metrics})
		}},
		{"search-server", "", true, "searchapi", false, 50 * time.Millisecond, func(ctx context.Context, w *world, db *sqldb.DB) (Role, error) {
			if !w.config.Search.Enabled {
				return absent(ctx, w, db)
			}
			return searchapi.New(ctx, searchapi.Deps{Config: w.config.Search,
				Log: w.log, DB: db, Caller: w.caller, Partitions: w.config.EventLog.Partitions, Logger: w.logger, Metrics: w.metrics})
		}},
	}
}

// absent makes a role whose part is not there, yet or by configuration: it does nothing, and its
// endpoints are answered M_UNRECOGNIZED.
func absent(context.Context, *world, *sqldb.DB) (Role, error) { return nothing{}, nil }

type nothing struct{}

// Run implements Role.
func (nothing) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

var roomServer = spec{"room-server", roomserverapi.Service, false, "roomserver", false, 0, func(ctx context.Context, w *world, db *sqldb.DB) (Role, error) {
	return roomserver.New(ctx, roomserver.Deps{Config: w.config.RoomServer, ServerName: w.config.Global.ServerName, Keys: w.keys,
		Log: w.log, DB: db, Address: w.address, Partitions: w.config.EventLog.Partitions, Logger: w.logger, Metrics: w.metrics})
}}
