package eventlog

import (
	"crypto/rand"
	"sync"
	"time"
)

// topic is an open topic of an embedded log.
type topic struct {
	id         string
	durability Durability
	retention  time.Duration

	mu         sync.Mutex
	partitions []*partition
	// wake is for when any partition gets records.
	wake Wakeup
}

// partition is guarded by its topic's mutex.
type partition struct {
	number int // among the stored partitions of all topics; -1 when Ephemeral
	start  int64
	end    int64 // of what readers see
	trimTo int64
	// tail holds the last records, up to end.
	tail     []Record
	bytes    int64
	maxBytes int64
	// next is the offset of the next record to be committed: the commit loop's.
	next int64
}

func newID() string { return rand.Text() }

// RecordOverhead is what a record in memory costs beside its bytes.
const RecordOverhead = 96

// held is what a record holds in memory: what its slices may grow to counts, not
// what they show.
func (r *Record) held() int64 { return int64(cap(r.Key)+cap(r.Value)) + RecordOverhead }

// show adds records to what readers see, and drops the oldest of the tail that
// have no room any more.
func (t *topic) show(p *partition, records ...Record) {
	for _, r := range records {
		p.tail = append(p.tail, r)
		p.bytes += r.held()
		p.end = r.Offset + 1
	}
	drop := 0
	for p.bytes > p.maxBytes && drop < len(p.tail)-1 {
		r := &p.tail[drop]
		p.bytes -= r.held()
		*r = Record{}
		drop++
	}
	if drop > 0 {
		p.tail = p.tail[drop:]
		if t.durability == Ephemeral {
			p.start = p.tail[0].Offset
		}
	}
}

// fromTail returns records from an offset that the tail holds.
func (p *partition) fromTail(from int64, maxBytes int) ([]Record, bool) {
	if len(p.tail) == 0 || from < p.tail[0].Offset || from >= p.end {
		return nil, false
	}
	rest := p.tail[from-p.tail[0].Offset:]
	n, bytes := 1, len(rest[0].Value)
	for n < len(rest) && bytes+len(rest[n].Value) <= maxBytes {
		bytes += len(rest[n].Value)
		n++
	}
	return append([]Record(nil), rest[:n]...), true
}
