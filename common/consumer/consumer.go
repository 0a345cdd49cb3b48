package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/lease"
	"github.com/matrix-org/dendrite/common/sqldb"
)

var (
	// ErrTopicChanged says that the offsets belong to another topic of this name.
	ErrTopicChanged = errors.New("consumer: the topic is not the one that was read before")
	// ErrTopicShorter says that the log ends before what was read of it.
	ErrTopicShorter = errors.New("consumer: the topic ends before what was read of it")
	// ErrRecordsGone says that the log dropped records that were not read.
	ErrRecordsGone = errors.New("consumer: records were dropped before they were read")
	// ErrFenced says that a partition has another owner; its effects were not committed.
	ErrFenced = lease.ErrFenced
)

// Options say what to consume. Name, Topic, Log, DB and Logger are needed.
type Options struct {
	// Name names the consumer; its instances share the topic's partitions.
	Name  string
	Topic eventlog.TopicInfo
	// Derived topics may end earlier after a loss of power: a consumer that had
	// read further goes on at the end, and its handler drops what it knows by
	// the records' own numbers. Of other topics that is an error.
	Derived bool
	Log     eventlog.Log
	DB      *sqldb.DB
	// Address is where this instance answers queries about its partitions.
	Address string
	// LeaseTTL is about how long a dead instance keeps its partitions;
	// default lease.DefaultTTL.
	LeaseTTL time.Duration
	// MaxRecords and MaxBytes (of values) bound a batch; defaults 1,000 and
	// 4 MiB. A single record may be larger.
	MaxRecords int
	MaxBytes   int
	// Gather is a pause before a batch, for more records to come, where those before
	// had several: a batch costs most of what one record does. An instance that has
	// a part of the partitions gets as small a part of the records, and pauses for
	// as much longer (up to GatherMost, default 20 ms), so that all instances together
	// make no more batches than one would. Who comes alone never waits, and Hurry ends a
	// pause. It is for logs that other processes share.
	Gather, GatherMost time.Duration
	// OnAcquire is called before the first batch of a partition that this
	// instance takes (design rule 4: publish what is missing), and again when it
	// turned out that a call of the handler that failed had committed after all:
	// what is in memory of the partition may be older than the database. If it
	// fails it is called again later; may be nil.
	OnAcquire func(ctx context.Context, partition int) error
	// Rebuild is called in place of ErrRecordsGone, for a partition that the log
	// has dropped records of before they were read, or before there was anything
	// to read them into: once it has brought the view to where it would be, the
	// consumer goes on at the topic's start. It must be idempotent; may be nil.
	Rebuild func(ctx context.Context, partition int) error
	// OnRelease ends what OnAcquire began, after the last batch; may be nil.
	OnRelease func(partition int)
	// Trim lets the log drop what was read, up to the safe point: for the
	// consumer that decides how long the topic's records are needed.
	Trim bool
	// SafePointEvery is the time between safe points; default 10 seconds.
	SafePointEvery time.Duration
	Logger         *logrus.Entry
	Metrics        prometheus.Registerer // may be nil
}

// Handler does what a batch says: computes, commits effects and batch.Commit in
// one transaction, then publishes. It returns an error if the commit failed or
// if it wants to be called again. When the consumer stops, a call that has begun
// is given some seconds to finish before its context is done.
type Handler = func(ctx context.Context, batch *Batch) error

// Group names the consumer's leases, for lease.Owners.
func Group(name, topic string) string { return name + "/" + topic }

// Consumer reads a topic.
type Consumer struct {
	o       Options
	sole    bool // no other instance can be there
	leases  *lease.Manager
	metrics *metrics
	// owned is the loop's alone.
	owned map[int]*partition
	// serving are the epochs in which partitions were made ready; else notServing.
	serving []atomic.Int64
	// first is the partition that the next batch begins with, so that each has
	// its turn.
	first int
	// recent is about how many records the last batches had.
	recent float64
	hurry  chan struct{} // ends a pause
	// trimmed is how far the log may drop, by the last safe point.
	trimmed map[int]int64
	// reports end before Run does; one at a time.
	reports   sync.WaitGroup
	reporting atomic.Bool
}

