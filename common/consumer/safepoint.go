package consumer

import (
	"context"
	"time"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/lease"
)

// safePoints makes, from time to time, what was consumed certain to stay, lets
// the log drop it (Options.Trim), and measures the lag.
func (c *Consumer) safePoints(ctx context.Context) error {
	defer c.reports.Wait()
	ticker := time.NewTicker(c.o.SafePointEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := c.safePoint(ctx); err != nil && ctx.Err() == nil {
			c.o.Logger.WithError(err).Warn("No safe point; the log keeps its records")
		}
	}
}

func (c *Consumer) safePoint(ctx context.Context) error {
	committed, err := c.leases.Current(ctx) // before: only that is safe after
	if err != nil {
		return err
	}
	moved := false
	for _, l := range committed {
		_, end, err := c.o.Log.Bounds(ctx, c.o.Topic.Name, l.Partition)
		if err != nil {
			return err
		}
		if l.TopicID == c.o.Topic.ID {
			c.metrics.set(l.Partition, end-l.NextOffset)
		}
		moved = moved || l.NextOffset > c.trimmed[l.Partition]
	}
	if !moved {
		return nil
	}
	if err := c.o.DB.SafePoint(ctx); err != nil {
		return err
	}
	for _, l := range committed {
		if l.NextOffset <= c.trimmed[l.Partition] || l.TopicID != c.o.Topic.ID {
			continue
		}
		if c.o.Trim {
			if err := c.o.Log.Trim(ctx, c.o.Topic.Name, l.Partition, l.NextOffset); err != nil {
				return err
			}
		}
		c.trimmed[l.Partition] = l.NextOffset
	}
	c.report(ctx, committed)
	return nil
}

// report shows in the log's own tools how far the partitions are read, beside
// other work: nothing depends on it. It is left out while the last one is not
// through yet.
func (c *Consumer) report(ctx context.Context, committed []lease.Lease) {
	to, ok := c.o.Log.(eventlog.OffsetReporter)
	if !ok || !c.reporting.CompareAndSwap(false, true) {
		return
	}
	c.reports.Go(func() {
		defer c.reporting.Store(false)
		for _, l := range committed {
			if l.TopicID != c.o.Topic.ID {
				continue
			}
			if err := to.ReportOffset(ctx, c.o.Name, c.o.Topic.Name, l.Partition, l.NextOffset); err != nil {
				c.o.Logger.WithError(err).Debug("The log was not told how far it was read")
				return
			}
		}
	})
}
