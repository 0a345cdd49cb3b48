package kafka_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/eventlog/kafka/kafkatest"
)

// cpu is the time that this process has computed.
func cpu(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkAppend: writers that wait for each record, as requests do; the time
// of an operation is the throughput's, the latency's is beside it.
func BenchmarkAppend(b *testing.B) {
	for _, writers := range []int{1, 16, 256} {
		b.Run(fmt.Sprint(writers), func(b *testing.B) {
			log := open(b, kafkatest.Start(b), nil)
			ensure(b, log, eventlog.TopicSpec{Name: "a", Partitions: 16})
			value := make([]byte, 700)
			for p := range 16 {
				if _, err := log.Append(context.Background(), eventlog.Message{Topic: "a", Partition: p, Value: value}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			b.ResetTimer()
			before, began := cpu(b), time.Now()
			var wg sync.WaitGroup
			for w := range writers {
				wg.Go(func() {
					for i := w; i < b.N; i += writers {
						if _, err := log.Append(context.Background(), eventlog.Message{Topic: "a", Partition: w % 16, Value: value}); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-µs/record")
			b.ReportMetric(float64(time.Since(began).Microseconds())*float64(min(writers, b.N))/float64(b.N), "µs-latency")
		})
	}
}

// BenchmarkHop: from an append to the reader who waits for it, over 16
// partitions that are followed.
func BenchmarkHop(b *testing.B) {
	log := open(b, kafkatest.Start(b), nil)
	ensure(b, log, eventlog.TopicSpec{Name: "a", Partitions: 16})
	from := map[int]int64{}
	for p := range 16 {
		from[p] = 0
	}
	value := make([]byte, 700)
	got := make(chan error)
	go func() {
		for {
			out, err := log.ReadMany(b.Context(), "a", from, 1<<20)
			for p, records := range out {
				from[p] += int64(len(records))
			}
			got <- err
			if err != nil {
				return
			}
		}
	}()
	hop := func(i int) {
		if _, err := log.Append(context.Background(), eventlog.Message{Topic: "a", Partition: i % 16, Value: value}); err != nil {
			b.Fatal(err)
		}
		if err := <-got; err != nil {
			b.Fatal(err)
		}
	}
	hop(0)
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu(b)
	for i := range b.N {
		hop(i)
	}
	b.ReportMetric(float64((cpu(b)-before).Microseconds())/float64(b.N), "cpu-µs/record")
	b.StopTimer()
	_ = log.Close() // the reader ends with it
	<-got
}
