package syncapi

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/lease"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/syncapi/storage"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

const (
	// batchReads is of how many partitions reads are applied together; one read
	// more may be.
	batchReads = 64
	// flushEvery and flushRecords say how far the offsets in the database may lag:
	// a restart, and who takes a partition over, reads as much again. Each flush is
	// a transaction on every instance.
	flushEvery   = time.Second
	flushRecords = 2000
	// maxHeld bounds the records of a partition that wait for an earlier one.
	maxHeld = 10_000
)

// source is a partition of one of the topics read.
type source struct {
	topic     string
	topicID   string
	partition int
	// next is the offset to read next, seq the last Seq taken; the applier's.
	next, seq int64
	// done and doneSeq are what next and seq were after the last batch that
	// was applied: where a restart goes on.
	done, doneSeq int64
	// lost tells that the log has dropped records that the view needs, resynced
	// that a partition of user.output has told all that is current.
	lost, resynced bool
	// stored is the done that the database has.
	stored int64
	// shown is done for who measures the lag.
	shown atomic.Int64
	// held are records that came before one that they follow, by Seq, with
	// their offsets.
	held map[int64]record
	// owned tells that this instance writes the rows of the partition, under
	// the lease where there may be others.
	owned bool
	lease lease.Lease
	// written is the Seq up to which others had written the rows then.
	written int64
}

type record = eventlog.Record

// batch is what one read of a source gave.
type batch struct {
	from    *source
	records []eventlog.Record
}

// consumer reads the topics into the applier.
type consumer struct {
	log     eventlog.Log
	view    *view
	sources []*source
	in      chan []batch
	lull    lull
	// unflushed counts records applied since the offsets were stored.
	unflushed int
	// leases say whose rows this instance writes; nil where there is no other
	// instance. again is set when taking one over has failed.
	leases *lease.Manager
	again  bool
}

// newConsumer finds where to go on in each partition, or says why it cannot.
func newConsumer(ctx context.Context, log eventlog.Log, v *view, topics []eventlog.TopicInfo, leases *lease.Manager) (*consumer, error) {
	c := &consumer{log: log, view: v, in: make(chan []batch), leases: leases}
	for _, t := range topics {
		offsets, err := v.store.Offsets(ctx, t.Name)
		if err != nil {
			return nil, err
		}
		at := map[int]storage.Offset{}
		for _, o := range offsets {
			at[o.Partition] = o
		}
		for p := range t.Partitions {
			s := &source{topic: t.Name, topicID: t.ID, partition: p, held: map[int64]record{}, owned: leases == nil}
			if err := c.place(ctx, s, at[p]); err != nil {
				return nil, err
			}
			c.sources = append(c.sources, s)
		}
	}
	start := v.shape.clone()
	for _, s := range c.sources {
		s.finish()
		s.reached(start)
		if s.topic == roomapi.TopicOutput {
			v.progress[s.partition] = s.seq
		}
		if s.topic == userapi.TopicUserOutput {
			v.lists.begin(s.partition, s.seq)
		}
	}
	v.publish(start)
	return c, nil
}

// place puts a source where its offset says, once that makes sense for the
// topic as it is. spec: design rule 2
func (c *consumer) place(ctx context.Context, s *source, o storage.Offset) error {
	start, end, err := c.log.Bounds(ctx, s.topic, s.partition)
	if err != nil {
		return fmt.Errorf("syncapi: bounds of %s/%d: %w", s.topic, s.partition, err)
	}
	if s.topic == userapi.TopicEphemeral {
		s.next = start // what was said before is gone or about to be said again
		return nil
	}
	switch {
	case o.TopicID != "" && o.TopicID != s.topicID:
		return fmt.Errorf("syncapi: topic %s is not the one that the view was built from (%q, not %q)", s.topic, s.topicID, o.TopicID)
	case o.Next > end:
		// A derived topic may end earlier after a loss of power: its owner
		// publishes what is missing, which is known here already.
		s.next, s.seq = end, o.Seq
	case o.Next < start:
		s.next, s.seq, s.lost = start, o.Seq, true
	default:
		s.next, s.seq = o.Next, o.Seq
	}
	if o.TopicID == "" && start < end {
		return c.beginning(ctx, s)
	}
	return nil
}

// beginning finds out if a view that has nothing yet lacks what came before the
// topic's beginning: records are not always in order, but what lacks among the
// first of them will not come, unless it is told again.
func (c *consumer) beginning(ctx context.Context, s *source) error {
	records, err := c.log.Read(ctx, s.topic, s.partition, s.next, readBytes)
	if err != nil {
		return fmt.Errorf("syncapi: the beginning of %s/%d: %w", s.topic, s.partition, err)
	}
	lowest := int64(math.MaxInt64)
	for _, r := range records {
		seq, again, err := s.place(r.Value)
		if err != nil {
			return fmt.Errorf("syncapi: %s/%d at offset %d: %w", s.topic, s.partition, r.Offset, err)
		}
		if again {
			s.lost = false
			return nil
		}
		lowest = min(lowest, seq)
	}
	s.lost = s.lost || lowest > s.seq+1
	return nil
}

