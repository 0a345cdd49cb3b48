package syncapi

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/matrix-org/dendrite/common/eventlog"
)

const (
	// readBytes bounds what is read of a partition at once.
	readBytes = 256 << 10
	// leisure is how long what is read of a shared log may wait while nobody waits for
	// it, unless fewRecords have come at once. Others' requests that need rows which
	// this instance writes wait as much longer.
	leisure    = 50 * time.Millisecond
	fewRecords = 500
	// retryRead is the pause after a failed read.
	retryRead = time.Second
	// readApart is how long partitions are read each by itself before they are read
	// together again.
	readApart = 10 * time.Second
)

// logReader hands partitions of a topic over to the applier. One goroutine reads
// them all: what came together is then one wake-up and one batch, however many
// partitions it is of.
type logReader struct {
	c       *consumer
	topic   string
	sources map[int]*source
	next    map[int]int64
	apart   time.Duration // readApart
}

func newLogReader(c *consumer, sources []*source) *logReader {
	r := &logReader{c: c, topic: sources[0].topic, sources: map[int]*source{}, next: map[int]int64{}, apart: readApart}
	for _, s := range sources {
		r.sources[s.partition], r.next[s.partition] = s, s.next
	}
	return r
}

// run reads all partitions together. When that fails each is read by itself for a
// while: one that cannot be read holds up no other.
func (r *logReader) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := r.together(ctx)
		if ctx.Err() != nil || errors.Is(err, eventlog.ErrClosed) {
			return
		}
		r.c.view.log.WithError(err).WithField("topic", r.topic).Warn("Reading each partition of a topic by itself")
		r.each(ctx)
	}
}

// together reads all partitions until that fails.
func (r *logReader) together(ctx context.Context) error {
	for ctx.Err() == nil {
		read, err := r.c.log.ReadMany(ctx, r.topic, r.next, readBytes)
		if err != nil {
			return err
		}
		var batches []batch
		count := 0
		for p, records := range read {
			count += len(records)
			if len(records) > 0 {
				batches = append(batches, batch{r.sources[p], records})
				r.next[p] = records[len(records)-1].Offset + 1
			}
		}
		r.hand(ctx, batches)
		if r.c.view.shared && count < fewRecords {
			r.c.view.audience.rest(ctx, leisure)
		}
	}
	return ctx.Err()
}

// hand tells whether the applier took the batches.
func (r *logReader) hand(ctx context.Context, batches []batch) bool {
	if len(batches) == 0 {
		return true
	}
	select {
	case r.c.in <- batches:
		return true
	case <-ctx.Done():
		return false
	}
}

// each reads every partition by itself for some time.
func (r *logReader) each(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, r.apart)
	defer cancel()
	var all sync.WaitGroup
	var mu sync.Mutex // guards r.next
	for p, next := range maps.Clone(r.next) {
		all.Go(func() {
			next := r.one(ctx, r.sources[p], next)
			mu.Lock()
			defer mu.Unlock()
			r.next[p] = next
		})
	}
	all.Wait()
}

// one hands over what a partition holds from the offset on; it returns the offset
// of what it did not hand over.
func (r *logReader) one(ctx context.Context, s *source, next int64) int64 {
	for ctx.Err() == nil {
		records, err := r.c.log.Read(ctx, s.topic, s.partition, next, readBytes)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, eventlog.ErrClosed) {
				return next
			}
			r.c.view.log.WithError(err).WithField("topic", s.topic).WithField("partition", s.partition).Error("Cannot read log")
			pause(ctx, retryRead)
			continue
		}
		if len(records) > 0 && r.hand(ctx, []batch{{s, records}}) {
			next = records[len(records)-1].Offset + 1
		}
	}
	return next
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
