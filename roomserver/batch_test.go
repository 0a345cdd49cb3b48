package roomserver

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// batch sends messages, spread over rooms, as one append, and waits for their
// verdicts.
func (r *rig) batch(rooms []string, messages int) {
	r.Helper()
	all := make([]eventlog.Message, messages)
	waiting := map[string]bool{}
	for i := range all {
		r.n++
		room := rooms[i%len(rooms)]
		record := &api.InputRecord{V: 1, RequestID: fmt.Sprint("batch", r.n), Origin: r.name, TS: 1000 * int64(r.n), RoomID: room,
			Kind: api.KindNew, Events: []api.InputEvent{message(alice, strings.Repeat("x", 200))}}
		value, err := record.Encode()
		if err != nil {
			r.Fatal(err)
		}
		waiting[record.RequestID] = true
		all[i] = eventlog.Message{Topic: api.TopicInput, Partition: eventlog.PartitionFor(room, testPartitions), Value: value}
	}
	if _, err := r.log.Append(context.Background(), all...); err != nil {
		r.Fatal(err)
	}
	for len(waiting) > 0 {
		records, err := r.log.Read(context.Background(), api.TopicAnswers, 0, r.answers, 1<<20)
		if err != nil {
			r.Fatal(err)
		}
		for _, rec := range records {
			r.answers = rec.Offset + 1
			v, err := api.DecodeVerdict(rec.Value)
			if err != nil || waiting[v.RequestID] && v.Status != api.StatusAccepted {
				r.Fatalf("%+v %v", v, err)
			}
			delete(waiting, v.RequestID)
		}
	}
}

// forgetRooms makes the rooms cold.
func (r *rig) forgetRooms() {
	for p := range testPartitions {
		r.s.rooms.removePartition(p)
	}
}

// TestBatchStatements: on PostgreSQL, where each statement is a round trip, a
// batch takes as few for many messages in many rooms as for one.
// (SQLite runs a statement for each row: there it is a call of a function.)
func TestBatchStatements(t *testing.T) { t.Run(string(sqldbtest.PostgreSQL), testBatchStatements) }

func testBatchStatements(t *testing.T) {
	r := newRig(t)
	var rooms []string
	for range 16 {
		rooms = append(rooms, r.room("12"))
	}
	// The statements of a batch: the log may give what was appended in several.
	count := func(rooms []string, messages int, cold bool) int64 {
		if cold {
			r.forgetRooms()
		}
		before, batches := r.db.Statements(), r.s.heads.generation()
		r.batch(rooms, messages)
		batches = r.s.heads.generation() - batches
		if batches > int64(testPartitions) {
			t.Errorf("%d messages are %d batches", messages, batches)
		}
		return (r.db.Statements() - before) / batches
	}
	count(rooms, 100, false)
	// Verdicts, BEGIN, rooms, events, requests, positions, offsets, COMMIT.
	if one, many := count(rooms[:1], 1, false), count(rooms, 100, false); one > 8 || many > 8 {
		t.Errorf("%d statements for a message, %d for a hundred", one, many)
	}
	// And the rooms, and the entries that authorise.
	if one, many := count(rooms[:1], 1, true), count(rooms, 100, true); one > 10 || many > 10 {
		t.Errorf("%d statements for a message in a cold room, %d for a hundred", one, many)
	}
}

// BenchmarkBatch is a batch of 100 messages in 16 rooms, from append to verdicts.
func BenchmarkBatch(b *testing.B) {
	for _, engine := range []sqldbtest.Engine{sqldbtest.SQLite, sqldbtest.PostgreSQL} {
		b.Run(string(engine), func(b *testing.B) {
			for name, cold := range map[string]bool{"warm": false, "cold": true} {
				b.Run(name, func(b *testing.B) {
					r := newRig(b)
					var rooms []string
					for range 16 {
						rooms = append(rooms, r.room("12"))
					}
					b.ReportAllocs()
					before := r.db.Statements()
					for b.Loop() {
						if cold {
							r.forgetRooms()
						}
						r.batch(rooms, 100)
					}
					b.ReportMetric(float64(r.db.Statements()-before)/float64(b.N), "statements/op")
				})
			}
		})
	}
}