// place reads a record's Seq, and whether all that is current follows it.
func (s *source) place(value []byte) (seq int64, again bool, err error) {
	if s.topic == roomapi.TopicOutput {
		seq, err = roomapi.OutputSeq(value)
		return seq, false, err
	}
	var c userapi.UserChange
	err = json.Unmarshal(value, &c)
	return c.Seq, c.Kind == userapi.ChangeResync, err
}

// reached notes in a vector how far the source has been applied.
func (s *source) reached(v *vector) {
	switch s.topic {
	case roomapi.TopicOutput:
		v.rooms[s.partition] = s.seq
		if s.lost {
			v.rooms[s.partition] = unbuilt
		}
	case userapi.TopicUserOutput:
		v.users[s.partition] = s.seq
		if s.lost {
			v.users[s.partition] = unbuilt
		}
	case userapi.TopicEphemeral:
		v.eph[s.partition] = s.next
	}
}

// finish notes that everything taken has been applied; what is held has not.
func (s *source) finish() {
	s.done, s.doneSeq = s.taken(), s.seq
	s.shown.Store(s.done)
}

// taken is the offset before which everything has been taken.
func (s *source) taken() int64 {
	next := s.next
	for _, r := range s.held {
		next = min(next, r.Offset)
	}
	return next
}

// lag counts the records that are not applied yet; what cannot be asked counts
// as none.
func (c *consumer) lag() float64 {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var n int64
	for _, s := range c.sources {
		if _, end, err := c.log.Bounds(ctx, s.topic, s.partition); err == nil {
			n += max(end-s.shown.Load(), 0)
		}
	}
	return float64(n)
}

// run reads and applies until ctx is done, then stores how far it got.
func (c *consumer) run(ctx context.Context) error {
	err := c.leading(ctx, func(ctx context.Context) error {
		if err := c.rebuildAll(ctx); err != nil {
			return nil // stopped
		}
		return c.follow(ctx)
	})
	final, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err = errors.Join(err, c.flush(final, newFlush(nil)))
	if c.leases != nil {
		err = errors.Join(err, c.leases.Leave(final))
	}
	return err
}

// follow reads and applies until ctx is done.
func (c *consumer) follow(ctx context.Context) error {
	reading, stop := context.WithCancel(ctx)
	var readers sync.WaitGroup
	byTopic := map[string][]*source{}
	for _, s := range c.sources {
		byTopic[s.topic] = append(byTopic[s.topic], s)
	}
	for _, sources := range byTopic {
		r := newLogReader(c, sources)
		readers.Go(func() { r.run(reading) })
	}
	err := c.applyAll(ctx)
	stop()
	readers.Wait()
	return err
}

// leading keeps the leases while f runs.
func (c *consumer) leading(ctx context.Context, f func(context.Context) error) error {
	if c.leases == nil {
		return f(ctx)
	}
	inner, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.leases.Run(inner)
	}()
	defer func() {
		stop()
		<-done
	}()
	return f(ctx)
}

// upkeep does what is due from time to time.
func (c *consumer) upkeep(ctx context.Context) error {
	if c.unflushed > 0 {
		if err := c.flushed(ctx, newFlush(nil)); err != nil {
			return err
		}
	}
	if c.leases == nil {
		return nil
	}
	c.prune(ctx)
	if c.again {
		return c.reconcile(ctx)
	}
	return nil
}

// applyAll applies what is read, as much at once as there is.
func (c *consumer) applyAll(ctx context.Context) error {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	batches := make([]batch, 0, batchReads)
	var changed <-chan struct{}
	if c.leases != nil {
		changed = c.leases.Changed()
		if err := c.reconcile(ctx); err != nil { // what was taken before that
			return err
		}
	}
	for {
		batches = batches[:0]
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			changed = c.leases.Changed() // before the look at what it is about
			if err = c.reconcile(ctx); err == nil {
				continue
			}
		case <-tick.C:
			if err = c.upkeep(ctx); err == nil {
				continue
			}
		case read := <-c.in:
			batches = append(batches, read...)
		}
	more:
		for err == nil && len(batches) < batchReads {
			select {
			case read := <-c.in:
				batches = append(batches, read...)
			default:
				break more
			}
		}
		if err == nil {
			err = c.apply(ctx, batches)
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil // stopped
			}
			return err
		}
	}
}

// apply stores what the batches change in the database, changes what is in
// memory, shows it, and wakes whom it concerns: in this order.
func (c *consumer) apply(ctx context.Context, batches []batch) error {
	a := newApplication(c.view)
	var n int
	for _, b := range batches {
		n += len(b.records)
		for _, record := range b.records {
			b.from.next = record.Offset + 1
			if err := a.take(ctx, b.from, record); err != nil {
				return err
			}
		}
	}
	if a.urgent {
		if err := c.flushed(ctx, newFlush(a)); err != nil {
			return err
		}
	}
	a.apply()
	next := c.view.applied.Load().clone()
	for _, b := range batches {
		b.from.reached(next)
		b.from.finish()
	}
	c.view.publish(next)
	a.wake()
	if c.unflushed += n; c.unflushed >= flushRecords {
		return c.flushed(ctx, newFlush(nil))
	}
	return nil
}
