package consumer

import (
	"context"
	"time"
)

// safePoints makes, from time to time, what was consumed certain to stay, lets
// the log drop it (Options.Trim), and measures the lag.
func (c *Consumer) safePoints(ctx context.Context) error {
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
	committed, err := c.leases.Committed(ctx) // before: only that is safe after
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
	return nil
}
