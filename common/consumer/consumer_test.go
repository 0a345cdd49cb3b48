package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/consumer"
	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
)

const partitions = 4

type world struct {
	t   *testing.T
	dir string
	log *eventlog.Embedded
	db  *sqldb.DB
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, dir: t.TempDir()}
	var err error
	if w.log, err = eventlog.OpenEmbedded(t.Context(), filepath.Join(w.dir, "log.db"), eventlog.EmbeddedOptions{}); err != nil {
		t.Fatal(err)
	}
	if w.db, err = sqldb.Open(t.Context(), sqldbtest.Options(t, filepath.Join(w.dir, "store.db"))); err != nil {
		t.Fatal(err)
	}
	if err := w.db.Write(t.Context(), func(tx *sqldb.Tx) error {
		_, err := tx.Exec(t.Context(), "CREATE TABLE effects (value TEXT NOT NULL)")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(w.log.Close(), w.db.Close()); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) topic() eventlog.TopicInfo {
	info, err := w.log.EnsureTopic(w.t.Context(), eventlog.TopicSpec{Name: "topic", Partitions: partitions})
	if err != nil {
		w.t.Fatal(err)
	}
	return info
}

func (w *world) append(n int) {
	w.topic()
	for i := range n {
		if _, err := w.log.Append(w.t.Context(), eventlog.Message{Topic: "topic", Partition: i % partitions, Value: []byte(fmt.Sprint(i))}); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) consumer(topic eventlog.TopicInfo) *consumer.Consumer {
	logger := logrus.New()
	logger.SetOutput(w.t.Output())
	c, err := consumer.New(w.t.Context(), consumer.Options{Name: "test", Topic: topic, Log: w.log, DB: w.db,
		Logger: logrus.NewEntry(logger), Metrics: prometheus.NewRegistry()})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) effects() (n, distinct int) {
	if err := w.db.Read(w.t.Context(), func(tx *sqldb.Tx) error {
		return tx.QueryRow(w.t.Context(), "SELECT count(*), count(DISTINCT value) FROM effects").Scan(&n, &distinct)
	}); err != nil {
		w.t.Fatal(err)
	}
	return n, distinct
}

// store is a handler that stores the records' values, and calls before just
// ahead of the commit.
func (w *world) store(batch *consumer.Batch, before func() error) error {
	ctx := context.Background()
	return w.db.Write(ctx, func(tx *sqldb.Tx) error {
		for _, r := range batch.Records {
			if _, err := tx.Exec(ctx, "INSERT INTO effects (value) VALUES ($1)", string(r.Value)); err != nil {
				return err
			}
		}
		if err := batch.Commit(ctx, tx); err != nil {
			return err
		}
		return before()
	})
}

// TestExactlyOnce: whatever fails, and however often the consumer is started,
// each record takes effect once.
func TestExactlyOnce(t *testing.T) { sqldbtest.Each(t, testExactlyOnce) }

func testExactlyOnce(t *testing.T) {
	w := newWorld(t)
	topic := w.topic()
	const all = 1000
	w.append(all)
	for round := 0; ; round++ {
		ctx, stop := context.WithCancel(t.Context())
		calls := 0
		err := w.consumer(topic).Run(ctx, func(_ context.Context, batch *consumer.Batch) error {
			calls++
			err := w.store(batch, func() error {
				if calls == 1 && round%2 == 0 {
					return errors.New("planted")
				}
				return nil
			})
			if n, _ := w.effects(); err == nil && n >= min(all, 100*(round+1)) {
				stop()
			}
			return err
		})
		stop()
		if err != nil {
			t.Fatal(err)
		}
		n, distinct := w.effects()
		if n != distinct {
			t.Fatalf("%d effects of %d records", n, distinct)
		}
		if n == all {
			return
		}
	}
}

// TestFenced: who has lost its partitions unnoticed cannot commit.
func TestFenced(t *testing.T) { sqldbtest.Each(t, testFenced) }

func testFenced(t *testing.T) {
	w := newWorld(t)
	topic := w.topic()
	w.append(8)
	old, took := w.consumer(topic), false
	err := old.Run(t.Context(), func(_ context.Context, batch *consumer.Batch) error {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		if err := w.consumer(topic).Run(ctx, func(_ context.Context, b *consumer.Batch) error {
			took = true
			stop()
			return w.store(b, func() error { return nil })
		}); err != nil {
			t.Error(err)
		}
		return w.store(batch, func() error { return nil })
	})
	if !errors.Is(err, consumer.ErrFenced) || !took {
		t.Fatalf("the old owner got %v", err)
	}
	if n, distinct := w.effects(); n != distinct {
		t.Fatalf("%d effects of %d records", n, distinct)
	}
}

// TestOtherTopic: a consumer stops when the topic is not the one that it knows,
// or ends before what it has read.
func TestOtherTopic(t *testing.T) { sqldbtest.Each(t, testOtherTopic) }

func testOtherTopic(t *testing.T) {
	w := newWorld(t)
	topic := w.topic()
	w.append(8)
	ctx, stop := context.WithCancel(t.Context())
	if err := w.consumer(topic).Run(ctx, func(_ context.Context, b *consumer.Batch) error {
		stop()
		return w.store(b, func() error { return nil })
	}); err != nil {
		t.Fatal(err)
	}
	other := topic
	other.ID = "another"
	never := func(context.Context, *consumer.Batch) error { t.Error("a batch was handled"); return nil }
	if err := w.consumer(other).Run(t.Context(), never); !errors.Is(err, consumer.ErrTopicChanged) {
		t.Errorf("another topic: %v", err)
	}
	if err := w.db.Write(t.Context(), func(tx *sqldb.Tx) error {
		_, err := tx.Exec(t.Context(), "UPDATE lease_partitions SET next_offset = 99 WHERE number = 2")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := w.consumer(topic).Run(t.Context(), never); !errors.Is(err, consumer.ErrTopicShorter) {
		t.Errorf("a log cut short: %v", err)
	}
}
