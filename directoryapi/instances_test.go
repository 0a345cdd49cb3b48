package directoryapi

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/eventlog/eventlogtest"
	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/common/testwait"
	"github.com/matrix-org/dendrite/directoryapi/api"
)

// instance runs one more server on the world's log and database until stop.
func (w *world) instance() (caller *rpc.Server, s *Server, stop func()) {
	w.t.Helper()
	o := sqldbtest.Options(w.t, filepath.Join(w.dir, "directory.db"))
	o.Durable = true
	db, err := sqldb.Open(w.t.Context(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	logger := logrus.New()
	logger.SetOutput(w.t.Output())
	s, err = New(w.t.Context(), Deps{Config: config.Directory{WaitTimeout: 20 * time.Second}, ServerName: "test", Log: eventlogtest.Shared{Log: w.log}, DB: db,
		Partitions: 2, Logger: logrus.NewEntry(logger)})
	if err != nil {
		w.t.Fatal(err)
	}
	caller = rpc.NewServer()
	s.Register(caller)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return caller, s, func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
		if err := db.Close(); err != nil {
			w.t.Error(err)
		}
	}
}

func (s *Server) owned() (n int) {
	for p := range 2 {
		if s.consumer.Valid(p) {
			n++
		}
	}
	return n
}

// TestInstances: whichever instance keeps a partition's view, each answers for
// all of it as of the positions asked for, also where what came last meant
// nothing to the view, and goes on where another one stopped.
func TestInstances(t *testing.T) { sqldbtest.Each(t, testInstances) }

func testInstances(t *testing.T) {
	w := newWorld(t)
	w.stop()
	w.stop = func() {}
	callA, a, stopA := w.instance()
	callB, b, stopB := w.instance()
	testwait.Until(t, "two share", func() bool { return a.owned() == 1 && b.owned() == 1 })
	rooms := []string{"!a:test", "!b:test"}
	sees := func(want string, callers ...*rpc.Server) {
		t.Helper()
		for _, caller := range callers {
			w.caller = caller
			if got := w.rooms("@alice:test"); !slices.Equal(got, []string{rooms[0] + " " + want, rooms[1] + " " + want}) {
				t.Fatalf("rooms are %v, want all %s", got, want)
			}
		}
	}
	change := func(membership string) {
		for p, room := range rooms {
			w.state(p, room, "m.room.member", "@alice:test", `{"membership":"`+membership+`"}`, 1)
		}
	}
	for range 5 {
		for _, membership := range []string{"join", "leave"} {
			change(membership)
			sees(membership, callA, callB)
			for p, room := range rooms {
				w.message(p, room, "m.room.message", `{"body":"nothing"}`, "")
			}
			sees(membership, callA, callB)
		}
	}
	stopA()
	change("join")
	sees("join", callB)
	callC, c, stopC := w.instance()
	testwait.Until(t, "the new one has its share", func() bool { return b.owned() == 1 && c.owned() == 1 })
	change("leave")
	sees("leave", callB, callC)
	if _, err := api.PutAlias.Call(t.Context(), callB, &api.PutAliasRequest{Alias: "#x:test", RoomID: rooms[0], Creator: "@alice:test"}); err != nil {
		t.Fatal(err)
	}
	if res, err := api.QueryAlias.Call(t.Context(), callC, &api.AliasRequest{Alias: "#x:test"}); err != nil || res.RoomID != rooms[0] {
		t.Fatalf("%+v, %v", res, err)
	}
	stopB()
	stopC()
}
