package kafka_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/eventlog/eventlogtest"
	"github.com/matrix-org/dendrite/common/eventlog/kafka"
	"github.com/matrix-org/dendrite/common/eventlog/kafka/kafkatest"
)

func open(t testing.TB, b kafkatest.Broker, change func(*kafka.Options)) *kafka.Log {
	t.Helper()
	o := b.Options(t)
	if change != nil {
		change(&o)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	log, err := kafka.Open(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := log.Close(); err != nil && !errors.Is(err, eventlog.ErrClosed) {
			t.Error(err)
		}
	})
	return log
}

// TestKafka: what the suite asks of every log.
func TestKafka(t *testing.T) {
	for name, bytes := range map[string]int64{"from memory": 0, "past the tails": 1} {
		t.Run(name, func(t *testing.T) {
			eventlogtest.Run(t, func(t *testing.T) (eventlog.Log, func() eventlog.Log) {
				b := kafkatest.Start(t)
				again := func() eventlog.Log { return open(t, b, func(o *kafka.Options) { o.TailBytes = bytes }) }
				return again(), again
			})
		})
	}
}

func ensure(t testing.TB, log *kafka.Log, spec eventlog.TopicSpec) eventlog.TopicInfo {
	t.Helper()
	info, err := log.EnsureTopic(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return info
}
