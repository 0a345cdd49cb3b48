package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"

	"github.com/matrix-org/dendrite/common/eventlog"
)

// Read implements eventlog.Log. While no broker answers it waits, as it does
// for records.
func (l *Log) Read(ctx context.Context, name string, number int, from int64, maxBytes int) ([]eventlog.Record, error) {
	out, err := l.ReadMany(ctx, name, map[int]int64{number: from}, maxBytes)
	return out[number], err
}

// ReadMany implements eventlog.Log.
func (l *Log) ReadMany(ctx context.Context, name string, from map[int]int64, maxBytes int) (map[int][]eventlog.Record, error) {
	r := &reading{log: l, ctx: ctx, from: from, maxBytes: maxBytes, at: map[*partition]int64{}, ahead: map[*partition]bool{}}
	for number, offset := range from {
		p, err := l.partition(name, number)
		if err != nil {
			return nil, err
		}
		if offset < 0 {
			return nil, fmt.Errorf("%w: %s/%d at %d", eventlog.ErrOffsetOutOfRange, name, number, offset)
		}
		r.at[p], r.topic = offset, p.topic
	}
	if r.topic == nil { // nothing to wait for but ctx
		<-ctx.Done()
		return nil, ctx.Err()
	}
	for {
		out, done, err := r.turn()
		if done || err != nil {
			return out, err
		}
	}
}

// reading is one call of ReadMany.
type reading struct {
	log      *Log
	ctx      context.Context
	topic    *topic
	from     map[int]int64
	maxBytes int
	at       map[*partition]int64 // past gaps
	// ahead are those that are surely at the partition's end though the tail has
	// not come that far.
	ahead    map[*partition]bool
	failures int
}

// turn looks into the tails and reads past them what they do not hold; when
// there is nothing, it waits for the tails to grow.
func (r *reading) turn() (out map[int][]eventlog.Record, done bool, err error) {
	out = map[int][]eventlog.Record{}
	behind, wake := r.look(out)
	if len(behind) > 0 {
		if err := r.past(behind, out); err != nil {
			r.stay(-1)
			return nil, true, err
		}
	}
	if len(out) > 0 || len(behind) > 0 { // then the tails are to be looked at again
		r.stay(-1)
		return out, len(out) > 0, nil
	}
	r.log.fetchers.wanted()
	select {
	case <-wake:
	case <-r.ctx.Done():
		err = r.ctx.Err()
	case <-r.log.ctx.Done():
		err = eventlog.ErrClosed
	}
	r.stay(-1)
	return nil, err != nil, err
}

// look takes what the tails hold, returns where they hold nothing, and counts
// the reader as one that waits.
func (r *reading) look(out map[int][]eventlog.Record) (behind []*partition, wake chan struct{}) {
	now := time.Now()
	r.topic.mu.Lock()
	defer r.topic.mu.Unlock()
	for p, from := range r.at {
		t := &p.tail
		t.waiting++
		t.used = now
		records, wait := t.look(from, r.maxBytes)
		switch {
		case len(records) > 0:
			out[int(p.number)] = records
		case !wait && !(r.ahead[p] && t.active && from > t.next):
			behind = append(behind, p)
		}
	}
	return behind, r.topic.wake.Channel()
}

// stay changes the number of readers that wait.
func (r *reading) stay(by int) {
	r.topic.mu.Lock()
	defer r.topic.mu.Unlock()
	for p := range r.at {
		p.tail.waiting += by
	}
}

