package syncapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/eventlog"
)

// failing is a log that reads partitions together for some time only.
type failing struct {
	eventlog.Log
	times int
}

func (l *failing) ReadMany(ctx context.Context, topic string, from map[int]int64, _ int) (map[int][]eventlog.Record, error) {
	if l.times--; l.times < 0 {
		return nil, errors.New("one of them is damaged")
	}
	out := map[int][]eventlog.Record{}
	for p, offset := range from {
		records, err := l.Read(ctx, topic, p, offset, 1) // one record
		if err != nil {
			return nil, err
		}
		out[p] = records
	}
	return out, nil
}

// TestReadTogetherAndApart: each partition is read without gap or repeat, also
// when they cannot be read together any more.
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
	for times := range records {
		c := &consumer{log: &failing{embedded, times}, view: &view{log: logrus.NewEntry(logger)}, in: make(chan []batch)}
		var sources []*source
		for p := range partitions {
			sources = append(sources, &source{topic: "t", partition: p, next: int64(p % 2)})
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			newLogReader(c, sources).run(ctx)
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
