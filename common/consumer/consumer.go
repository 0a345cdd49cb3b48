package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/sqldb"
)

// Options say what to consume, and where to store how far.
type Options struct {
	// Name tells the consumers of one database apart.
	Name  string
	Topic eventlog.TopicInfo
	// Derived topics may end earlier after a loss of power: a consumer that had
	// read further goes on at the end, and its handler drops what it knows by
	// the records' own numbers. Of other topics that is an error.
	Derived bool
	// Trim lets the log drop, once its retention allows, what this consumer has
	// stored safely: for the one consumer that restores from the topic.
	Trim    bool
	Log     eventlog.Log
	DB      *sqldb.DB
	Logger  *logrus.Entry
	Metrics prometheus.Registerer
	// OnAcquire is called for each partition before its first batch. May be nil.
	OnAcquire func(ctx context.Context, partition int) error
}

// Record is a record of a Batch.
type Record struct {
	eventlog.Record
	Partition int
}

// Batch is a stretch of records of each of some partitions.
type Batch struct {
	// Records are in order within each partition, partitions one after another.
	Records []Record

	c         *Consumer
	next      map[int]int64
	committed bool
}

// ErrFenced says that another instance has taken a partition.
var ErrFenced = errors.New("consumer: partition was taken over")

// Commit stores in the handler's transaction how far has been read. The
// handler calls it, or Skip, exactly once. ErrFenced says that nothing may be stored.
func (b *Batch) Commit(ctx context.Context, tx *sqldb.Tx) error {
	for partition, next := range b.next {
		res, err := tx.Exec(ctx, `UPDATE consumer_partitions SET next_offset = $1 WHERE consumer = $2 AND partition_id = $3 AND epoch = $4`,
			next, b.c.opts.Name, partition, b.c.epochs[partition])
		if err != nil {
			return fmt.Errorf("consumer: commit: %w", err)
		}
		if n, err := res.RowsAffected(); err != nil || n != 1 {
			return errors.Join(fmt.Errorf("%w: %s/%d", ErrFenced, b.c.opts.Topic.Name, partition), err)
		}
	}
	b.committed = true
	return nil
}

// Skip says instead of Commit that the batch had no effect: what has been read
// is stored with a later batch, and read again after a crash before that.
func (b *Batch) Skip() { b.committed = true }

// Bounds of a batch and of the pauses after a failure.
const (
	batchBytes   = 256 << 10 // of each partition
	safePointGap = 30 * time.Second
	firstBackOff = 50 * time.Millisecond
	maxBackOff   = 10 * time.Second
)

// Consumer consumes a topic.
type Consumer struct {
	opts    Options
	epochs  []int64
	offsets map[int]int64 // what to read next
	metrics metrics
}

// New makes a consumer and the table in which it keeps its offsets.
func New(ctx context.Context, opts Options) (*Consumer, error) {
	c := &Consumer{opts: opts, epochs: make([]int64, opts.Topic.Partitions), offsets: map[int]int64{}}
	if err := c.metrics.register(opts); err != nil {
		return nil, fmt.Errorf("consumer: %w", err)
	}
	err := opts.DB.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Script(ctx, schema)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("consumer: schema: %w", err)
	}
	return c, nil
}

// Run acquires the partitions and hands batches to the handler until ctx is
// done; what has begun is finished first. A batch whose handler fails is handed
// over again, from the offset that is stored, after a growing pause.
func (c *Consumer) Run(ctx context.Context, handle func(context.Context, *Batch) error) error {
	if err := c.acquire(ctx); err != nil {
		return err
	}
	pause, safe := firstBackOff, time.Now()
	for ctx.Err() == nil {
		batch, err := c.read(ctx)
		if err == nil {
			err = c.handle(context.WithoutCancel(ctx), batch, handle)
		}
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, ErrFenced), errors.Is(err, eventlog.ErrClosed), errors.Is(err, eventlog.ErrOffsetOutOfRange):
			return fmt.Errorf("consumer %s: %w", c.opts.Name, err)
		case err != nil:
			c.metrics.failures.Inc()
			c.opts.Logger.WithError(err).WithField("topic", c.opts.Topic.Name).WithField("retry_in", pause).Error("Batch failed")
			wait(ctx, pause)
			pause = min(2*pause, maxBackOff)
			continue
		}
		pause = firstBackOff
		if c.opts.Trim && time.Since(safe) > safePointGap {
			safe = time.Now()
			c.trim(ctx)
		}
	}
	return nil
}

// handle has one batch handled.
func (c *Consumer) handle(ctx context.Context, batch *Batch, f func(context.Context, *Batch) error) error {
	if err := f(ctx, batch); err != nil {
		return err
	}
	if !batch.committed {
		return errors.New("consumer: the handler did not commit its batch")
	}
	for partition, next := range batch.next {
		c.offsets[partition] = next
	}
	c.metrics.records.Add(float64(len(batch.Records)))
	return nil
}

// read waits for records of any partition.
func (c *Consumer) read(ctx context.Context) (*Batch, error) {
	many, ok := c.opts.Log.(eventlog.MultiReader)
	if !ok {
		return nil, fmt.Errorf("consumer: %T cannot read several partitions at once", c.opts.Log)
	}
	got, err := many.ReadMany(ctx, c.opts.Topic.Name, c.offsets, batchBytes)
	if err != nil {
		return nil, err
	}
	b := &Batch{c: c, next: map[int]int64{}}
	partitions := make([]int, 0, len(got))
	for p := range got {
		partitions = append(partitions, p)
	}
	slices.Sort(partitions)
	for _, p := range partitions {
		for _, r := range got[p] {
			b.Records = append(b.Records, Record{Record: r, Partition: p})
			b.next[p] = r.Offset + 1
		}
	}
	return b, nil
}

// trim makes what has been done safe and lets the log drop what led to it.
// Failures leave the log as it is; the next turn tries again.
func (c *Consumer) trim(ctx context.Context) {
	offsets := make(map[int]int64, len(c.offsets))
	for p, o := range c.offsets {
		offsets[p] = o
	}
	err := c.opts.DB.SafePoint(ctx)
	for p, o := range offsets {
		if err == nil {
			err = c.opts.Log.Trim(ctx, c.opts.Topic.Name, p, o)
		}
	}
	if err != nil && ctx.Err() == nil {
		c.opts.Logger.WithError(err).WithField("topic", c.opts.Topic.Name).Warn("No safe point")
	}
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
