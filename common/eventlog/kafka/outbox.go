package kafka

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/IBM/sarama"

	"github.com/matrix-org/dendrite/common/eventlog"
)

// outbox is what is to be appended to a partition; producer.mu guards it.
type outbox struct {
	log *Log
	p   *partition

	queue []entry // not sent
	sent  *batch  // its outcome is not known yet; it goes before the queue
	// routed tells that the router or a sender has the outbox: it has something
	// to send.
	routed   bool
	sender   *sender // the leader's, as far as is known
	failures int     // since a batch was last acknowledged

	// Who the partition's broker knows us as, to find batches that it has already.
	identified bool
	producerID int64
	epoch      int16
	sequence   int32
}

// entry is a message on its way.
type entry struct {
	call  *appendCall
	index int // among the call's messages
	time  time.Time
	key   []byte
	value []byte
}

// batch is what is appended to a partition at once.
type batch struct {
	entries []entry
	records *sarama.RecordBatch
	tries   int
}

// appendCall is one call of Append. It is done when the outcome of all its
// messages is known; the caller may have stopped waiting by then.
type appendCall struct {
	pending   atomic.Int64
	abandoned atomic.Bool // what was not sent need not be
	offsets   []int64
	mu        sync.Mutex
	err       error // the first
	weight    int64
	done      chan struct{}
}

// producer owns the outboxes and the brokers' senders.
type producer struct {
	log  *Log
	room *semaphore.Weighted // of BufferBytes

	mu      sync.Mutex
	senders map[int32]*sender
}

func newProducer(l *Log) *producer {
	return &producer{log: l, room: semaphore.NewWeighted(l.o.BufferBytes), senders: map[int32]*sender{}}
}

// entryOverhead is what a message on its way costs beside its bytes.
const entryOverhead = 256

// put queues a call's messages, in their order.
func (r *producer) put(call *appendCall, messages []eventlog.Message, targets []*partition) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, m := range messages {
		o := &targets[i].outbox
		if o.p.topic.gone.Load() { // before purge has the lock, or after: nobody else looks
			r.settle(call, fmt.Errorf("%w: %s", eventlog.ErrUnknownTopic, m.Topic))
			continue
		}
		o.queue = append(o.queue, entry{call, i, now, m.Key, m.Value})
		if !o.routed {
			o.routed = true
			r.dispatch(o)
		}
	}
}

// dispatch hands an outbox to the sender that had it last, or to the router.
func (r *producer) dispatch(o *outbox) {
	if o.sender != nil {
		o.sender.push(o)
		return
	}
	r.log.router.find(o, o.failures)
}

// settle notes the outcome of one of a call's messages.
func (r *producer) settle(call *appendCall, err error) {
	if err != nil {
		call.mu.Lock()
		if call.err == nil {
			call.err = err
		}
		call.mu.Unlock()
	}
	if call.pending.Add(-1) == 0 {
		r.room.Release(call.weight)
		close(call.done)
	}
}

// of implements routed.
func (o *outbox) of() *partition { return o.p }

// assign implements routed.
func (o *outbox) assign(leader int32) {
	r := o.log.producer
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.senders[leader]
	if s == nil {
		s = newSender(r, leader)
		if !r.log.spawn(s.run) {
			return
		}
		r.senders[leader] = s
	}
	o.sender = s
	s.push(o)
}

// lose looks for the leader again. producer.mu is held.
func (o *outbox) lose() {
	o.sender = nil
	o.failures++
	o.log.router.find(o, o.failures)
}

// Bounds of what is sent at once. A batch with what Kafka adds to it stays below
// maxMessageBytes.
const (
	maxBatchBytes   = maxMessageBytes - 1024
	maxRequestBytes = 8 << 20
	recordOverhead  = 32 // lengths, deltas, no headers
)

// next is the batch to be sent now; nil when there is nothing. producer.mu is held.
func (o *outbox) next() *batch {
	if o.sent != nil {
		return o.sent
	}
	b, bytes, taken := &batch{}, 0, 0
	for _, e := range o.queue {
		if e.call.abandoned.Load() {
			taken++
			o.log.producer.settle(e.call, eventlog.ErrUnavailable)
			continue
		}
		size := len(e.key) + len(e.value) + recordOverhead
		if len(b.entries) > 0 && bytes+size > maxBatchBytes {
			break
		}
		taken++
		bytes += size
		b.entries = append(b.entries, e)
	}
	clear(o.queue[:taken]) // the array lives on
	if o.queue = o.queue[taken:]; len(o.queue) == 0 {
		o.queue = nil
	}
	if len(b.entries) == 0 {
		o.routed = false
		return nil
	}
	o.sent = b
	return b
}

// requeue puts a batch that was surely not appended back, to be sent anew.
func (o *outbox) requeue() {
	o.queue = append(o.sent.entries, o.queue...)
	o.sent = nil
}

// finish ends the batch that was sent. producer.mu is held.
func (o *outbox) finish(offset int64, err error) {
	b, r := o.sent, o.log.producer
	o.sent = nil
	if err == nil {
		o.failures = 0
		o.sequence = (o.sequence + int32(len(b.entries))) & 0x7fffffff
		r.log.metrics.appended.Add(float64(len(b.entries)))
		r.log.metrics.batches.Inc()
	} else {
		o.identified = false // what the broker has seen of us is not sure
	}
	for i, e := range b.entries {
		e.call.offsets[e.index] = offset + int64(i)
		r.settle(e.call, err)
	}
}

// purge fails what waits for a topic that is gone.
func (r *producer) purge(t *topic) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range t.partitions {
		p.outbox.fail(fmt.Errorf("%w: %s", eventlog.ErrUnknownTopic, t.info.Name))
	}
}

func (o *outbox) fail(err error) {
	if o.sent != nil {
		o.finish(0, err)
	}
	for _, e := range o.queue {
		o.log.producer.settle(e.call, err)
	}
	o.queue = nil
}

// flushWithin bounds how long Close waits for brokers: less than a process
// has to stop.
const flushWithin = 5 * time.Second

// flush waits until nothing is on its way, for a while.
func (r *producer) flush() {
	ctx, cancel := context.WithTimeout(context.Background(), min(r.log.o.AppendTimeout, flushWithin))
	defer cancel()
	if r.room.Acquire(ctx, r.log.o.BufferBytes) == nil {
		r.room.Release(r.log.o.BufferBytes)
	}
}

// close ends the senders, whatever they wait for, and fails what is left.
func (r *producer) close() {
	r.mu.Lock()
	senders := make([]*sender, 0, len(r.senders))
	for _, s := range r.senders {
		senders = append(senders, s)
	}
	r.mu.Unlock()
	for _, s := range senders {
		s.conn.drop(nil)
	}
	r.log.mu.RLock()
	defer r.log.mu.RUnlock()
	for _, t := range r.log.topics {
		r.mu.Lock()
		for _, p := range t.partitions {
			p.outbox.fail(eventlog.ErrClosed)
		}
		r.mu.Unlock()
	}
}
