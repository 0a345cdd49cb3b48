package clientapi

import (
	"context"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/pushrules"
	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/directoryapi"
	"github.com/matrix-org/dendrite/roomserver"
	"github.com/matrix-org/dendrite/userapi"
	userapis "github.com/matrix-org/dendrite/userapi/api"
)

// fullWorld is the edge with every role behind it but the sync-api: users are
// real ones.
type fullWorld struct {
	*world
	dir    string
	deps   Deps
	tokens map[string]string
	users  *userapi.Server
	userDB *sqldb.DB
	stop   func()
}

func newFullWorld(t *testing.T, deps Deps) *fullWorld {
	t.Helper()
	w := &fullWorld{world: &world{t: t}, dir: t.TempDir(), deps: deps, tokens: map[string]string{}}
	w.start()
	t.Cleanup(func() { w.stop() })
	return w
}

func (w *fullWorld) openDB(name string, durable bool) *sqldb.DB {
	w.t.Helper()
	o := sqldbtest.Options(w.t, w.dir+"/"+name)
	o.Durable = durable
	db, err := sqldb.Open(context.Background(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	return db
}

// start starts all roles, on what was stored before.
func (w *fullWorld) start() {
	t, ctx, cancel := w.t, context.Background(), func() {}
	t.Helper()
	ctx, cancel = context.WithCancel(ctx)
	log, err := eventlog.OpenEmbedded(ctx, w.dir+"/log.db", eventlog.EmbeddedOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.log, w.caller = log, rpc.NewServer()
	rooms, directory, users := w.openDB("rooms.db", false), w.openDB("directory.db", true), w.openDB("users.db", true)
	w.userDB = users
	keys, metrics := testServer(t).keys, prometheus.NewRegistry()
	roomServer, err := roomserver.New(ctx, roomserver.Deps{ServerName: "test", Keys: keys, Log: log, DB: rooms, Partitions: 2, Logger: quiet(), Metrics: metrics})
	if err != nil {
		t.Fatal(err)
	}
	directoryServer, err := directoryapi.New(ctx, directoryapi.Deps{Config: config.Directory{}, ServerName: "test", Log: log, DB: directory, Caller: w.caller, Partitions: 2, Logger: quiet(), Metrics: metrics})
	if err != nil {
		t.Fatal(err)
	}
	if w.users, err = userapi.New(ctx, userapi.Deps{PushRules: pushrules.Features{ThreadSubscriptions: true}, ServerName: "test", Log: log, DB: users, Caller: w.caller, Logger: quiet()}); err != nil {
		t.Fatal(err)
	}
	roomServer.Register(w.caller)
	directoryServer.Register(w.caller)
	w.users.Register(w.caller)
	w.servePositions()
	deps := w.deps
	deps.ServerName, deps.Keys, deps.Log, deps.Caller, deps.Partitions, deps.Logger = "test", keys, log, w.caller, 2, quiet()
	if w.server, err = New(ctx, deps); err != nil {
		t.Fatal(err)
	}
	if w.edge, err = httpapi.NewRouter(httpapi.Options{Authenticator: tokens{w.caller}, Logger: quiet()}, w.server.Endpoints()); err != nil {
		t.Fatal(err)
	}
	runs := []func(context.Context) error{roomServer.Run, directoryServer.Run, w.users.Run, w.server.Run}
	done := make(chan error, len(runs))
	for _, run := range runs {
		go func() { done <- run(ctx) }()
	}
	w.stop = func() {
		cancel()
		for range runs {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		for _, err := range []error{log.Close(), rooms.Close(), directory.Close(), users.Close()} {
			if err != nil {
				t.Error(err)
			}
		}
	}
}

// restart stops all roles and starts them anew.
func (w *fullWorld) restart() {
	w.t.Helper()
	w.stop()
	w.start()
}

// register makes accounts, the names of which are their users' names in requests.
func (w *fullWorld) register(admin bool, names ...string) {
	w.t.Helper()
	for _, name := range names {
		res, err := userapis.Register.Call(w.t.Context(), w.caller, &userapis.RegisterRequest{UserID: "@" + name + ":test", Password: "secret", Admin: admin,
			Device: userapis.NewDevice{DeviceID: "D-" + name, IP: "192.0.2.7"}})
		if err != nil {
			w.t.Fatal(err)
		}
		w.tokens[name] = res.AccessToken
	}
}

// do, must, expect and create are those of world; users are known by their tokens.
func (w *fullWorld) do(user, method, path, body string) answer {
	w.t.Helper()
	return w.world.do(w.tokens[user], method, path, body)
}

func (w *fullWorld) must(user, method, path, body string) answer {
	w.t.Helper()
	return w.world.must(w.tokens[user], method, path, body)
}

func (w *fullWorld) expect(want, user, method, path, body string) answer {
	w.t.Helper()
	return w.world.expect(want, w.tokens[user], method, path, body)
}

func (w *fullWorld) create(user, body string) string {
	w.t.Helper()
	return w.world.create(w.tokens[user], body)
}
