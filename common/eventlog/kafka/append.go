package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/matrix-org/dendrite/common/eventlog"
)

// Append implements eventlog.Log. When ctx is done or AppendTimeout over, what
// was sent already may still be appended, what was not never is.
func (l *Log) Append(ctx context.Context, messages ...eventlog.Message) ([]int64, error) {
	if len(messages) == 0 {
		return nil, nil
	}
	call := &appendCall{offsets: make([]int64, len(messages)), done: make(chan struct{})}
	targets := make([]*partition, len(messages))
	for i, m := range messages {
		if len(m.Value) > eventlog.MaxRecordBytes {
			return nil, fmt.Errorf("%w: %d bytes for %s", eventlog.ErrTooLarge, len(m.Value), m.Topic)
		}
		var err error
		if targets[i], err = l.partition(m.Topic, m.Partition); err != nil {
			return nil, err
		}
		call.weight += int64(len(m.Key)+len(m.Value)) + entryOverhead
	}
	// One call that is larger than all the room has it for itself.
	call.weight = min(call.weight, l.o.BufferBytes)
	call.pending.Store(int64(len(messages)))
	began := time.Now()
	offsets, err := l.await(ctx, call, messages, targets)
	if err != nil {
		l.metrics.refused.Inc()
	} else {
		l.metrics.appendSeconds.Observe(time.Since(began).Seconds())
	}
	return offsets, err
}

func (l *Log) await(ctx context.Context, call *appendCall, messages []eventlog.Message, targets []*partition) ([]int64, error) {
	limited, cancel := context.WithTimeout(ctx, l.o.AppendTimeout)
	defer cancel()
	if err := l.producer.room.Acquire(limited, call.weight); err != nil {
		return nil, l.tooLate(ctx)
	}
	l.producer.put(call, messages, targets)
	select {
	case <-call.done:
		if call.err != nil {
			return nil, call.err
		}
		return call.offsets, nil
	case <-limited.Done():
		call.abandoned.Store(true)
		return nil, l.tooLate(ctx)
	case <-l.ctx.Done():
		call.abandoned.Store(true)
		return nil, eventlog.ErrClosed
	}
}

// tooLate says why a caller waits no longer.
func (l *Log) tooLate(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := fmt.Errorf("%w: no broker took it within %v", eventlog.ErrUnavailable, l.o.AppendTimeout)
	if why := l.Failed(); why != nil {
		err = errors.Join(err, why)
	}
	return err
}
