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
		round, err := r.c.lull.round(ctx)
		if err != nil {
			return err
		}
		read, err := r.c.log.ReadMany(round, r.topic, r.next, readBytes)
		if err != nil && ctx.Err() == nil && round.Err() != nil {
			continue // the others rest
		}
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
			r.c.lull.rest(ctx, &r.c.view.audience, leisure)
		}
	}
	return ctx.Err()
}

// lull has all readers rest together: a shared log is fetched for as long as any of
// them waits for it.
type lull struct {
	mu   sync.Mutex
	now  context.Context // in which the readers wait; nil until one does
	end  context.CancelFunc
	over chan struct{} // of the rest, while there is one; closed then
}

// round is what to wait in for the log, once nobody rests: it ends when a rest begins.
func (l *lull) round(ctx context.Context) (context.Context, error) {
	for {
		l.mu.Lock()
		over := l.over
		if over == nil {
			defer l.mu.Unlock()
			if l.now == nil {
				l.now, l.end = context.WithCancel(ctx)
			}
			return l.now, nil
		}
		l.mu.Unlock()
		select {
		case <-over:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// rest is one of all readers, unless there is an audience, or one already.
func (l *lull) rest(ctx context.Context, a *audience, d time.Duration) {
	l.mu.Lock()
	if l.over != nil || !a.empty() {
		l.mu.Unlock()
		return
	}
	over := make(chan struct{})
	l.over = over
	if l.end != nil {
		l.end()
	}
	l.now, l.end = nil, nil
	l.mu.Unlock()
	a.rest(ctx, d)
	l.mu.Lock()
	l.over = nil
	l.mu.Unlock()
	close(over)
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
