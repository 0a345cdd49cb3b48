package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/eventlog"
)

// Log is an eventlog.Log on Apache Kafka. Several processes may have the same
// log open.
type Log struct {
	o        Options
	config   *sarama.Config
	client   sarama.Client // for metadata, and for what is neither append nor read
	logger   *logrus.Entry
	metrics  *metricsOf
	router   *router
	producer *producer
	fetchers *fetchers

	mu     sync.RWMutex
	topics map[string]*topic

	// ctx is done when Close begins; goroutines of ours end with it.
	ctx     context.Context
	cancel  context.CancelFunc
	stopped sync.WaitGroup
	closing sync.RWMutex // held for reading while a goroutine is added to stopped
	closed  bool
	checks  chan struct{}         // asks watch for a look
	down    atomic.Pointer[error] // why brokers cannot be used; nil when they answer
}

var (
	_ eventlog.Log            = (*Log)(nil)
	_ eventlog.OffsetReporter = (*Log)(nil)
)

// Open connects to the brokers. It waits until one answers or ctx is done;
// brokers that refuse us (authentication, certificates) are an error at once.
func Open(ctx context.Context, o Options) (*Log, error) {
	o.defaults()
	config, err := saramaConfig(o)
	if err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	l := &Log{o: o, config: config, logger: o.Logger, topics: map[string]*topic{}, checks: make(chan struct{}, 1)}
	l.router, l.producer, l.fetchers = newRouter(l), newProducer(l), newFetchers(l)
	if l.metrics, err = newMetrics(o.Metrics, l); err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	if l.client, err = l.connect(ctx); err != nil {
		return nil, fmt.Errorf("kafka: connecting to %v: %w", o.Brokers, err)
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.spawn(l.router.run)
	l.spawn(l.watch)
	return l, nil
}

// connect makes the client; sarama has no context, so the wait for one that is
// under way is cut short when ctx is done, and what comes of it is closed.
func (l *Log) connect(ctx context.Context) (sarama.Client, error) {
	type result struct {
		client sarama.Client
		err    error
	}
	for wait := minBackoff; ; wait = min(2*wait, maxBackoff) {
		done := make(chan result, 1)
		go func() {
			client, err := sarama.NewClient(l.o.Brokers, l.config)
			done <- result{client, err}
		}()
		select {
		case r := <-done:
			if r.err == nil {
				return r.client, nil
			}
			if refuses(r.err) {
				return nil, r.err
			}
			l.logger.WithError(r.err).Warn("No Kafka broker answers yet")
			if pause(ctx, wait) != nil {
				return nil, fmt.Errorf("%w: %w", eventlog.ErrUnavailable, errors.Join(r.err, ctx.Err()))
			}
		case <-ctx.Done():
			go func() {
				if r := <-done; r.err == nil {
					_ = r.client.Close()
				}
			}()
			return nil, fmt.Errorf("%w: %w", eventlog.ErrUnavailable, ctx.Err())
		}
	}
}

// refuses tells of errors that waiting does not help against.
func refuses(err error) bool {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var verify *tls.CertificateVerificationError
	return errors.Is(err, sarama.ErrSASLAuthenticationFailed) || errors.As(err, &unknown) || errors.As(err, &name) ||
		errors.As(err, &invalid) || errors.As(err, &verify)
}

// Bounds of the wait after a failure; it doubles each time.
const (
	minBackoff = 50 * time.Millisecond
	maxBackoff = time.Second
)

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// spawn starts a goroutine that Close waits for; false after Close.
func (l *Log) spawn(f func()) bool {
	l.closing.RLock()
	defer l.closing.RUnlock()
	if l.closed {
		return false
	}
	l.stopped.Go(f)
	return true
}

// Failed returns why the brokers cannot be used now; nil while they answer.
func (l *Log) Failed() error {
	if why := l.down.Load(); why != nil {
		return fmt.Errorf("%w: %w", eventlog.ErrUnavailable, *why)
	}
	return nil
}

// Times between looks whether the brokers answer.
const (
	checkEvery     = 5 * time.Second
	checkEveryDown = 500 * time.Millisecond
	// missingFor is how long brokers have to know nothing of a topic before it is
	// taken for gone: one of them may not have heard yet of a new one.
	missingFor = 5 * time.Second
)

// suspect asks for a look at once, after something has failed.
func (l *Log) suspect() {
	select {
	case l.checks <- struct{}{}:
	default:
	}
}

// watch looks from time to time whether brokers answer, and whether topics are
// still the ones that were ensured.
func (l *Log) watch() {
	every := checkEvery
	for {
		timer := time.NewTimer(every)
		select {
		case <-timer.C:
		case <-l.checks:
		case <-l.ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
		was := l.down.Load()
		missing, err := l.check()
		if l.ctx.Err() != nil {
			return
		}
		switch {
		case err == nil:
			if every = checkEvery; missing {
				every = checkEveryDown
			}
			if l.down.Store(nil); was != nil {
				l.logger.Info("Kafka brokers answer again")
			}
		default:
			every = checkEveryDown
			if l.down.Store(&err); was == nil {
				l.logger.WithError(err).Error("Kafka brokers do not answer")
			}
		}
	}
}

// check asks a broker for what it knows of our topics, and tells whether some
// are missing.
func (l *Log) check() (missing bool, err error) {
	l.mu.RLock()
	known := make(map[string]*topic, len(l.topics))
	names := make([]string, 0, len(l.topics))
	for _, t := range l.topics {
		known[t.name] = t
		names = append(names, t.name)
	}
	l.mu.RUnlock()
	if len(names) == 0 {
		return false, l.client.RefreshMetadata()
	}
	metadata, err := l.describe(names)
	if err != nil {
		return false, err
	}
	for _, m := range metadata {
		t := known[m.Name]
		switch {
		case t == nil:
		case anew(t, m):
			l.forget(t)
		case !errors.Is(m.Err, sarama.ErrUnknownTopicOrPartition):
			t.missing = time.Time{}
		case t.missing.IsZero():
			t.missing, missing = time.Now(), true
		case time.Since(t.missing) > missingFor:
			l.forget(t)
		default:
			missing = true
		}
	}
	return missing, nil
}

// anew tells whether a topic was made anew.
func anew(t *topic, m *sarama.TopicMetadata) bool {
	return errors.Is(m.Err, sarama.ErrNoError) && m.Uuid.String() != t.info.ID
}

// verify looks whether a topic is still the one that was ensured, where the
// answer to something else depends on it.
func (l *Log) verify(t *topic) error {
	metadata, err := l.describe([]string{t.name})
	if err != nil {
		return err
	}
	if anew(t, metadata[0]) {
		l.forget(t)
	}
	if t.gone.Load() {
		return fmt.Errorf("%w: %s", eventlog.ErrUnknownTopic, t.info.Name)
	}
	return nil
}

// forget drops a topic that is not there any more.
func (l *Log) forget(t *topic) {
	if t.gone.Swap(true) {
		return
	}
	l.logger.WithField("topic", t.name).Error("A topic was deleted or made anew; it is not used any more")
	l.mu.Lock()
	if l.topics[t.info.Name] == t {
		delete(l.topics, t.info.Name)
	}
	l.mu.Unlock()
	l.producer.purge(t)
	t.mu.Lock()
	for _, p := range t.partitions {
		p.tail.reset()
	}
	t.wake.All()
	t.mu.Unlock()
}

// Close implements eventlog.Log: it waits for what is being appended, for some
// seconds at most.
func (l *Log) Close() error {
	l.closing.Lock()
	was := l.closed
	l.closed = true
	l.closing.Unlock()
	if was {
		return eventlog.ErrClosed
	}
	l.producer.flush()
	l.cancel()
	l.producer.close()
	l.fetchers.close()
	l.mu.RLock()
	for _, t := range l.topics {
		t.mu.Lock()
		t.wake.All()
		t.mu.Unlock()
	}
	l.mu.RUnlock()
	err := l.client.Close() // whoever waits for an answer on its connections gets an error
	l.stopped.Wait()
	return err
}

func (l *Log) isClosed() bool {
	l.closing.RLock()
	defer l.closing.RUnlock()
	return l.closed
}

// partition returns a partition that was ensured.
func (l *Log) partition(name string, number int) (*partition, error) {
	if l.isClosed() {
		return nil, eventlog.ErrClosed
	}
	l.mu.RLock()
	t := l.topics[name]
	l.mu.RUnlock()
	if t == nil || number < 0 || number >= len(t.partitions) {
		return nil, fmt.Errorf("%w: %s/%d", eventlog.ErrUnknownTopic, name, number)
	}
	return t.partitions[number], nil
}
