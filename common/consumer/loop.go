package consumer

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/lease"
)

// partition is one that this instance owns.
type partition struct {
	lease lease.Lease // its NextOffset is the one that is stored
	// next is where the loop has come to: past what was skipped.
	next int64
	// ready is set once OnAcquire has succeeded.
	ready    bool
	failures int
	retryAt  time.Time // not before; zero when it goes well
}

// Bounds of the wait after a failure; it doubles each time.
const (
	minBackoff = 20 * time.Millisecond
	maxBackoff = 10 * time.Second
)

func (c *Consumer) loop(ctx context.Context, handle Handler) error {
	for ctx.Err() == nil {
		changed := c.leases.Changed() // before the look at what it is about
		if err := c.reconcile(ctx); err != nil {
			return err
		}
		c.gather(ctx)
		read, err := c.read(ctx, changed)
		if err != nil {
			return err
		}
		if len(read) == 0 {
			continue
		}
		b := c.newBatch(read)
		c.recent += (float64(len(b.Records)) - c.recent) / 4
		if err := c.handle(ctx, handle, b); err != nil {
			return err
		}
	}
	return nil
}

const (
	// several is how many records recent batches must have had for a pause.
	several = 1.25
	// maxGather bounds the pause, where nothing else is said.
	maxGather = 20 * time.Millisecond
)

// gather is the pause before a batch, where there is one.
func (c *Consumer) gather(ctx context.Context) {
	wait := c.pause()
	if wait == 0 {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.hurry:
	case <-ctx.Done():
	}
}

func (c *Consumer) pause() time.Duration {
	if c.o.Gather == 0 || c.sole || c.recent < several || len(c.owned) == 0 {
		return 0
	}
	return c.Stretch(c.o.Gather, c.o.GatherMost)
}

// Stretch is a pause of a handler as long as this instance's part of the partitions is
// small, up to most: all instances together then pause as often as one would.
func (c *Consumer) Stretch(pause, most time.Duration) time.Duration {
	return min(pause*time.Duration(c.o.Topic.Partitions)/time.Duration(max(len(c.owned), 1)), most)
}

// reconcile makes owned what the leases say, gives surplus back and prepares
// what is new.
func (c *Consumer) reconcile(ctx context.Context) error {
	held := map[int]lease.Lease{}
	for _, l := range c.leases.Held() {
		held[l.Partition] = l
	}
	for n, p := range c.owned {
		if l, ok := held[n]; !ok || l.Epoch != p.lease.Epoch {
			c.forget(p)
		}
	}
	for range c.leases.Surplus() {
		for n, l := range held {
			if p := c.owned[n]; p != nil {
				c.forget(p)
			}
			if err := c.leases.Release(ctx, l); err != nil {
				c.o.Logger.WithError(err).Warn("A partition could not be handed over yet")
			}
			delete(held, n)
			break
		}
	}
	for n, l := range held {
		p := c.owned[n]
		if p == nil {
			p = &partition{lease: l}
			c.owned[n] = p
		}
		if !p.ready && !time.Now().Before(p.retryAt) {
			if err := c.prepare(ctx, p); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Consumer) forget(p *partition) {
	delete(c.owned, p.lease.Partition)
	c.metrics.forget(p.lease.Partition)
	c.unready(p)
}

// unready is the end of what prepare began.
func (c *Consumer) unready(p *partition) {
	if !p.ready {
		return
	}
	p.ready = false
	c.serving[p.lease.Partition].Store(notServing)
	if c.o.OnRelease != nil {
		c.o.OnRelease(p.lease.Partition)
	}
}

// prepare finds where to go on in a partition. Errors that stop the consumer
// are returned, after others it is tried again later.
func (c *Consumer) prepare(ctx context.Context, p *partition) error {
	n := p.lease.Partition
	l, err := c.leases.Reload(ctx, p.lease)
	if err == nil {
		l.NextOffset, err = c.place(ctx, l)
	}
	if err == nil && !p.ready && c.o.OnAcquire != nil {
		err = c.o.OnAcquire(ctx, n)
	}
	switch {
	case err == nil:
		l.TopicID = c.o.Topic.ID
		p.lease, p.next, p.ready, p.failures, p.retryAt = l, l.NextOffset, true, 0, time.Time{}
		c.serving[n].Store(l.Epoch)
	case errors.Is(err, ErrFenced):
		return c.lost(p)
	case stops(err):
		return err
	default:
		c.failed(ctx, p, err)
	}
	return nil
}

// place checks a stored offset against the log and returns where to go on. What
// it changes is stored at once: commits go on from the offset that is stored.
func (c *Consumer) place(ctx context.Context, l lease.Lease) (int64, error) {
	start, end, err := c.o.Log.Bounds(ctx, c.o.Topic.Name, l.Partition)
	if err != nil {
		return 0, err
	}
	next, ephemeral := l.NextOffset, c.o.Topic.Durability == eventlog.Ephemeral
	known := l.TopicID == c.o.Topic.ID
	switch {
	case c.o.Rebuild != nil && (l.TopicID == "" && start > 0 || known && next < start):
		c.o.Logger.WithField("partition", l.Partition).Warn("Records were dropped before they were read: building the view anew")
		if err := c.o.Rebuild(ctx, l.Partition); err != nil {
			return 0, err
		}
		next = start
	case l.TopicID == "":
		next = start
	case l.TopicID != c.o.Topic.ID && ephemeral:
		next = start
	case l.TopicID != c.o.Topic.ID:
		return 0, fmt.Errorf("%w: partition %d was read as %s, is %s", ErrTopicChanged, l.Partition, l.TopicID, c.o.Topic.ID)
	case next > end && !c.o.Derived && !ephemeral:
		return 0, fmt.Errorf("%w: partition %d was read up to %d, ends at %d", ErrTopicShorter, l.Partition, next, end)
	case next > end:
		next = end
	case next < start && !ephemeral:
		return 0, fmt.Errorf("%w: partition %d was read up to %d, starts at %d", ErrRecordsGone, l.Partition, next, start)
	case next < start:
		next = start
	}
	if next == l.NextOffset && known {
		return next, nil
	}
	return next, c.leases.Move(ctx, l, c.o.Topic.ID, next)
}

// handle calls the handler, and if that fails for each partition by itself.
// Only what stops the consumer is an error.
func (c *Consumer) handle(ctx context.Context, handle Handler, b *Batch) error {
	err := c.call(ctx, handle, b)
	switch {
	case err == nil:
		c.done(b)
		return nil
	case len(b.spans) == 1:
		return c.resume(ctx, b.spans[0].p, err)
	}
	c.o.Logger.WithError(err).Warn("A batch failed; trying each partition by itself")
	for _, s := range b.spans {
		if ctx.Err() != nil {
			return nil
		}
		if err := c.handleOne(ctx, handle, b.only(s)); err != nil {
			return err
		}
	}
	return nil
}

// handleOne handles a partition's part of a batch that failed.
func (c *Consumer) handleOne(ctx context.Context, handle Handler, b *Batch) error {
	s := b.spans[0]
	// The failed call may have committed, so what is stored decides.
	l, err := c.leases.Reload(ctx, s.from)
	if err == nil && l.NextOffset != s.from.NextOffset {
		c.rewind(s.p, l)
		return nil
	}
	if err == nil {
		err = c.call(ctx, handle, b)
	}
	if err != nil {
		return c.resume(ctx, s.p, err)
	}
	c.done(b)
	return nil
}

// stopGrace is how long a call of the handler may go on when the consumer stops.
const stopGrace = 5 * time.Second

// call is a call of the handler; a panic is an error like others, with its stack.
func (c *Consumer) call(ctx context.Context, handle Handler, b *Batch) (err error) {
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(stopGrace, cancel)
		context.AfterFunc(inner, func() { timer.Stop() })
	})()
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	if err := handle(inner, b); err != nil {
		return err
	}
	if !b.committed {
		return errors.New("consumer: the handler neither committed nor skipped its batch")
	}
	return nil
}

