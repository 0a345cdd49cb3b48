package consumer_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/consumer"
	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/eventlog/eventlogtest"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/common/testwait"
)

// instance makes a consumer that shares the partitions with others.
func (w *world) instance(change func(*consumer.Options)) *consumer.Consumer {
	w.t.Helper()
	logger := logrus.New()
	logger.SetOutput(w.t.Output())
	db, err := sqldb.Open(w.t.Context(), sqldbtest.Options(w.t, filepath.Join(w.dir, "store.db")))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := db.Close(); err != nil {
			w.t.Error(err)
		}
	})
	o := consumer.Options{Name: "test", Topic: w.topic(), Log: eventlogtest.Shared{Log: w.log}, DB: db,
		Logger: logrus.NewEntry(logger), LeaseTTL: 300 * time.Millisecond}
	if change != nil {
		change(&o)
	}
	c, err := consumer.New(w.t.Context(), o)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// start runs a consumer until the function that is returned is called.
func (w *world) start(c *consumer.Consumer, handle consumer.Handler) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx, handle) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(stop)
	return stop
}

// all tells whether each of n records took effect, and fails if one did twice.
func (w *world) all(n int) func() bool {
	return func() bool {
		have, distinct := w.effects()
		if have != distinct {
			w.t.Fatalf("%d effects of %d records", have, distinct)
		}
		return have == n
	}
}

func fine() error { return nil }

func (w *world) storing() consumer.Handler {
	return func(_ context.Context, b *consumer.Batch) error { return w.store(b, fine) }
}

func valid(c *consumer.Consumer) (n int) {
	for p := range partitions {
		if c.Valid(p) {
			n++
		}
	}
	return n
}

// TestShare: instances share the partitions while records flow, and who goes is
// replaced; each record takes effect once.
func TestShare(t *testing.T) { sqldbtest.Each(t, testShare) }

func testShare(t *testing.T) {
	w := newWorld(t)
	a, b := w.instance(nil), w.instance(nil)
	stopA := w.start(a, w.storing())
	w.append(50)
	testwait.Until(w.t, "one instance does all", w.all(50))
	w.start(b, w.storing())
	testwait.Until(w.t, "two share", func() bool { return valid(a) == partitions/2 && valid(b) == partitions/2 })
	more := sync.OnceFunc(func() {
		for i := range 50 {
			w.appendValue(i%partitions, string(rune('a'+i)))
		}
	})
	more()
	testwait.Until(w.t, "two instances do all", w.all(100))
	stopA()
	testwait.Until(w.t, "the other took over", func() bool { return valid(b) == partitions })
	w.appendValue(0, "last")
	testwait.Until(w.t, "the other goes on", w.all(101))
}

func (w *world) appendValue(partition int, value string) {
	w.t.Helper()
	if _, err := w.log.Append(w.t.Context(), eventlog.Message{Topic: "topic", Partition: partition, Value: []byte(value)}); err != nil {
		w.t.Fatal(err)
	}
}

// TestLostLease: an owner that is slower than its lease cannot commit what
// another has done since, and takes part again afterwards.
func TestLostLease(t *testing.T) { sqldbtest.Each(t, testLostLease) }

func testLostLease(t *testing.T) {
	w := newWorld(t)
	w.append(8)
	slow := w.instance(nil)
	var b *consumer.Consumer
	fenced := make(chan error, 100)
	first := true
	w.start(slow, func(_ context.Context, batch *consumer.Batch) error {
		if first {
			first = false
			// The row says that the lease ran out: a renewal that was lost.
			w.steal()
			b = w.instance(nil)
		}
		err := w.store(batch, fine)
		if errors.Is(err, consumer.ErrFenced) {
			fenced <- err
		}
		return err
	})
	<-fenced
	w.start(b, w.storing())
	testwait.Until(w.t, "everything was done once", w.all(8))
	testwait.Until(w.t, "both share again", func() bool { return valid(slow) == partitions/2 && valid(b) == partitions/2 })
}

// steal makes another instance the owner of everything, for a moment.
func (w *world) steal() {
	if err := w.db.Write(context.Background(), func(tx *sqldb.Tx) error {
		_, err := tx.Exec(context.Background(), "UPDATE lease_partitions SET owner = 'thief', epoch = epoch + 1, expiry = 0")
		return err
	}); err != nil {
		w.t.Error(err)
	}
}
