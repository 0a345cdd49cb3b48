package roomserver

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/eventlog/eventlogtest"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/common/testwait"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// newShared is a rig whose servers are instances.
func newShared(t testing.TB, l limits) *rig {
	r := &rig{TB: t, dir: t.TempDir(), name: testServer, limits: l}
	var err error
	if r.log, err = eventlog.OpenEmbedded(t.Context(), filepath.Join(r.dir, "log.db"), eventlog.EmbeddedOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.log.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// instance runs one more server on the rig's log and store until stop is called.
func (r *rig) instance() (s *Server, stop func()) {
	r.Helper()
	db, err := sqldb.Open(r.Context(), sqldbtest.Options(r, filepath.Join(r.dir, "store.db")))
	if err != nil {
		r.Fatal(err)
	}
	logger := logrus.New()
	logger.SetOutput(r.Output())
	s, err = New(r.Context(), Deps{ServerName: r.name, Keys: []gomatrixserverlib.SigningKey{testKey}, Log: eventlogtest.Shared{Log: r.log}, DB: db,
		Partitions: testPartitions, Logger: logrus.NewEntry(logger), Metrics: prometheus.NewRegistry(),
		limits: r.limits, computing: r.computing})
	if err != nil {
		r.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return s, func() {
		cancel()
		if err := <-done; err != nil {
			r.Error(err)
		}
		if err := db.Close(); err != nil {
			r.Error(err)
		}
	}
}

func (s *Server) owned() (n int) {
	for p := range testPartitions {
		if s.owns(p) {
			n++
		}
	}
	return n
}

// TestInstances: instances share the rooms, any of them answers for all, also
// what another one has just done, and who goes is replaced by one that goes on
// where it stopped, whatever it remembers from before.
func TestInstances(t *testing.T) { sqldbtest.Each(t, testInstances) }

func testInstances(t *testing.T) {
	r := newShared(t, limits{})
	a, stopA := r.instance()
	b, stopB := r.instance()
	testwait.Until(t, "two share", func() bool { return a.owned() == testPartitions/2 && b.owned() == testPartitions/2 })
	var rooms []string
	for range 8 {
		rooms = append(rooms, r.room("12"))
	}
	want := map[string][]string{} // the events of each room, in order
	use := func(instances ...*Server) {
		t.Helper()
		for _, room := range rooms {
			topic := fmt.Sprintf(`{"topic":"%d"}`, r.n)
			v := r.post(room, proto(alice, "m.room.topic", key(""), topic), message(alice, "hello"))
			if v.Status != api.StatusAccepted {
				t.Fatalf("%+v", v)
			}
			want[room] = append(want[room], v.EventIDs...)
			for i, s := range instances {
				r.sees(s, i, room, want[room], topic)
			}
		}
	}
	use(a, b)
	stopA()
	testwait.Until(t, "the other took over", func() bool { return b.owned() == testPartitions })
	use(b)
	c, stopC := r.instance()
	testwait.Until(t, "the new one has its share", func() bool { return b.owned() == testPartitions/2 && c.owned() == testPartitions/2 })
	use(b, c)
	stopC()
	testwait.Until(t, "what was given away is taken back", func() bool { return b.owned() == testPartitions })
	use(b)
	stopB()
	r.contiguous()
}

// sees checks what an instance answers about a room.
func (r *rig) sees(s *Server, i int, room string, want []string, topic string) {
	r.Helper()
	page, err := s.queryHistory(r.Context(), &api.HistoryRequest{RoomID: room, Backwards: true, Limit: len(want)})
	if err != nil {
		r.Fatal(err)
	}
	var got []string
	for _, e := range slices.Backward(page.Events) {
		got = append(got, e.EventID())
	}
	if !slices.Equal(got, want) {
		r.Fatalf("instance %d shows %v of %s, want %v", i, got, room, want)
	}
	state, err := s.queryState(r.Context(), &api.StateRequest{RoomID: room, Keys: []gomatrixserverlib.StateKey{{Type: "m.room.topic"}}})
	if err != nil || len(state.Events) != 1 || string(state.Events[0].Content()) != topic {
		r.Fatalf("instance %d: the topic of %s: %v, %v, want %s", i, room, state, err, topic)
	}
	for _, of := range []string{"", room} {
		heads, err := s.queryHeads(r.Context(), &api.HeadsRequest{RoomID: of})
		if err != nil || heads.Seqs[state.At.Partition] < page.Events[0].Position.Seq {
			r.Fatalf("instance %d: heads of %q %v, %v, though %v is there", i, of, heads, err, page.Events[0].Position)
		}
	}
}

// contiguous checks that room.output holds every Seq once, in order.
func (r *rig) contiguous() {
	r.Helper()
	for p := range testPartitions {
		_, end, err := r.log.Bounds(r.Context(), api.TopicOutput, p)
		if err != nil {
			r.Fatal(err)
		}
		var seq int64
		for at := int64(0); at < end; {
			records, err := r.log.Read(r.Context(), api.TopicOutput, p, at, 1<<20)
			if err != nil {
				r.Fatal(err)
			}
			for _, record := range records {
				out, _, err := api.DecodeOutput(record.Value)
				if err != nil || out.Position.Seq != seq+1 {
					r.Fatalf("partition %d: %+v, %v after %d", p, out, err, seq)
				}
				seq, at = seq+1, record.Offset+1
			}
		}
	}
}
