package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/IBM/sarama"

	"github.com/matrix-org/dendrite/common/eventlog"
)

// outside runs a call of sarama's, which knows no context but ends by itself:
// ctx ends the wait, not the call.
func outside[T any](ctx context.Context, l *Log, f func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var none T
	done := make(chan result, 1)
	if !l.spawn(func() {
		value, err := f()
		done <- result{value, err}
	}) {
		return none, eventlog.ErrClosed
	}
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// request runs what asks brokers something, again and again until it succeeds,
// fails for good, or RequestTimeout is over.
func request[T any](ctx context.Context, l *Log, what string, f func() (T, error)) (T, error) {
	limited, cancel := context.WithTimeout(ctx, l.o.RequestTimeout)
	defer cancel()
	var last error
	for wait := minBackoff; ; wait = min(2*wait, maxBackoff) {
		value, err := outside(limited, l, f)
		switch {
		case err == nil:
			return value, nil
		case ctx.Err() != nil:
			return value, ctx.Err()
		case l.isClosed():
			return value, eventlog.ErrClosed
		case limited.Err() != nil && last != nil: // it says more than that time is up
			return value, fmt.Errorf("kafka: %s: %w", what, worded(last))
		case limited.Err() != nil || !transient(err):
			return value, fmt.Errorf("kafka: %s: %w", what, worded(err))
		}
		last = err
		l.metrics.failed("request", err)
		l.suspect()
		if pause(limited, wait) == nil {
			l.spawn(func() { _ = l.client.RefreshMetadata() }) // its failure is the next try's
		}
	}
}

// lasting are errors of brokers that trying again does not help against.
var lasting = map[sarama.KError]bool{
	sarama.ErrOffsetOutOfRange: true, sarama.ErrMessageSizeTooLarge: true, sarama.ErrInvalidMessage: true,
	sarama.ErrInvalidTopic: true, sarama.ErrTopicAuthorizationFailed: true, sarama.ErrGroupAuthorizationFailed: true,
	sarama.ErrClusterAuthorizationFailed: true, sarama.ErrTopicAlreadyExists: true, sarama.ErrInvalidPartitions: true,
	sarama.ErrInvalidReplicationFactor: true, sarama.ErrInvalidConfig: true, sarama.ErrPolicyViolation: true,
	sarama.ErrInvalidRequest: true, sarama.ErrUnsupportedVersion: true, sarama.ErrInvalidTimestamp: true,
	sarama.ErrSASLAuthenticationFailed: true, sarama.ErrInvalidRecord: true, sarama.ErrMessageSetSizeTooLarge: true,
}

// transient tells whether an error may pass: a broker that is away or not the
// leader any more, a topic that not every broker knows yet.
func transient(err error) bool {
	var k sarama.KError
	var decoding sarama.PacketDecodingError
	var encoding sarama.PacketEncodingError
	var ours errSetting
	switch {
	case errors.As(err, &ours), errors.As(err, &decoding), errors.As(err, &encoding), errors.Is(err, eventlog.ErrUnknownTopic):
		return false
	case errors.As(err, &k):
		return !lasting[k]
	}
	return true
}

// worded makes an error of a broker one of eventlog's.
func worded(err error) error {
	var decoding sarama.PacketDecodingError
	var ours errSetting
	switch {
	case errors.As(err, &ours), errors.Is(err, eventlog.ErrUnknownTopic), errors.Is(err, eventlog.ErrUnavailable):
		return err
	case errors.Is(err, sarama.ErrUnknownTopicOrPartition):
		return fmt.Errorf("%w: %w", eventlog.ErrUnknownTopic, err)
	case errors.Is(err, sarama.ErrOffsetOutOfRange):
		return fmt.Errorf("%w: %w", eventlog.ErrOffsetOutOfRange, err)
	case errors.Is(err, sarama.ErrMessageSizeTooLarge), errors.Is(err, sarama.ErrMessageSetSizeTooLarge):
		return fmt.Errorf("%w: %w", eventlog.ErrTooLarge, err)
	case errors.Is(err, sarama.ErrInvalidMessage), errors.As(err, &decoding):
		return fmt.Errorf("%w: %w", eventlog.ErrCorrupt, err)
	}
	return fmt.Errorf("%w: %w", eventlog.ErrUnavailable, err)
}

// conn is a connection to a broker that is opened when it is used.
type conn struct {
	log    *Log
	id     int32
	broker chan *sarama.Broker // holds the connection or nil
}

func newConn(l *Log, id int32) *conn {
	c := &conn{log: l, id: id, broker: make(chan *sarama.Broker, 1)}
	c.broker <- nil
	return c
}

// get returns the connection, which it opens if need be.
func (c *conn) get() (*sarama.Broker, error) {
	b := <-c.broker
	if b != nil {
		c.broker <- b
		return b, nil
	}
	var err error
	if b, err = c.open(); err != nil {
		b = nil
	}
	c.broker <- b
	return b, err
}

func (c *conn) open() (*sarama.Broker, error) {
	if c.log.ctx.Err() != nil {
		return nil, eventlog.ErrClosed
	}
	for _, known := range c.log.client.Brokers() {
		if known.ID() != c.id {
			continue
		}
		b := sarama.NewBroker(known.Addr())
		if err := b.Open(c.log.config); err != nil {
			return nil, err
		}
		if ok, err := b.Connected(); !ok {
			if err == nil {
				err = sarama.ErrNotConnected
			}
			return nil, err
		}
		return b, nil
	}
	return nil, fmt.Errorf("%w: broker %d is not known now", sarama.ErrBrokerNotAvailable, c.id)
}

// drop closes a connection that failed; who waits for an answer on it gets an
// error. Another that was opened since stays. Nil is whatever there is.
func (c *conn) drop(failed *sarama.Broker) {
	b := <-c.broker
	if b == nil || failed != nil && failed != b {
		c.broker <- b
		return
	}
	c.broker <- nil
	_ = b.Close() // it is of no use any more, whatever comes of it
}
