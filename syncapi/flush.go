package syncapi

import (
	"context"
	"errors"
	"fmt"

	"github.com/matrix-org/dendrite/common/lease"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/syncapi/storage"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// flushing is what is to be stored: the rows of a batch that has been taken but
// is not applied yet, or only what lags behind.
type flushing struct {
	a *application // nil: none
	// only is the one source that it is about; nil: all of this instance's.
	only *source
}

func newFlush(a *application) *flushing { return &flushing{a: a} }

// flushed is flush, until it succeeds or ctx is done.
func (c *consumer) flushed(ctx context.Context, f *flushing) error {
	return c.view.retry(ctx, "Cannot store the view", func() error { return c.flush(ctx, f) })
}

// flush stores the rows of the partitions that this instance writes, together
// with positions of rooms that lag behind and with how far the topics are stored
// by that: applying a record again changes nothing, so an offset may be too low,
// never too high. What it turns out not to own any more it leaves out.
func (c *consumer) flush(ctx context.Context, f *flushing) error {
	for {
		lost, err := c.flushOnce(ctx, f)
		if lost == nil {
			return err
		}
		c.view.log.WithField("topic", lost.topic).WithField("partition", lost.partition).Warn("Another instance writes the rows of a partition now")
		lost.owned = false
		c.leases.Drop(lost.lease)
		c.view.mu.Lock()
		c.view.need(lost, lost.seq)
		c.view.mu.Unlock()
	}
}

// flushOnce is flush; it returns the source that another instance has by now.
func (c *consumer) flushOnce(ctx context.Context, f *flushing) (lost *source, err error) {
	v := c.view
	var rows storage.Batch
	sources := c.collect(f, &rows)
	v.mu.Lock()
	unread := v.unread
	rows.Unread, v.unread = unread, nil
	v.mu.Unlock()
	if rows.Empty() {
		c.unflushed = 0
		return nil, nil
	}
	if c.leases != nil {
		rows.Fence = func(ctx context.Context, tx *sqldb.Tx) (err error) {
			lost, err = c.fence(ctx, tx, sources)
			return err
		}
	}
	err = v.store.Apply(ctx, &rows)
	v.mu.Lock()
	defer v.mu.Unlock()
	if err != nil {
		v.unread = append(unread, v.unread...)
		return lost, err
	}
	for _, r := range rows.Rooms {
		if v.dirty[r.RoomID].Seq == r.Seq {
			delete(v.dirty, r.RoomID)
		}
	}
	for i, s := range sources {
		s.stored = rows.Offsets[i].Next
		v.stored.reached(s.topic, s.partition, rows.Offsets[i].Seq)
	}
	if f.only == nil {
		c.unflushed = 0
	}
	return nil, nil
}

// fence makes sure, in the transaction that writes them, that the rows of the
// sources are still this instance's to write; else it returns one that is not.
func (c *consumer) fence(ctx context.Context, tx *sqldb.Tx, sources []*source) (lost *source, err error) {
	byTopic := map[string][]lease.Consumed{}
	for _, s := range sources {
		byTopic[s.lease.TopicID] = append(byTopic[s.lease.TopicID], lease.Consumed{Lease: s.lease, Next: s.lease.NextOffset})
	}
	for topicID, all := range byTopic {
		if err = c.leases.CommitAll(ctx, tx, topicID, all); err != nil {
			break
		}
	}
	if !errors.Is(err, lease.ErrFenced) {
		return nil, err
	}
	for _, s := range sources { // which is it?
		if err := c.leases.Commit(ctx, tx, s.lease, s.lease.TopicID, s.lease.NextOffset); err != nil {
			if errors.Is(err, lease.ErrFenced) {
				return s, fmt.Errorf("syncapi: %w", err)
			}
			return nil, fmt.Errorf("syncapi: %w", err)
		}
	}
	return nil, fmt.Errorf("syncapi: %w", err)
}

// collect gathers rows, and an offset for each of the sources that it returns.
func (c *consumer) collect(f *flushing, rows *storage.Batch) (sources []*source) {
	all := c.sources
	if f.only != nil {
		all = []*source{f.only}
	}
	owned := make([]bool, len(c.view.shape.rooms)) // by partition of room.output
	for _, s := range all {
		if !s.owned || s.topic == userapi.TopicEphemeral { // the ephemeral one is not resumed
			continue
		}
		if s.topic != userapi.TopicUserOutput {
			owned[s.partition] = true
		}
		next, seq := s.done, s.doneSeq
		if f.a != nil {
			next, seq = s.taken(), s.seq
			rows.Add(f.a.rows[s])
		}
		if next == s.stored {
			continue
		}
		sources = append(sources, s)
		rows.Offsets = append(rows.Offsets, storage.Offset{Topic: s.topic, Partition: s.partition, TopicID: s.topicID, Next: next, Seq: seq})
	}
	v := c.view
	v.mu.Lock()
	defer v.mu.Unlock()
	touched := map[string]storage.Room{}
	if f.a != nil {
		touched = f.a.touched
	}
	for id, r := range touched {
		if owned[v.partition(id)] {
			rows.Rooms = append(rows.Rooms, r)
		}
	}
	for id, r := range v.dirty {
		if _, newer := touched[id]; !newer && f.only == nil && owned[v.partition(id)] {
			rows.Rooms = append(rows.Rooms, r)
		}
	}
	return sources
}
