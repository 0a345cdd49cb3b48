package syncapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/eventlog"
)

// failing is a log that reads partitions together only some times.
type failing struct {
	eventlog.Log
	calls int
	fails func(call int) bool
}

func (l *failing) ReadMany(ctx context.Context, topic string, from map[int]int64, _ int) (map[int][]eventlog.Record, error) {
	l.calls++
	if l.fails(l.calls) {
		return nil, errors.New("one of them is damaged")
	}
	return l.Log.ReadMany(ctx, topic, from, 1) // one record of each
}

// TestReadTogetherAndApart: each partition is read without gap or repeat, also
// when they cannot be read together any more, or not always.
func TestReadTogetherAndApart(t *testing.T) {
	const partitions, records = 3, 5
	embedded, err := eventlog.OpenEmbedded(t.Context(), filepath.Join(t.TempDir(), "log.db"), eventlog.EmbeddedOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer embedded.Close()
	if _, err := embedded.EnsureTopic(t.Context(), eventlog.TopicSpec{Name: "t", Partitions: partitions}); err != nil {
		t.Fatal(err)
	}
	for i := range partitions * records {
		if _, err := embedded.Append(t.Context(), eventlog.Message{Topic: "t", Partition: i % partitions, Value: fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
	}
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	for times := range 2 * records {
		together := &failing{Log: embedded, fails: func(call int) bool { return call > times }}
		if times >= records {
			together.fails = func(call int) bool { return call%(times-records+2) == 0 }
		}
		c := &consumer{log: together, view: &view{log: logrus.NewEntry(logger)}, in: make(chan []batch)}
		var sources []*source
		for p := range partitions {
			sources = append(sources, &source{topic: "t", partition: p, next: int64(p % 2)})
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			r := newLogReader(c, sources)
			r.apart = time.Millisecond
			r.run(ctx)
		}()
		got, n := make([][]int64, partitions), 0
		for n < partitions*records-1 { // all but the first of partition 1
			select {
			case read := <-c.in:
				for _, b := range read {
					for _, r := range b.records {
						got[b.from.partition] = append(got[b.from.partition], r.Offset)
						n++
					}
				}
			case <-t.Context().Done():
				t.Fatal("records are missing")
			}
		}
		stop()
		<-ended
		for p, offsets := range got {
			if want := []int64{0, 1, 2, 3, 4}[p%2:]; !slices.Equal(offsets, want) {
				t.Errorf("failing after %d: partition %d: %v", times, p, offsets)
			}
		}
	}
}

// TestReadersRestTogether: while nobody waits for the view, no reader waits for the log
// most of the time, also not one that nothing comes for; when somebody comes, all do.
func TestReadersRestTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &busy{waited: map[string]time.Duration{}, reads: map[string]int{}}
		c := &consumer{log: log, view: &view{shared: true}, in: make(chan []batch)}
		ctx, stop := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for _, topic := range []string{"busy", "quiet", "quiet too"} {
			all.Go(func() { newLogReader(c, []*source{{topic: topic}}).run(ctx) })
		}
		all.Go(func() {
			for {
				select {
				case <-c.in:
				case <-ctx.Done():
					return
				}
			}
		})
		second := func() (reads int, waited time.Duration) {
			log.mu.Lock()
			clear(log.reads)
			clear(log.waited)
			log.mu.Unlock()
			time.Sleep(time.Second)
			log.mu.Lock()
			defer log.mu.Unlock()
			return log.reads["busy"], max(log.waited["quiet"], log.waited["quiet too"])
		}
		if reads, waited := second(); reads < 15 || reads > 21 || waited > 50*time.Millisecond {
			t.Errorf("nobody is there: %d reads, another topic was waited for for %v", reads, waited)
		}
		c.view.audience.enter()
		time.Sleep(leisure)
		if reads, _ := second(); reads < 900 {
			t.Errorf("somebody is there: %d reads", reads)
		}
		c.view.audience.leave()
		time.Sleep(leisure)
		if reads, waited := second(); reads > 21 || waited > 50*time.Millisecond {
			t.Errorf("nobody is there any more: %d reads, another topic was waited for for %v", reads, waited)
		}
		stop()
		all.Wait()
	})
}

// busy is a log with a record a millisecond in one topic.
type busy struct {
	eventlog.Log
	mu     sync.Mutex
	reads  map[string]int
	waited map[string]time.Duration
}

func (l *busy) ReadMany(ctx context.Context, topic string, from map[int]int64, _ int) (map[int][]eventlog.Record, error) {
	began := time.Now()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.reads[topic]++
		l.waited[topic] += time.Since(began)
	}()
	if topic != "busy" {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	time.Sleep(time.Millisecond)
	return map[int][]eventlog.Record{0: {{Offset: from[0]}}}, nil
}