// past reads from brokers what the tails do not hold. Failures that may pass
// are waited for.
func (r *reading) past(behind []*partition, out map[int][]eventlog.Record) error {
	if r.topic.gone.Load() {
		return fmt.Errorf("%w: %s", eventlog.ErrUnknownTopic, r.topic.info.Name)
	}
	leaders := map[int32][]*partition{}
	var failed error
	for _, p := range behind {
		leader, err := r.log.client.Leader(p.topic.name, p.number)
		if err != nil {
			failed = err
			continue
		}
		leaders[leader.ID()] = append(leaders[leader.ID()], p)
	}
	for id, partitions := range leaders {
		if err := r.ask(id, partitions, out); err != nil {
			if errors.Is(err, sarama.ErrOffsetOutOfRange) {
				_, e := outside(r.ctx, r.log, func() (struct{}, error) { return struct{}{}, r.log.verify(r.topic) })
				if e != nil && !transient(e) {
					err = e
				}
			}
			if !transient(err) {
				return fmt.Errorf("kafka: reading %s: %w", r.topic.info.Name, worded(err))
			}
			failed = err
		}
	}
	if failed == nil || len(out) > 0 {
		r.failures = 0
		return nil
	}
	if err := r.ctx.Err(); err != nil {
		return err
	}
	r.log.suspect()
	r.log.logger.WithError(failed).WithField("topic", r.topic.name).Debug("A read is tried again")
	wait := min(minBackoff<<min(r.failures, 10), maxBackoff)
	r.failures++
	if err := pause(r.ctx, wait); err != nil {
		return err
	}
	_, err := outside(r.ctx, r.log, func() (struct{}, error) { return struct{}{}, r.log.client.RefreshMetadata(r.topic.name) })
	if r.log.isClosed() {
		return eventlog.ErrClosed
	}
	if r.ctx.Err() != nil {
		return err
	}
	return nil
}

// ask asks a broker once for records of partitions.
func (r *reading) ask(id int32, partitions []*partition, out map[int][]eventlog.Record) error {
	r.log.metrics.readBehind.Inc()
	request := fetchRequest(0)
	bytes := int32(min(max(r.maxBytes, 32<<10), 4<<20))
	for _, p := range partitions {
		request.AddBlock(p.topic.name, p.number, r.at[p], bytes, -1)
	}
	answer, err := r.log.fetchBehind(r.ctx, id, request)
	var damaged sarama.PacketDecodingError
	if errors.As(err, &damaged) && len(partitions) > 1 {
		return r.each(id, partitions, out) // to tell whose it is
	}
	if err != nil {
		return err
	}
	var starved []*partition
	for _, p := range partitions {
		block := answer.GetBlock(p.topic.name, p.number)
		if block == nil {
			return sarama.ErrIncompleteResponse
		}
		if !errors.Is(block.Err, sarama.ErrNoError) {
			return fmt.Errorf("%s/%d at %d: %w", p.topic.info.Name, p.number, r.at[p], block.Err)
		}
		c := newChunk(block.RecordsSet, r.at[p])
		switch {
		case len(c.records) > 0:
			n, _ := take(c.records, 0, r.maxBytes, true)
			out[int(p.number)] = c.records[:n:n]
		case c.next > r.at[p]:
			r.at[p] = c.next // a gap
		case r.at[p] >= block.HighWaterMarkOffset:
			r.atEnd(p)
		default:
			starved = append(starved, p) // the bounds of the answer left it no batch
		}
	}
	if len(starved) > 0 && len(partitions) > 1 {
		return r.each(id, starved, out)
	}
	return nil
}

// each asks for each partition by itself: then at least one batch is sent.
func (r *reading) each(id int32, partitions []*partition, out map[int][]eventlog.Record) error {
	for _, p := range partitions {
		if err := r.ask(id, []*partition{p}, out); err != nil {
			return err
		}
	}
	return nil
}

// atEnd has the partition followed from here, where the reader waits.
func (r *reading) atEnd(p *partition) {
	r.topic.mu.Lock()
	defer r.topic.mu.Unlock()
	t := &p.tail
	if t.active {
		r.ahead[p] = true
		return
	}
	if r.topic.gone.Load() {
		return
	}
	t.active, t.base, t.next, t.failures = true, r.at[p], r.at[p], 0
	r.log.fetchers.followed.Add(1)
	r.log.router.find(t, 0)
}

// fetchBehind fetches over the connection for who is behind.
func (l *Log) fetchBehind(ctx context.Context, id int32, request *sarama.FetchRequest) (*sarama.FetchResponse, error) {
	c := l.fetchers.connBehind(id)
	return outside(ctx, l, func() (*sarama.FetchResponse, error) {
		broker, err := c.get()
		if err != nil {
			l.metrics.failed("fetch", err)
			return nil, err
		}
		answer, err := broker.Fetch(request)
		l.metrics.answered(answer, err)
		if err != nil {
			c.drop(broker)
		}
		return answer, err
	})
}
