package consumer

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// schema is the consumer's table. epoch grows with each acquisition: a commit
// under an older one is refused (fencing).
const schema = `CREATE TABLE IF NOT EXISTS consumer_partitions (
	consumer     TEXT NOT NULL,
	partition_id BIGINT NOT NULL,
	epoch        BIGINT NOT NULL,
	topic_id     TEXT NOT NULL,
	next_offset  BIGINT NOT NULL,
	PRIMARY KEY (consumer, partition_id)
)`

// acquire takes all partitions and finds where to go on in each.
func (c *Consumer) acquire(ctx context.Context) error {
	for p := range c.opts.Topic.Partitions {
		var topicID string
		var next int64
		err := c.opts.DB.Write(ctx, func(tx *sqldb.Tx) error {
			start, _, err := c.opts.Log.Bounds(ctx, c.opts.Topic.Name, p)
			if err != nil {
				return err
			}
			err = tx.QueryRow(ctx, `UPDATE consumer_partitions SET epoch = epoch + 1 WHERE consumer = $1 AND partition_id = $2
				RETURNING epoch, topic_id, next_offset`, c.opts.Name, p).Scan(&c.epochs[p], &topicID, &next)
			if !errors.Is(err, sql.ErrNoRows) {
				return err
			}
			c.epochs[p], topicID, next = 1, c.opts.Topic.ID, start
			_, err = tx.Exec(ctx, `INSERT INTO consumer_partitions (consumer, partition_id, epoch, topic_id, next_offset) VALUES ($1, $2, $3, $4, $5)`,
				c.opts.Name, p, 1, topicID, next)
			return err
		})
		if err == nil {
			c.offsets[p], err = c.place(ctx, p, topicID, next)
		}
		if err == nil && c.opts.OnAcquire != nil {
			err = c.opts.OnAcquire(ctx, p)
		}
		if err != nil {
			return fmt.Errorf("consumer %s: %s/%d: %w", c.opts.Name, c.opts.Topic.Name, p, err)
		}
	}
	return nil
}

// place checks a stored offset against the topic as it is (design rule 2).
func (c *Consumer) place(ctx context.Context, partition int, topicID string, next int64) (int64, error) {
	if topicID != c.opts.Topic.ID {
		return 0, fmt.Errorf("the topic is not the one that was read before (it is %q, was %q): an operator has to decide", c.opts.Topic.ID, topicID)
	}
	start, end, err := c.opts.Log.Bounds(ctx, c.opts.Topic.Name, partition)
	switch {
	case err != nil:
		return 0, err
	case next < start:
		return 0, fmt.Errorf("the log starts at offset %d, but %d is needed: an operator has to decide", start, next)
	case next > end && c.opts.Derived:
		return end, nil
	case next > end:
		return 0, fmt.Errorf("the log ends at offset %d, but was read up to %d: an operator has to decide", end, next)
	}
	return next, nil
}
