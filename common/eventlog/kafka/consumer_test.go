package kafka_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/matrix-org/dendrite/common/consumer"
	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/eventlog/kafka"
	"github.com/matrix-org/dendrite/common/eventlog/kafka/kafkatest"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/testwait"
)

const consumed = 4 // partitions

// instance is a consumer with a log and a connection to the store of its own.
type instance struct {
	log  *kafka.Log
	db   *sqldb.DB
	c    *consumer.Consumer
	stop context.CancelFunc
	done chan error
}

func startInstance(t *testing.T, b kafkatest.Broker, store string) *instance {
	t.Helper()
	i := &instance{log: open(t, b, nil), done: make(chan error, 1)}
	topic := ensure(t, i.log, eventlog.TopicSpec{Name: "input", Partitions: consumed})
	var err error
	if i.db, err = sqldb.Open(t.Context(), sqldb.Options{URL: "file:" + store}); err != nil {
		t.Fatal(err)
	}
	if i.c, err = consumer.New(t.Context(), consumer.Options{Name: "test", Topic: topic, Log: i.log, DB: i.db, Trim: true,
		LeaseTTL: time.Second, SafePointEvery: 50 * time.Millisecond, Logger: b.Options(t).Logger}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	i.stop = cancel
	go func() {
		i.done <- i.c.Run(ctx, func(ctx context.Context, batch *consumer.Batch) error {
			return i.db.Write(ctx, func(tx *sqldb.Tx) error {
				for _, r := range batch.Records {
					if _, err := tx.Exec(ctx, "INSERT INTO effects (value) VALUES ($1)", string(r.Value)); err != nil {
						return err
					}
				}
				return batch.Commit(ctx, tx)
			})
		})
	}()
	return i
}

// newStore makes the store of the consumer's effects; taken tells whether there
// are as many as wanted, and fails if one is there twice.
func newStore(t *testing.T) (store string, taken func(want int) func() bool) {
	t.Helper()
	store = filepath.Join(t.TempDir(), "store.db")
	db, err := sqldb.Open(t.Context(), sqldb.Options{URL: "file:" + store})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
		_, err := tx.Exec(t.Context(), "CREATE TABLE effects (value TEXT NOT NULL)")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	taken = func(want int) func() bool {
		return func() (all bool) {
			var n, distinct int
			if err := db.Read(context.Background(), func(tx *sqldb.Tx) error {
				return tx.QueryRow(context.Background(), "SELECT count(*), count(DISTINCT value) FROM effects").Scan(&n, &distinct)
			}); err != nil {
				t.Fatal(err)
			}
			if n != distinct {
				t.Fatalf("%d effects of %d records", n, distinct)
			}
			return n == want
		}
	}
	return store, taken
}

// TestConsumer: two instances share the partitions of a topic; when one dies
// without a word the other goes on, each record takes effect once, what was
// consumed is dropped, and Kafka's tools see no lag.
func TestConsumer(t *testing.T) {
	b := kafkatest.Start(t)
	store, taken := newStore(t)
	one, two := startInstance(t, b, store), startInstance(t, b, store)
	log := open(t, b, nil)
	ensure(t, log, eventlog.TopicSpec{Name: "input", Partitions: consumed})
	const each = 200
	add := func(round int) {
		for n := range each {
			if _, err := log.Append(t.Context(), eventlog.Message{Topic: "input", Partition: n % consumed, Value: []byte(fmt.Sprint(round, n))}); err != nil {
				t.Fatal(err)
			}
		}
	}
	valid := func(i *instance) (n int) {
		for p := range consumed {
			if i.c.Valid(p) {
				n++
			}
		}
		return n
	}
	testwait.Until(t, "two share", func() bool { return valid(one) == consumed/2 && valid(two) == consumed/2 })
	add(1)
	testwait.Until(t, "both take their records", taken(each))
	// Without its store it can neither commit nor hand over, as if it had died.
	if err := one.db.Close(); err != nil {
		t.Fatal(err)
	}
	one.stop()
	add(2)
	testwait.Until(t, "the other takes the rest", taken(2*each))
	<-one.done // however it ended
	add(3)
	testwait.Until(t, "the other goes on", taken(3*each))
	seen(t, b, log)
	two.stop()
	if err := <-two.done; err != nil {
		t.Error(err)
	}
	if err := two.db.Close(); err != nil {
		t.Error(err)
	}
}

// seen waits until the log has dropped everything and knows that it was read.
func seen(t *testing.T, b kafkatest.Broker, log *kafka.Log) {
	t.Helper()
	admin := operator(t, b)
	for p := range consumed {
		testwait.Until(t, "everything is trimmed and reported", func() bool {
			start, end, err := log.Bounds(t.Context(), "input", p)
			if err != nil {
				t.Fatal(err)
			}
			answer, err := admin.ListConsumerGroupOffsets(b.Prefix+"test", map[string][]int32{b.Prefix + "input": {int32(p)}})
			if err != nil {
				t.Fatal(err)
			}
			return start == end && answer.GetBlock(b.Prefix+"input", int32(p)).Offset == end
		})
	}
}
