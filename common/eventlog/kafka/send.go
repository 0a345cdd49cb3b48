package kafka

import (
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"
)

// produceWait is how long a broker may wait for other replicas; then the batch
// is sent again, which it knows by its sequence number.
const produceWait = 5 * time.Second

// sender appends to the partitions that a broker leads.
type sender struct {
	producer *producer
	conn     *conn
	wake     chan struct{}
	ready    []*outbox // that have something to send; producer.mu guards it
	pace     pace      // the loop's alone
}

func newSender(r *producer, id int32) *sender {
	return &sender{producer: r, conn: newConn(r.log, id), wake: make(chan struct{}, 1)}
}

// push makes the sender look at an outbox. producer.mu is held.
func (s *sender) push(o *outbox) {
	s.ready = append(s.ready, o)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *sender) run() {
	defer s.conn.drop(nil)
	for {
		select {
		case <-s.wake:
		case <-s.producer.log.ctx.Done():
			return
		}
		for s.producer.log.ctx.Err() == nil {
			s.pace.wait(s.producer.log.ctx, s.producer.log.o.Gather)
			sending := s.take()
			if len(sending) == 0 {
				break
			}
			s.send(sending)
			s.pace.did(s.producer.log.o.Gather, time.Now())
		}
	}
}

// sending is a batch with the outbox that it is of.
type sending struct {
	o *outbox
	b *batch
}

// take takes the next batch of each partition that has one, as far as a
// request's bound goes; the others are first the next time.
func (s *sender) take() []sending {
	s.producer.mu.Lock()
	defer s.producer.mu.Unlock()
	var out []sending
	bytes, at := 0, 0
	for ; at < len(s.ready) && bytes < maxRequestBytes; at++ {
		o := s.ready[at]
		b := o.next()
		if b == nil {
			continue
		}
		for _, e := range b.entries {
			bytes += len(e.key) + len(e.value) + recordOverhead
		}
		out = append(out, sending{o, b})
	}
	// Each that was taken comes back (answered, or lost to the router).
	s.ready = append([]*outbox(nil), s.ready[at:]...)
	return out
}

// send sends batches and deals with what becomes of each.
func (s *sender) send(all []sending) {
	broker, err := s.conn.get()
	if err == nil {
		err = s.identify(broker, all)
	}
	var answer *sarama.ProduceResponse
	if err == nil {
		request := &sarama.ProduceRequest{Version: 8, RequiredAcks: sarama.WaitForAll, Timeout: int32(produceWait.Milliseconds())}
		for _, a := range all {
			a.b.tries++
			request.AddBatch(a.o.p.topic.name, a.o.p.number, a.b.encoded(a.o))
		}
		answer, err = broker.Produce(request)
	}
	s.producer.log.metrics.sent(all, err)
	if err != nil {
		s.conn.drop(broker)
		s.producer.log.suspect()
	}
	s.producer.mu.Lock()
	defer s.producer.mu.Unlock()
	for _, a := range all {
		if a.o.sent != a.b {
			continue // its topic is gone, or the log is being closed
		}
		if err != nil {
			if a.b.tries == 0 { // it never left, so it may still be given up
				a.o.requeue()
			}
			s.producer.log.metrics.resent.Inc()
			a.o.lose()
			continue
		}
		if block := answer.GetBlock(a.o.p.topic.name, a.o.p.number); block != nil {
			s.answered(a, block)
			continue
		}
		a.o.lose()
	}
}

// identify gets the outboxes that have none an identity for idempotence. Each
// has its own, so that one can begin anew without the others.
func (s *sender) identify(broker *sarama.Broker, all []sending) error {
	for _, a := range all {
		if a.o.identified { // only this sender has the outbox now
			continue
		}
		answer, err := broker.InitProducerID(&sarama.InitProducerIDRequest{Version: 1, TransactionTimeout: time.Minute})
		if err != nil {
			return err
		}
		if !errors.Is(answer.Err, sarama.ErrNoError) {
			return answer.Err
		}
		s.producer.mu.Lock()
		a.o.identified, a.o.producerID, a.o.epoch, a.o.sequence = true, answer.ProducerID, answer.ProducerEpoch, 0
		s.producer.mu.Unlock()
	}
	return nil
}

// encoded is a batch as Kafka stores it; the same each time it is sent.
func (b *batch) encoded(o *outbox) *sarama.RecordBatch {
	if b.records != nil {
		return b.records
	}
	first := b.entries[0].time
	records := make([]sarama.Record, len(b.entries))
	list := make([]*sarama.Record, len(b.entries))
	latest := first
	for i, e := range b.entries {
		records[i] = sarama.Record{OffsetDelta: int64(i), TimestampDelta: e.time.Sub(first), Key: e.key, Value: notNil(e.value)}
		list[i] = &records[i]
		if e.time.After(latest) {
			latest = e.time
		}
	}
	b.records = &sarama.RecordBatch{
		Version: 2, LastOffsetDelta: int32(len(list) - 1), FirstTimestamp: first, MaxTimestamp: latest, Records: list,
		ProducerID: o.producerID, ProducerEpoch: o.epoch, FirstSequence: o.sequence,
	}
	return b.records
}

// notNil keeps an empty value from being none, which elsewhere means deletion.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// answered deals with what a broker says of a batch. producer.mu is held.
func (s *sender) answered(a sending, block *sarama.ProduceResponseBlock) {
	o := a.o
	s.producer.log.metrics.failed("append", block.Err)
	switch err := block.Err; {
	case errors.Is(err, sarama.ErrNoError):
		o.finish(block.Offset, nil)
	case forgotten[err] && a.b.tries == 1:
		// The broker does not know our sequence any more; this batch it has
		// surely not appended, so it goes again under a new identity.
		a.b.records, o.identified = nil, false
		o.requeue()
	case !forgotten[err] && transient(err):
		s.producer.log.metrics.resent.Inc()
		if o.failures == 0 {
			s.producer.log.logger.WithError(err).WithField("topic", o.p.topic.name).WithField("partition", o.p.number).Debug("A batch is sent again")
		}
		o.lose()
		return
	default:
		o.finish(0, fmt.Errorf("kafka: append to %s/%d: %w", o.p.topic.info.Name, o.p.number, worded(refusal(block))))
	}
	s.ready = append(s.ready, o) // looked at again, for what came meanwhile
}

// forgotten are errors about a sequence of batches that the broker does not
// have as we do: it lost its state, or its log the end.
var forgotten = map[sarama.KError]bool{
	sarama.ErrOutOfOrderSequenceNumber: true, sarama.ErrUnknownProducerID: true, sarama.ErrInvalidProducerEpoch: true,
	sarama.ErrInvalidProducerIDMapping: true, sarama.ErrDuplicateSequenceNumber: true,
}

func refusal(block *sarama.ProduceResponseBlock) error {
	if block.ErrorMessage != nil {
		return fmt.Errorf("%w: %s", block.Err, *block.ErrorMessage)
	}
	return block.Err
}