func (c *Consumer) done(b *Batch) {
	for _, s := range b.spans {
		s.p.next = s.next
		if !b.skipped {
			s.p.lease.NextOffset = s.next
			c.leases.Committed(s.p.lease)
		}
		s.p.failures, s.p.retryAt = 0, time.Time{}
	}
	c.metrics.records.Add(float64(len(b.Records)))
}

// resume makes a partition go on from what is stored, after a wait. Only what
// stops the consumer is an error.
func (c *Consumer) resume(ctx context.Context, p *partition, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	l, e := c.leases.Reload(ctx, p.lease)
	switch {
	case e == nil:
		c.rewind(p, l)
	case errors.Is(e, ErrFenced):
		return c.lost(p)
	default:
		err = errors.Join(err, e)
	}
	c.failed(ctx, p, err)
	return nil
}

// rewind goes on from what is stored. If that is more than is known to be, a
// call that failed has committed, and the partition is made ready anew.
func (c *Consumer) rewind(p *partition, stored lease.Lease) {
	if stored.NextOffset != p.lease.NextOffset {
		c.unready(p)
	}
	p.lease, p.next = stored, stored.NextOffset
}

// lost drops a partition that has another owner. There can be none beside a
// sole instance, so that is an operator's matter.
func (c *Consumer) lost(p *partition) error {
	if c.sole {
		return fmt.Errorf("%w: partition %d, though the log is open here", ErrFenced, p.lease.Partition)
	}
	c.o.Logger.WithField("partition", p.lease.Partition).Warn("A partition was taken by another instance")
	c.leases.Drop(p.lease)
	c.forget(p)
	return nil
}

func (c *Consumer) failed(ctx context.Context, p *partition, err error) {
	if ctx.Err() != nil {
		return
	}
	wait := min(minBackoff<<min(p.failures, 16), maxBackoff)
	p.failures++
	p.retryAt = time.Now().Add(wait)
	c.metrics.failures.Inc()
	c.o.Logger.WithError(err).WithField("partition", p.lease.Partition).WithField("attempt", p.failures).
		Errorf("Consuming failed; trying again in %v", wait)
}
