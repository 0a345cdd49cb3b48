package syncapi

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/matrix-org/dendrite/common/eventlog"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/syncapi/storage"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

const (
	// readBytes bounds what is read of a partition at once.
	readBytes = 256 << 10
	// batchReads bounds how many reads are applied together.
	batchReads = 64
	// flushEvery and flushRecords say how far the offsets in the database may lag.
	flushEvery   = 200 * time.Millisecond
	flushRecords = 2000
	// maxHeld bounds the records of a partition that wait for an earlier one.
	maxHeld = 10_000
	// retryRead is the pause after a failed read.
	retryRead = time.Second
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
	// stored is the done that the database has.
	stored int64
	// shown is done for who measures the lag.
	shown atomic.Int64
	// held are records that came before one that they follow, by Seq, with
	// their offsets.
	held map[int64]eventlog.Record
}

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
	in      chan batch
	// unflushed counts records applied since the offsets were stored.
	unflushed int
}

// newConsumer finds where to go on in each partition, or says why it cannot.
func newConsumer(ctx context.Context, log eventlog.Log, v *view, topics []eventlog.TopicInfo) (*consumer, error) {
	c := &consumer{log: log, view: v, in: make(chan batch)}
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
			s := &source{topic: t.Name, topicID: t.ID, partition: p, held: map[int64]eventlog.Record{}}
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
		return fmt.Errorf("syncapi: topic %s/%d starts at offset %d, after offset %d that the view needs", s.topic, s.partition, start, o.Next)
	default:
		s.next, s.seq = o.Next, o.Seq
	}
	return nil
}

// reached notes in a vector how far the source has been applied.
func (s *source) reached(v *vector) {
	switch s.topic {
	case roomapi.TopicOutput:
		v.rooms[s.partition] = s.seq
	case userapi.TopicUserOutput:
		v.users[s.partition] = s.seq
	case userapi.TopicEphemeral:
		v.eph[s.partition] = s.next
	}
}

// finish notes that everything taken has been applied; what is held has not.
func (s *source) finish() {
	s.done, s.doneSeq = s.next, s.seq
	for _, r := range s.held {
		s.done = min(s.done, r.Offset)
	}
	s.shown.Store(s.done)
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
	reading, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan struct{})
	for _, s := range c.sources {
		go func(s *source, next int64) {
			c.read(reading, s, next)
			done <- struct{}{}
		}(s, s.next)
	}
	err := c.applyAll(ctx)
	stop()
	for range c.sources {
		<-done
	}
	final, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return errors.Join(err, c.flush(final, &storage.Batch{}))
}

// read hands over what a partition holds from the offset on.
func (c *consumer) read(ctx context.Context, s *source, next int64) {
	for ctx.Err() == nil {
		records, err := c.log.Read(ctx, s.topic, s.partition, next, readBytes)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, eventlog.ErrClosed) {
				return
			}
			c.view.log.WithError(err).WithField("topic", s.topic).WithField("partition", s.partition).Error("Cannot read log")
			pause(ctx, retryRead)
			continue
		}
		if len(records) == 0 {
			continue
		}
		next = records[len(records)-1].Offset + 1
		select {
		case c.in <- batch{s, records}:
		case <-ctx.Done():
			return
		}
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

// applyAll applies what is read, as much at once as there is.
func (c *consumer) applyAll(ctx context.Context) error {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	batches := make([]batch, 0, batchReads)
	for {
		batches = batches[:0]
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if c.unflushed > 0 {
				if c.flushed(ctx, &storage.Batch{}) != nil {
					return nil // stopped
				}
			}
			continue
		case b := <-c.in:
			batches = append(batches, b)
		}
	more:
		for len(batches) < batchReads {
			select {
			case b := <-c.in:
				batches = append(batches, b)
			default:
				break more
			}
		}
		if err := c.apply(ctx, batches); err != nil {
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
	if a.rows.Urgent() {
		if err := c.flushed(ctx, &a.rows); err != nil {
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
		return c.flushed(ctx, &storage.Batch{})
	}
	return nil
}

// flushed is flush, until it succeeds or ctx is done.
func (c *consumer) flushed(ctx context.Context, rows *storage.Batch) error {
	return c.view.retry(ctx, "Cannot store the view", func() error { return c.flush(ctx, rows) })
}

// flush stores rows together with the positions that lag behind, and how far
// the topics have been applied before those rows: applying a record again
// changes nothing, so an offset may be too low, never too high.
func (c *consumer) flush(ctx context.Context, rows *storage.Batch) error {
	v := c.view
	v.mu.Lock()
	rows.Rooms = rows.Rooms[:0]
	for _, r := range v.dirty {
		rows.Rooms = append(rows.Rooms, r)
	}
	unread := v.unread
	rows.Unread, v.unread = unread, nil
	v.mu.Unlock()
	rows.Offsets = rows.Offsets[:0]
	for _, s := range c.sources {
		if s.topic != userapi.TopicEphemeral && s.done != s.stored { // the ephemeral one is not resumed
			rows.Offsets = append(rows.Offsets, storage.Offset{Topic: s.topic, Partition: s.partition, TopicID: s.topicID, Next: s.done, Seq: s.doneSeq})
		}
	}
	if err := v.store.Apply(ctx, rows); err != nil {
		v.mu.Lock()
		v.unread = append(unread, v.unread...)
		v.mu.Unlock()
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, r := range rows.Rooms {
		if v.dirty[r.RoomID].Seq == r.Seq {
			delete(v.dirty, r.RoomID)
		}
	}
	for _, s := range c.sources {
		s.stored = s.done
	}
	c.unflushed = 0
	return nil
}
