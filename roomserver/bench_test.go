package roomserver

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// BenchmarkSend takes messages from append to verdict, through the log and the
// store, with 32 writers: what a send costs without HTTP.
func BenchmarkSend(b *testing.B) {
	for _, rooms := range []int{1, 16} {
		b.Run(fmt.Sprintf("rooms=%d", rooms), func(b *testing.B) {
			r := newRig(b)
			ids := make([]string, rooms)
			for i := range ids {
				ids[i] = r.room("12")
			}
			body := make([]byte, 200)
			for i := range body {
				body[i] = 'x'
			}
			var waiting sync.Map // request ID → chan
			go r.answer(&waiting)
			b.ReportAllocs()
			b.ResetTimer()
			var next atomic.Int64
			var wg sync.WaitGroup
			for range 32 {
				wg.Add(1)
				go func() {
					defer wg.Done()
					for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
						room := ids[n%int64(rooms)]
						record := &api.InputRecord{V: 1, RequestID: fmt.Sprint("b", n), Origin: testServer, TS: n, RoomID: room,
							Kind: api.KindNew, Events: []api.InputEvent{message(alice, string(body))}}
						value, err := record.Encode()
						if err != nil {
							b.Error(err)
							return
						}
						done := make(chan struct{})
						waiting.Store(record.RequestID, done)
						if _, err := r.log.Append(context.Background(), eventlog.Message{Topic: api.TopicInput,
							Partition: eventlog.PartitionFor(room, testPartitions), Value: value}); err != nil {
							b.Error(err)
							return
						}
						<-done
					}
				}()
			}
			wg.Wait()
			b.StopTimer()
		})
	}
}

// answer wakes whoever waits for a verdict.
func (r *rig) answer(waiting *sync.Map) {
	for next := r.answers; ; {
		records, err := r.log.Read(context.Background(), api.TopicAnswers, 0, next, 1<<20)
		if err != nil {
			return // the log is closed at the end
		}
		for _, rec := range records {
			next = rec.Offset + 1
			v, err := api.DecodeVerdict(rec.Value)
			if err != nil || v.Status != api.StatusAccepted {
				r.Errorf("%+v %v", v, err)
			}
			if done, ok := waiting.LoadAndDelete(v.RequestID); ok {
				close(done.(chan struct{}))
			}
		}
	}
}
