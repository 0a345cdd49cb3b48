package syncapi

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

// both runs a test against the model's own rooms and against the room server,
// with one instance and with several.
func both(t *testing.T, f func(*testing.T, *model)) {
	sqldbtest.Each(t, func(t *testing.T) {
		t.Run("model", func(t *testing.T) { f(t, newModelOn(t, false, 0)) })
		t.Run("room server", func(t *testing.T) { f(t, newModelOn(t, true, 0)) })
		t.Run("instances", func(t *testing.T) { f(t, newModelOn(t, true, 3)) })
	})
}

// realRooms is the room server on the model's log.
type realRooms struct {
	m      *model
	stop   func()
	n      int
	answer int64 // offset of room.answers to read next
}

func newRealRooms(m *model) *realRooms {
	ctx, cancel := context.WithCancel(context.Background())
	db, err := sqldb.Open(ctx, sqldbtest.Options(m.t, filepath.Join(m.dir, "rooms.db")))
	if err != nil {
		m.t.Fatal(err)
	}
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	key := gomatrixserverlib.SigningKey{ID: "ed25519:a", Private: ed25519.NewKeyFromSeed(make([]byte, 32))}
	server, err := roomserver.New(ctx, roomserver.Deps{ServerName: testServer, Keys: []gomatrixserverlib.SigningKey{key}, Log: m.log, DB: db,
		Logger: logrus.NewEntry(logger), Metrics: prometheus.NewRegistry()})
	if err != nil {
		m.t.Fatal(err)
	}
	server.Register(m.calls)
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	return &realRooms{m: m, stop: func() {
		cancel()
		if err := errors.Join(<-done, db.Close()); err != nil {
			m.t.Error(err)
		}
	}}
}

// send submits an event and waits for its verdict.
func (r *realRooms) send(e sent) string {
	t := r.m.t
	t.Helper()
	rec := roomapi.InputRecord{Origin: testServer, RoomID: e.room, Kind: roomapi.KindNew}
	if e.typ == "m.room.create" {
		rec.RoomVersion = string(testVersion)
	}
	rec.Events = []roomapi.InputEvent{{Device: e.device, TxnID: e.txn, DelayID: e.delayID,
		Proto: &roomapi.Proto{Type: e.typ, StateKey: e.key, Sender: e.sender, Content: jsontext.Value(e.content), Redacts: e.redacts}}}
	return r.submit(rec).EventIDs[0]
}

// submit appends a record and waits until it is accepted.
func (r *realRooms) submit(rec roomapi.InputRecord, lines ...[]byte) *roomapi.Verdict {
	t := r.m.t
	t.Helper()
	r.n++
	rec.V, rec.RequestID, rec.TS = 1, fmt.Sprint("request", r.n), 1_700_000_000_000+int64(r.n)
	value, err := rec.Encode(lines...)
	if err != nil {
		t.Fatal(err)
	}
	r.m.append(roomapi.TopicInput, eventlog.PartitionFor(rec.RoomID, roomapi.DefaultPartitions), rec.RoomID, value)
	for {
		answers, err := r.m.log.Read(context.Background(), roomapi.TopicAnswers, 0, r.answer, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range answers {
			r.answer = a.Offset + 1
			v, err := roomapi.DecodeVerdict(a.Value)
			if err != nil {
				t.Fatal(err)
			}
			if v.RequestID != rec.RequestID {
				continue
			}
			if v.Status != roomapi.StatusAccepted {
				t.Fatalf("%+v: %+v", rec, v)
			}
			return v
		}
	}
}

func (r *realRooms) heads() []int64 {
	res, err := roomapi.QueryHeads.Call(context.Background(), r.m.calls, &roomapi.HeadsRequest{})
	if err != nil {
		r.m.t.Fatal(err)
	}
	return res.Seqs
}
