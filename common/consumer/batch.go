package consumer

import (
	"context"
	"slices"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/lease"
	"github.com/matrix-org/dendrite/common/sqldb"
)

// Record is a record with its partition. It is shared: do not change it.
type Record struct {
	eventlog.Record
	Partition int
}

// Batch is what a handler does at once: records of several partitions, those of
// a partition together and in order.
type Batch struct {
	Records []Record

	c         *Consumer
	spans     []span
	committed bool // or skipped
	skipped   bool
}

// span is a partition's part of a batch.
type span struct {
	p       *partition
	from    lease.Lease // as stored: commits go on from its NextOffset
	next    int64
	records []Record
}

// Commit stores within the transaction of their effects that the batch's
// records were consumed. The handler calls it, or Skip. An error (ErrFenced among
// them) must make the transaction fail. Effects that are rows of tables of their own
// may be given to be stored beside it: see sqldb.Tx.ExecAll.
func (b *Batch) Commit(ctx context.Context, tx *sqldb.Tx, beside ...sqldb.Many) error {
	all := make([]lease.Consumed, len(b.spans))
	for i, s := range b.spans {
		all[i] = lease.Consumed{Lease: s.from, Next: s.next}
	}
	if err := b.c.leases.CommitAll(ctx, tx, b.c.o.Topic.ID, all, beside...); err != nil {
		return err
	}
	b.committed, b.skipped = true, false
	return nil
}

// Skip says instead of Commit that the batch had no effect: that it was read is
// stored with a later batch, and it is read again after a crash before that.
func (b *Batch) Skip() { b.committed, b.skipped = true, true }

// newBatch takes what fits of what was read, beginning with another partition
// each time.
func (c *Consumer) newBatch(read map[int][]eventlog.Record) *Batch {
	var numbers []int
	for n := range read {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	at, _ := slices.BinarySearch(numbers, c.first)
	numbers = append(numbers[at:], numbers[:at]...)
	b, bytes := &Batch{c: c}, 0
	var starts []int
	for _, n := range numbers {
		p, begin := c.owned[n], len(b.Records)
		for _, r := range read[n] {
			if len(b.Records) >= c.o.MaxRecords || (len(b.Records) > 0 && bytes+len(r.Value) > c.o.MaxBytes) {
				break
			}
			bytes += len(r.Value)
			b.Records = append(b.Records, Record{Partition: n, Record: r})
		}
		if len(b.Records) == begin {
			break
		}
		starts = append(starts, begin)
		b.spans = append(b.spans, span{p: p, from: p.lease, next: b.Records[len(b.Records)-1].Offset + 1})
		c.first = n + 1
	}
	for i := range b.spans {
		end := len(b.Records)
		if i+1 < len(starts) {
			end = starts[i+1]
		}
		b.spans[i].records = b.Records[starts[i]:end:end]
	}
	return b
}

// only is the part of a batch that is of one partition.
func (b *Batch) only(s span) *Batch {
	return &Batch{Records: s.records, c: b.c, spans: []span{s}}
}
