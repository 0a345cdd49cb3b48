package syncapi

import (
	"context"
	"errors"
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
)

// logReader hands partitions of a topic over to the applier. One goroutine reads
// them all: what came together is then one wake-up and one batch, however many
// partitions it is of.
type logReader struct {
	c       *consumer
	topic   string
	sources map[int]*source
	next    map[int]int64
}

func newLogReader(c *consumer, sources []*source) *logReader {
	r := &logReader{c: c, topic: sources[0].topic, sources: map[int]*source{}, next: map[int]int64{}}
	for _, s := range sources {
		r.sources[s.partition], r.next[s.partition] = s, s.next
	}
	return r
}

// run reads all partitions together. Once that fails each is read by itself: one
// that cannot be read holds up no other.
func (r *logReader) run(ctx context.Context) {
	for ctx.Err() == nil {
		read, err := r.c.log.ReadMany(ctx, r.topic, r.next, readBytes)
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, eventlog.ErrClosed) {
				r.c.view.log.WithError(err).WithField("topic", r.topic).Warn("Reading each partition of a topic by itself")
			}
			break
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
	r.each(ctx)
}

func (r *logReader) hand(ctx context.Context, batches []batch) {
	if len(batches) == 0 {
		return
	}
	select {
	case r.c.in <- batches:
	case <-ctx.Done():
	}
}

// each reads every partition by itself.
func (r *logReader) each(ctx context.Context) {
	var all sync.WaitGroup
	for p, s := range r.sources {
		next := r.next[p]
		all.Go(func() { r.one(ctx, s, next) })
	}
	all.Wait()
}

// one hands over what a partition holds from the offset on.
func (r *logReader) one(ctx context.Context, s *source, next int64) {
	for ctx.Err() == nil {
		records, err := r.c.log.Read(ctx, s.topic, s.partition, next, readBytes)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, eventlog.ErrClosed) {
				return
			}
			r.c.view.log.WithError(err).WithField("topic", s.topic).WithField("partition", s.partition).Error("Cannot read log")
			pause(ctx, retryRead)
			continue
		}
		if len(records) == 0 {
			continue
		}
		next = records[len(records)-1].Offset + 1
		r.hand(ctx, []batch{{s, records}})
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
