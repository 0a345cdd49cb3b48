package userapi

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/userapi/api"
)

const alice = "@alice:test"

// world is a database and a log, on which instances run.
type world struct {
	t    *testing.T
	path string // of the database
	log  eventlog.Log
	deps Deps // what instances are made from

	mu    sync.Mutex
	clock time.Time
}

// engines runs a test on both engines.
func engines(t *testing.T, test func(t *testing.T, w *world)) {
	sqldbtest.Each(t, func(t *testing.T) {
		w := &world{t: t, path: filepath.Join(t.TempDir(), "users.db"), clock: time.Now()}
		w.newLog()
		test(t, w)
	})
}

// newLog replaces the log by an empty one.
func (w *world) newLog() {
	w.t.Helper()
	log, err := eventlog.OpenEmbedded(w.t.Context(), filepath.Join(w.t.TempDir(), "log.db"), eventlog.EmbeddedOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.log = log
	w.t.Cleanup(func() { w.check(log.Close()) })
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Error(err)
	}
}

// server makes an instance, whose clock is the world's.
func (w *world) server() *Server {
	w.t.Helper()
	o := sqldbtest.Options(w.t, w.path)
	o.Durable = true
	db := sqldbtest.OpenWith(w.t, o)
	logger := logrus.New()
	logger.SetOutput(w.t.Output())
	deps := w.deps
	deps.ServerName, deps.DB, deps.Logger = "test", db, logrus.NewEntry(logger)
	if deps.Log == nil {
		deps.Log = w.log
	}
	s, err := New(w.t.Context(), deps)
	if err != nil {
		w.t.Fatal(err)
	}
	s.now = w.now
	return s
}

// run runs an instance until the function that is returned is called.
func (w *world) run(s *Server) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		w.check(<-done)
	})
	w.t.Cleanup(stop)
	return stop
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.clock
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.clock = w.clock.Add(d)
}

// records reads a partition of a topic as far as it goes.
func records[T any](w *world, topic string, partition int) (out []T) {
	w.t.Helper()
	start, end, err := w.log.Bounds(w.t.Context(), topic, partition)
	if err != nil {
		w.t.Fatal(err)
	}
	for start < end {
		list, err := w.log.Read(w.t.Context(), topic, partition, start, 1<<20)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, r := range list {
			var v T
			if err := json.Unmarshal(r.Value, &v); err != nil {
				w.t.Fatal(err)
			}
			out = append(out, v)
			start = r.Offset + 1
		}
	}
	return out
}

// signUp makes an account whose password is "p", with a session of device D.
func (w *world) signUp(s *Server, userID string) *api.Session {
	w.t.Helper()
	session, err := s.register(w.t.Context(), &api.RegisterRequest{UserID: userID, Password: "p", Device: api.NewDevice{DeviceID: "D", IP: "10.0.0.1"}})
	if err != nil {
		w.t.Fatal(err)
	}
	return session
}

func (w *world) putData(s *Server, userID, typ, content string) api.WriteResponse {
	w.t.Helper()
	res, err := s.putAccountData(w.t.Context(), &api.PutAccountDataRequest{UserID: userID, Type: typ, Content: jsontext.Value(content)})
	if err != nil {
		w.t.Fatal(err)
	}
	return *res
}

// code is the errcode of an error, or "" for none.
func code(err error) string {
	if err == nil {
		return ""
	}
	if known := matrixerror.From(err); known != nil {
		return known.Code
	}
	return err.Error()
}
