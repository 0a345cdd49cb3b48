package consumer

import (
	"context"
	"errors"
	"time"

	"github.com/matrix-org/dendrite/common/eventlog"
)

// read waits for records of the partitions that are ready. It returns none when
// the leases changed or a partition's wait after a failure is over.
func (c *Consumer) read(ctx context.Context, changed <-chan struct{}) (map[int][]eventlog.Record, error) {
	from := map[int]int64{}
	now, wake := time.Now(), time.Time{}
	for n, p := range c.owned {
		switch {
		case now.Before(p.retryAt):
			if wake.IsZero() || p.retryAt.Before(wake) {
				wake = p.retryAt
			}
		case p.ready:
			from[n] = p.next
		default:
			wake = now // to be prepared
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !wake.IsZero() {
		defer time.AfterFunc(time.Until(wake), cancel).Stop()
	}
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-changed:
			cancel()
		case <-stop:
		}
	}()
	if len(from) == 0 {
		<-ctx.Done()
		return nil, nil
	}
	read, err := c.fetch(ctx, from)
	if err == nil || ctx.Err() != nil {
		return read, nil
	}
	if stops(err) {
		return nil, err
	}
	// Each partition is placed anew: one that the log dropped records of, or
	// whose records are damaged, is told from the others there.
	return nil, c.isolate(ctx, from, err)
}

// fetch reads from several partitions; it waits for the first that has records.
func (c *Consumer) fetch(ctx context.Context, from map[int]int64) (map[int][]eventlog.Record, error) {
	each := max(c.o.MaxBytes/len(from), 64<<10)
	return c.o.Log.ReadMany(ctx, c.o.Topic.Name, from, each)
}

// isolate finds the partitions that cannot be read, so that the others go on.
func (c *Consumer) isolate(ctx context.Context, from map[int]int64, err error) error {
	found := false
	for n, offset := range from {
		p := c.owned[n]
		next, e := c.place(ctx, p.lease)
		if e == nil && next != p.lease.NextOffset {
			p.lease.NextOffset, p.next, offset = next, next, next
		}
		if e == nil {
			e = c.probe(ctx, n, offset)
		}
		switch {
		case e == nil:
			continue
		case errors.Is(e, ErrFenced):
			e = c.lost(p)
		case !stops(e):
			c.failed(ctx, p, e)
			e = nil
		}
		if e != nil {
			return e
		}
		found = true
	}
	if !found { // it was for a moment, or of the log as a whole
		for n := range from {
			c.failed(ctx, c.owned[n], err)
		}
	}
	return nil
}

// probe reads one record, if there is one.
func (c *Consumer) probe(ctx context.Context, n int, from int64) error {
	_, end, err := c.o.Log.Bounds(ctx, c.o.Topic.Name, n)
	if err != nil || from >= end {
		return err
	}
	_, err = c.o.Log.Read(ctx, c.o.Topic.Name, n, from, 1)
	return err
}