// notServing is no epoch.
const notServing = -1

// New makes a Consumer, with its tables. It starts nothing.
func New(ctx context.Context, o Options) (*Consumer, error) {
	if o.MaxRecords == 0 {
		o.MaxRecords = 1000
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 4 << 20
	}
	if o.GatherMost == 0 {
		o.GatherMost = maxGather
	}
	if o.SafePointEvery == 0 {
		o.SafePointEvery = 10 * time.Second
	}
	o.Logger = o.Logger.WithFields(logrus.Fields{"consumer": o.Name, "topic": o.Topic.Name})
	sole := eventlog.IsExclusive(o.Log)
	leases, err := lease.New(ctx, lease.Options{
		DB: o.DB, Group: Group(o.Name, o.Topic.Name), Partitions: o.Topic.Partitions, Address: o.Address,
		TTL: o.LeaseTTL, Sole: sole, Logger: o.Logger, Metrics: o.Metrics,
	})
	if err != nil {
		return nil, fmt.Errorf("consumer: %s: %w", o.Name, err)
	}
	m, err := newMetrics(o)
	if err != nil {
		return nil, fmt.Errorf("consumer: %s: %w", o.Name, err)
	}
	c := &Consumer{o: o, sole: sole, leases: leases, metrics: m, owned: map[int]*partition{}, trimmed: map[int]int64{}, hurry: make(chan struct{}, 1),
		serving: make([]atomic.Int64, o.Topic.Partitions)}
	for p := range c.serving {
		c.serving[p].Store(notServing)
	}
	return c, nil
}

// Valid tells whether this instance surely owns the partition now, and
// OnAcquire has prepared it, so that it may answer for it from memory.
func (c *Consumer) Valid(partition int) bool {
	epoch, ok := c.leases.Epoch(partition)
	return ok && c.serving[partition].Load() == epoch
}

// Hurry says that somebody waits for what the next batch does.
func (c *Consumer) Hurry() {
	select {
	case c.hurry <- struct{}{}:
	default:
	}
}

// Run consumes until ctx is done, then gives the partitions back and returns
// nil. It returns an error when an operator has to decide.
func (c *Consumer) Run(ctx context.Context, handle Handler) error {
	group, inner := errgroup.WithContext(ctx)
	group.Go(func() error {
		c.leases.Run(inner)
		return nil
	})
	group.Go(func() error { return c.safePoints(inner) })
	group.Go(func() error { return c.loop(inner, handle) })
	err := group.Wait()
	for _, p := range c.owned {
		c.forget(p)
	}
	leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), lease.DefaultTTL)
	defer cancel()
	if e := c.leases.Leave(leave); e != nil { // they run out by themselves
		c.o.Logger.WithError(e).Warn("Partitions could not be handed over")
	}
	if err != nil && (ctx.Err() == nil || stops(err)) {
		return fmt.Errorf("consumer: %s: %w", c.o.Name, err)
	}
	return nil
}

// stops tells whether an error is an operator's to resolve.
func stops(err error) bool {
	return errors.Is(err, ErrTopicChanged) || errors.Is(err, ErrTopicShorter) || errors.Is(err, ErrRecordsGone) ||
		errors.Is(err, ErrFenced) || errors.Is(err, eventlog.ErrClosed) || errors.Is(err, eventlog.ErrUnknownTopic)
}

// Stored returns the offset to read next of each partition, as it is committed;
// -1 where nothing is.
func (c *Consumer) Stored(ctx context.Context) ([]int64, error) { return c.leases.Stored(ctx) }

// Owners returns who has each partition, as far as leases hold.
func (c *Consumer) Owners(ctx context.Context) (map[int]lease.Owner, error) {
	return lease.Owners(ctx, c.o.DB, Group(c.o.Name, c.o.Topic.Name))
}
