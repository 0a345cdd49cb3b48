package kafka

import (
	"sort"
	"time"

	"github.com/IBM/sarama"

	"github.com/matrix-org/dendrite/common/eventlog"
)

// tail is the end of a partition in memory, for all readers of this process; the
// topic's mutex guards it.
type tail struct {
	log *Log
	p   *partition

	active  bool // it is being followed
	chunks  []chunk
	base    int64 // the tail holds every record from here on
	next    int64 // up to here
	bytes   int64
	waiting int       // readers
	used    time.Time // by a reader who did not wait
	// failures since records were last looked for with success.
	failures int
}

// chunk is what one fetch brought. Its records share memory, so it is dropped
// as a whole.
type chunk struct {
	next    int64 // behind it, gaps included
	records []eventlog.Record
	bytes   int64
}

// newChunk takes the records from an offset on out of what a broker sent, which
// holds whole batches. What is not ours to see (control records) is passed over.
func newChunk(sets []*sarama.Records, from int64) chunk {
	c, bytes, count := chunk{next: from}, 0, 0
	each := func(f func(*sarama.RecordBatch, *sarama.Record)) {
		for _, set := range sets {
			b := set.RecordBatch
			if b == nil || b.PartialTrailingRecord || b.LastOffset() < from {
				continue
			}
			c.next = max(c.next, b.LastOffset()+1)
			if b.Control {
				continue
			}
			for _, r := range b.Records {
				if b.FirstOffset+r.OffsetDelta >= from {
					f(b, r)
				}
			}
		}
	}
	each(func(_ *sarama.RecordBatch, r *sarama.Record) {
		count++
		bytes += len(r.Key) + len(r.Value)
	})
	// The records are copied together: what a broker sends at once is of many
	// partitions, and would stay for as long as any record of it.
	memory := make([]byte, 0, bytes)
	keep := func(b []byte) []byte {
		begin := len(memory)
		memory = append(memory, b...)
		return memory[begin:len(memory):len(memory)]
	}
	c.records = make([]eventlog.Record, 0, count)
	each(func(b *sarama.RecordBatch, r *sarama.Record) {
		at := b.FirstTimestamp.Add(r.TimestampDelta)
		if b.LogAppendTime {
			at = b.MaxTimestamp
		}
		c.records = append(c.records, eventlog.Record{Offset: b.FirstOffset + r.OffsetDelta, Time: at, Key: keep(r.Key), Value: keep(r.Value)})
	})
	c.bytes = int64(bytes + eventlog.RecordOverhead*(count+1))
	return c
}

// look returns records that the tail holds from an offset on, and whether a
// reader of that offset can wait for the tail to grow. Neither: it has to read
// past the tail.
func (t *tail) look(from int64, maxBytes int) (out []eventlog.Record, wait bool) {
	if !t.active || from < t.base || from > t.next {
		return nil, false
	}
	bytes := 0
	at := sort.Search(len(t.chunks), func(i int) bool { return t.chunks[i].next > from })
	for ; at < len(t.chunks); at++ {
		records := t.chunks[at].records
		if len(out) == 0 {
			records = records[sort.Search(len(records), func(i int) bool { return records[i].Offset >= from }):]
		}
		n := 0
		n, bytes = take(records, bytes, maxBytes, len(out) == 0)
		out = append(out, records[:n]...)
		if n < len(records) {
			break
		}
	}
	return out, len(out) == 0
}

// take counts the records that fit: with first at least one.
func take(records []eventlog.Record, bytes, maxBytes int, first bool) (n, sum int) {
	for n < len(records) && (first && n == 0 || bytes+len(records[n].Value) <= maxBytes) {
		bytes += len(records[n].Value)
		n++
	}
	return n, bytes
}

// add appends what was fetched, and drops what there is no room for.
func (t *tail) add(c chunk, limit int64) {
	if c.next <= t.next {
		return
	}
	t.next = c.next
	if len(c.records) > 0 {
		t.chunks = append(t.chunks, c)
		t.bytes += c.bytes
	}
	t.shrink(limit)
}

// shrink drops the oldest chunks, but not the last.
func (t *tail) shrink(limit int64) {
	drop := 0
	for ; t.bytes > limit && drop < len(t.chunks)-1; drop++ {
		t.bytes -= t.chunks[drop].bytes
		t.base = t.chunks[drop].next
		t.chunks[drop] = chunk{}
	}
	t.chunks = t.chunks[drop:]
}

// reset ends the tail; it is not followed any more.
func (t *tail) reset() {
	if t.active {
		t.active = false
		t.log.fetchers.followed.Add(-1)
	}
	t.chunks, t.bytes = nil, 0
}

// of implements routed.
func (t *tail) of() *partition { return t.p }

// assign implements routed.
func (t *tail) assign(leader int32) { t.log.fetchers.follow(leader, t) }
