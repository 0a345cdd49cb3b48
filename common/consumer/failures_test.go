package consumer_test

import (
	"context"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/matrix-org/dendrite/common/consumer"
	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/eventlog/eventlogtest"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/common/testwait"
)

// TestHandlerFails: whether a handler fails before or after its commit, or
// panics within the transaction, each record takes effect once.
func TestHandlerFails(t *testing.T) { sqldbtest.Each(t, testHandlerFails) }

func testHandlerFails(t *testing.T) {
	for name, log := range map[string]func(*world) eventlog.Log{
		"embedded": func(w *world) eventlog.Log { return w.log },
		"shared":   func(w *world) eventlog.Log { return eventlogtest.Shared{Log: w.log} },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.append(40)
			calls := 0
			w.start(w.instance(func(o *consumer.Options) { o.Log, o.MaxRecords = log(w), 7 }), func(_ context.Context, b *consumer.Batch) error {
				if len(b.Records) > 7 {
					t.Errorf("a batch of %d", len(b.Records))
				}
				calls++
				switch calls {
				case 1:
					return w.store(b, func() error { return errors.New("before the commit") })
				case 2:
					return w.store(b, func() error { panic("within the transaction") })
				case 4:
					return errors.Join(w.store(b, fine), errors.New("after the commit"))
				case 6:
					return nil // forgot to commit
				}
				return w.store(b, fine)
			})
			testwait.Until(w.t, "everything was done once", w.all(40))
		})
	}
}

// TestDoubtfulCommit: a partition is prepared anew when a call that failed has
// committed, since what is in memory of it may be older than the database.
func TestDoubtfulCommit(t *testing.T) { sqldbtest.Each(t, testDoubtfulCommit) }

func testDoubtfulCommit(t *testing.T) {
	w := newWorld(t)
	w.append(40)
	memory := map[int]int64{} // the offset up to which memory has seen each partition
	doubtful := 0
	w.start(w.instance(func(o *consumer.Options) {
		o.Log, o.MaxRecords = w.log, 7
		o.OnAcquire = func(ctx context.Context, p int) error {
			return w.db.Read(ctx, func(tx *sqldb.Tx) error {
				var at int64
				err := tx.QueryRow(ctx, "SELECT count(*) FROM effects WHERE CAST(value AS BIGINT) % $1 = $2", partitions, p).Scan(&at)
				memory[p] = at
				return err
			})
		}
		o.OnRelease = func(p int) { delete(memory, p) }
	}), func(_ context.Context, b *consumer.Batch) error {
		next := maps.Clone(memory)
		for _, r := range b.Records {
			if at, ok := next[r.Partition]; !ok || r.Offset != at {
				t.Errorf("record %d of partition %d with %d in memory (%v)", r.Offset, r.Partition, at, ok)
			}
			next[r.Partition] = r.Offset + 1
		}
		if err := w.store(b, fine); err != nil {
			return err
		}
		if doubtful++; doubtful%2 == 0 {
			return errors.New("the commit's answer was lost")
		}
		maps.Copy(memory, next)
		return nil
	})
	testwait.Until(w.t, "everything was done once", w.all(40))
}

// TestBadPartition: a partition that cannot go on does not hold up the others.
func TestBadPartition(t *testing.T) { sqldbtest.Each(t, testBadPartition) }

func testBadPartition(t *testing.T) {
	w := newWorld(t)
	w.append(40)
	w.start(w.instance(nil), func(_ context.Context, b *consumer.Batch) error {
		for _, r := range b.Records {
			if r.Partition == 1 {
				return errors.New("poison")
			}
		}
		return w.store(b, fine)
	})
	testwait.Until(w.t, "the others go on", w.all(30))
	w.appendValue(2, "later")
	testwait.Until(w.t, "the others still go on", w.all(31))
}

// TestAcquireFails: a partition is not read before OnAcquire has succeeded.
func TestAcquireFails(t *testing.T) { sqldbtest.Each(t, testAcquireFails) }

func testAcquireFails(t *testing.T) {
	w := newWorld(t)
	w.append(8)
	tries, released := map[int]int{}, 0
	stop := w.start(w.instance(func(o *consumer.Options) {
		o.OnAcquire = func(_ context.Context, p int) error {
			if tries[p]++; tries[p] < 2 {
				return errors.New("not yet")
			}
			return nil
		}
		o.OnRelease = func(int) { released++ }
	}), func(_ context.Context, b *consumer.Batch) error {
		for _, r := range b.Records {
			if tries[r.Partition] < 2 {
				t.Errorf("partition %d was read", r.Partition)
			}
		}
		return w.store(b, fine)
	})
	testwait.Until(w.t, "everything was done once", w.all(8))
	stop()
	if len(tries) != partitions || released != partitions {
		t.Errorf("acquired %v, released %d", tries, released)
	}
}

// TestSkip: what was skipped is passed over, and stored by the next commit.
func TestSkip(t *testing.T) { sqldbtest.Each(t, testSkip) }

func testSkip(t *testing.T) {
	w := newWorld(t)
	w.append(8)
	seen := make(chan int, 100)
	stop := w.start(w.instance(nil), func(_ context.Context, b *consumer.Batch) error {
		for _, r := range b.Records {
			if string(r.Value) == "now" {
				defer func() { seen <- 100 }()
				return w.store(b, fine)
			}
		}
		b.Skip()
		seen <- len(b.Records)
		return nil
	})
	for n := 0; n < 8; {
		n += <-seen
	}
	w.appendValue(0, "now")
	for n := 0; n < 100; {
		n += <-seen
	}
	stop()
	if !w.all(1)() {
		t.Error("skipped records took effect")
	}
	var offset int64
	if err := w.db.Read(t.Context(), func(tx *sqldb.Tx) error {
		return tx.QueryRow(t.Context(), "SELECT next_offset FROM lease_partitions WHERE number = 0").Scan(&offset)
	}); err != nil || offset != 3 {
		t.Errorf("stored %d, %v", offset, err)
	}
}

