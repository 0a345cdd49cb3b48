package clientapi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// answersBytes is how much of room.answers is read at once.
const answersBytes = 1 << 20

// answersRetry is how long the reader of room.answers waits after a failure.
const answersRetry = 200 * time.Millisecond

// Run reads this instance's partition of room.answers until ctx is done, and
// passes over the verdicts of other instances that share it. It goes on after
// failures: requests whose answers are lost meanwhile ask for their verdicts.
func (w *Writer) Run(ctx context.Context) error {
	for {
		records, err := w.log.Read(ctx, api.TopicAnswers, w.partition, w.next, answersBytes)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			if errors.Is(err, eventlog.ErrClosed) {
				return fmt.Errorf("clientapi: reading %s: %w", api.TopicAnswers, err)
			}
			w.logger.WithError(err).Warn("cannot read verdicts")
			if err := w.recover(ctx, err); err != nil {
				return nil
			}
			continue
		}
		for i := range records {
			w.take(&records[i])
		}
	}
}

func (w *Writer) take(r *eventlog.Record) {
	w.next = r.Offset + 1
	v, err := api.DecodeVerdict(r.Value)
	if err != nil {
		w.logger.WithError(err).WithField("offset", r.Offset).Error("a record of room.answers is not a verdict")
		return
	}
	w.wait.answer(v)
}

// recover finds where to read on after a failure: where the records kept begin
// if what we want is gone or the topic was made anew. It fails when ctx is done.
func (w *Writer) recover(ctx context.Context, cause error) error {
	timer := time.NewTimer(answersRetry)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
	}
	if !errors.Is(cause, eventlog.ErrOffsetOutOfRange) {
		return nil
	}
	start, _, err := w.log.Bounds(ctx, api.TopicAnswers, w.partition)
	if err != nil {
		w.logger.WithError(err).Warn("cannot find the start of room.answers")
		return nil
	}
	w.next = start
	return nil
}

// writerMetrics are the numbers of a Writer.
type writerMetrics struct {
	seconds prometheus.Histogram
	refused prometheus.Counter
	asked   prometheus.Counter
}

func newWriterMetrics() writerMetrics {
	return writerMetrics{
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "dendrite_clientapi_verdict_seconds",
			Help:    "Time from appending a record to room.input to its verdict.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15),
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dendrite_clientapi_overload_total",
			Help: "Requests answered 503 because too many wait for a verdict.",
		}),
		asked: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "dendrite_clientapi_verdicts_asked_total",
			Help: "Times that a request got no verdict and asked for it.",
		}),
	}
}

func (m *writerMetrics) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	for _, c := range []prometheus.Collector{m.seconds, m.refused, m.asked} {
		if err := r.Register(c); err != nil {
			return fmt.Errorf("clientapi: metrics: %w", err)
		}
	}
	return nil
}
