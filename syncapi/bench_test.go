package syncapi

import (
	"context"
	"fmt"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/filters"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

// BenchmarkFanout is the answer to each of 200 up-to-date users for one event.
func BenchmarkFanout(b *testing.B) {
	m := newModelOn(b, true, 0)
	m.s.judge = m.s.judgeByRules
	var users []string
	for i := range 200 {
		users = append(users, fmt.Sprintf("@u%d:test", i))
	}
	m.create(testRoom, alice, users...)
	m.settle()
	for _, u := range users {
		m.sync(u, "")
	}
	since := m.view.applied.Load()
	m.message(testRoom, alice, "a message of usual length, as people write them")
	m.settle()
	ctx := context.Background()
	var loaded []*user
	for _, id := range users {
		u, err := m.view.user(ctx, id)
		if err != nil {
			b.Fatal(err)
		}
		defer m.view.release(u)
		loaded = append(loaded, u)
	}
	req := &syncRequest{filter: newFilter(filters.None()), since: since}
	b.ReportAllocs()
	var bytes int
	for i := 0; b.Loop(); i++ {
		a := newAnswer(m.s, req, loaded[i%len(loaded)], "D")
		body, err := a.build(ctx)
		if err != nil || !a.something {
			b.Fatal(err, string(body))
		}
		bytes = len(body)
	}
	b.ReportMetric(float64(bytes), "bytes/answer")
}

// BenchmarkInitial is an initial sync of 50 rooms with 20 events each.
func BenchmarkInitial(b *testing.B) {
	m := newModelOn(b, true, 0)
	for i := range 50 {
		id := fmt.Sprintf("!r%d:test", i)
		m.create(id, alice, bob)
		m.send(sent{room: id, sender: alice, typ: "m.room.name", key: stateKey(""), content: `{"name":"a name"}`})
		for range 20 {
			m.message(id, bob, "a message of usual length, as people write them")
		}
	}
	r := request(alice, "D", `/sync?filter={"room":{"timeline":{"limit":20}}}`, nil)
	if _, err := m.s.sync(r); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	var bytes int
	for b.Loop() {
		v, err := m.s.sync(r)
		if err != nil {
			b.Fatal(err)
		}
		bytes = len(v.(jsontext.Value))
	}
	b.ReportMetric(float64(bytes), "bytes/answer")
}

// BenchmarkApply is what a plain message costs from the log to the tail.
func BenchmarkApply(b *testing.B) {
	m := newModel(b)
	m.create(testRoom, alice, bob)
	m.message(testRoom, alice, "a message of usual length, as people write them")
	m.sync(alice, "")
	m.stop()
	benchmarkApply(b, m)
}

// benchmarkApply applies the last record of the room again and again.
func benchmarkApply(b *testing.B, m *model) {
	p := eventlog.PartitionFor(testRoom, len(m.seqs))
	records, err := m.log.Read(context.Background(), roomapi.TopicOutput, p, 0, 1<<20)
	if err != nil {
		b.Fatal(err)
	}
	rec, lines, err := roomapi.DecodeOutput(records[len(records)-1].Value)
	if err != nil {
		b.Fatal(err)
	}
	var src *source
	for _, s := range m.s.feed.sources {
		if s.topic == roomapi.TopicOutput && s.partition == p {
			src = s
		}
	}
	batches := []batch{{from: src}}
	const each = 16
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		batches[0].records = batches[0].records[:0]
		for range each {
			rec.Position.Seq++
			value, err := rec.Encode(lines...)
			if err != nil {
				b.Fatal(err)
			}
			batches[0].records = append(batches[0].records, eventlog.Record{Offset: rec.Position.Seq, Value: value})
		}
		b.StartTimer()
		m.s.feed.unflushed = 0
		if err := m.s.feed.apply(context.Background(), batches); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/each, "ns/event")
}

// BenchmarkSliding is sliding sync of an account with 1,000 rooms: the list opened
// as a whole by an instance that has nothing in memory, its first twenty rooms, a
// message, and an answer that tells nothing.
func BenchmarkSliding(b *testing.B) {
	m := newModel(b)
	m.s.judge = m.s.judgeByRules
	const rooms = 1000
	for i := range rooms {
		id := fmt.Sprintf("!r%d:test", i)
		m.create(id, alice, bob)
		m.message(id, bob, "a message of usual length, as people write them")
	}
	m.settle()
	list := func(last int) string {
		return fmt.Sprintf(`{"lists":{"all":{"ranges":[[0,%d]],"timeline_limit":1,"required_state":[["m.room.create",""],["m.room.member","$LAZY"],["m.room.member","$ME"]]}},
			"extensions":{"account_data":{"enabled":true},"receipts":{"enabled":true},"typing":{"enabled":true}}}`, last)
	}
	ask := func(b *testing.B, pos string, last, want int) string {
		b.Helper()
		a, err := m.slideOn(context.Background(), m.s, alice, pos, "", list(last))
		if err != nil || len(a.Rooms) != want {
			b.Fatalf("%v, %d rooms, not %d", err, len(a.Rooms), want)
		}
		return a.Pos
	}
	b.Run("open cold", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			m.restart()
			m.settle()
			b.StartTimer()
			ask(b, "", rooms, rooms)
		}
	})
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			ask(b, "", rooms, rooms)
		}
	})
	b.Run("open 20", func(b *testing.B) {
		for b.Loop() {
			ask(b, "", 19, 20)
		}
	})
	pos := ask(b, "", rooms, rooms)
	b.Run("nothing", func(b *testing.B) {
		for b.Loop() {
			ask(b, pos, rooms, 0)
		}
	})
	m.message("!r7:test", bob, "a message of usual length, as people write them")
	m.settle()
	b.Run("message", func(b *testing.B) {
		for b.Loop() {
			ask(b, pos, rooms, 1)
		}
	})
}