// TestCut: a Derived topic that lost its end is read from its new one; records
// that are gone stop the consumer.
func TestCut(t *testing.T) { sqldbtest.Each(t, testCut) }

func testCut(t *testing.T) {
	w := newWorld(t)
	w.append(8)
	w.start(w.instance(nil), w.storing())()
	set := func(offset int) {
		t.Helper()
		if err := w.db.Write(t.Context(), func(tx *sqldb.Tx) error {
			if _, err := tx.Exec(t.Context(), "DELETE FROM effects"); err != nil {
				return err
			}
			_, err := tx.Exec(t.Context(), "UPDATE lease_partitions SET next_offset = $1, topic_id = $2", offset, w.topic().ID)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	set(99)
	stop := w.start(w.instance(func(o *consumer.Options) { o.Derived = true }), w.storing())
	acquired := func() bool {
		var left int
		if err := w.db.Read(t.Context(), func(tx *sqldb.Tx) error {
			return tx.QueryRow(t.Context(), "SELECT count(*) FROM lease_partitions WHERE next_offset = 99").Scan(&left)
		}); err != nil {
			t.Fatal(err)
		}
		return left == 0
	}
	testwait.Until(w.t, "it was cut", acquired)
	w.appendValue(3, "new")
	testwait.Until(w.t, "it goes on from the new end", w.all(1))
	stop()
	set(-5) // before the start, as if the log had dropped records
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := w.instance(nil).Run(ctx, w.storing()); !errors.Is(err, consumer.ErrRecordsGone) {
		t.Errorf("records that are gone: %v", err)
	}
	rebuilt := make(chan int, partitions)
	w.start(w.instance(func(o *consumer.Options) {
		o.Rebuild = func(_ context.Context, partition int) error { rebuilt <- partition; return nil }
	}), w.storing())
	w.appendValue(3, "newer")
	testwait.Until(w.t, "it was built anew", func() bool { return len(rebuilt) > 0 })
	testwait.Until(w.t, "it goes on", w.all(10))
}

// trims is a log that tells of Trim.
type trims struct {
	eventlog.Log
	before chan int64
}

func (l trims) Trim(ctx context.Context, topic string, partition int, before int64) error {
	l.before <- before
	return l.Log.Trim(ctx, topic, partition, before)
}

// TestTrim: the log may drop what was consumed, as of a safe point.
func TestTrim(t *testing.T) { sqldbtest.Each(t, testTrim) }

func testTrim(t *testing.T) {
	w := newWorld(t)
	w.append(8)
	log := trims{w.log, make(chan int64, 1000)}
	w.start(w.instance(func(o *consumer.Options) { o.Log, o.Trim, o.SafePointEvery = log, true, 5*time.Millisecond }), w.storing())
	for sum := int64(0); sum < 8; {
		sum += <-log.before
	}
}

// reports is a log whose tools show offsets.
type reports struct {
	eventlog.Log
	next chan int64
}

func (l reports) ReportOffset(_ context.Context, group, topic string, _ int, next int64) error {
	if group != "test" || topic != "topic" {
		next = -1
	}
	l.next <- next
	return errors.New("planted") // of no consequence
}

// TestReport: at safe points the log is told how far it was read.
func TestReport(t *testing.T) {
	w := newWorld(t)
	w.append(8)
	log := reports{w.log, make(chan int64, 1000)}
	w.start(w.instance(func(o *consumer.Options) { o.Log, o.SafePointEvery = log, 5*time.Millisecond }), w.storing())
	for next := range log.next {
		if next < 0 {
			t.Fatal("the report is of something else")
		}
		if next == 8/partitions {
			break
		}
	}
	w.append(8)
	testwait.Until(w.t, "it goes on", func() bool { n, _ := w.effects(); return n == 16 })
}

// TestDatabaseWentBack: what a database has lost of what it had committed is done
// again, without waiting for another record.
func TestDatabaseWentBack(t *testing.T) { sqldbtest.Each(t, testDatabaseWentBack) }

func testDatabaseWentBack(t *testing.T) {
	w := newWorld(t)
	w.append(8)
	acquired := make(chan int, 100)
	c := w.instance(func(o *consumer.Options) {
		o.OnAcquire = func(_ context.Context, p int) error { acquired <- p; return nil }
	})
	w.start(c, w.storing())
	testwait.Until(w.t, "everything was done once", func() bool { return w.all(8)() && valid(c) == partitions })
	for len(acquired) > 0 {
		<-acquired
	}
	if err := w.db.Write(t.Context(), func(tx *sqldb.Tx) error {
		if _, err := tx.Exec(t.Context(), "DELETE FROM effects WHERE value = '7'"); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), "UPDATE lease_partitions SET next_offset = next_offset - 1 WHERE number = 3")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	testwait.Until(w.t, "the partition is prepared anew", func() bool { return len(acquired) > 0 })
	if p := <-acquired; p != 3 {
		t.Errorf("partition %d was prepared anew", p)
	}
	testwait.Until(w.t, "what was lost is done again", w.all(8))
}
