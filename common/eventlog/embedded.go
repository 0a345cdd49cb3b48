package eventlog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// ErrInUse says that another process has the log's file open.
var ErrInUse = errors.New("in use by another process")

// EmbeddedOptions bound an embedded log. The zero value is good.
type EmbeddedOptions struct {
	// TailBytes bounds the recent records kept in memory, over all partitions;
	// default 32 MiB.
	TailBytes int64
	// TrimEvery is the time between looks for what retention no longer holds;
	// default one minute.
	TrimEvery time.Duration
}

// Embedded is a Log in a SQLite file, for one process.
//
// Appends of many callers are committed together by one goroutine (write.go)
// without waiting for the disk; a second one syncs what was committed (one
// fsync for all that came meanwhile) and only then shows and acknowledges
// records of Durable topics. The stored format stands in store.go.
//
// Lock order: topics.mu, then topic.mu; neither is held during I/O of appends.
type Embedded struct {
	db   *sqldb.DB
	lock *os.File // held for as long as the log is open
	wal  *os.File // the write-ahead log, to be synced
	opts EmbeddedOptions

	mu     sync.RWMutex
	topics map[string]*topic
	parts  int // number of stored partitions

	appends   chan *appendCall
	committed chan []*appendCall
	stop      chan struct{}
	stopped   sync.WaitGroup
	closing   sync.RWMutex // held for reading while a call is submitted
	closed    atomic.Bool
	failed    atomic.Pointer[error] // why nothing can be appended any more
}

var (
	_ Log       = (*Embedded)(nil)
	_ Exclusive = (*Embedded)(nil)
)

// OpenEmbedded opens the log in a file, which is made if it is not there. A
// file that another process has open is refused.
func OpenEmbedded(ctx context.Context, path string, opts EmbeddedOptions) (*Embedded, error) {
	if opts.TailBytes == 0 {
		opts.TailBytes = 32 << 20
	}
	if opts.TrimEvery == 0 {
		opts.TrimEvery = time.Minute
	}
	l := &Embedded{opts: opts, topics: map[string]*topic{}, appends: make(chan *appendCall, 256),
		committed: make(chan []*appendCall, 1), stop: make(chan struct{})}
	if err := l.open(ctx, path); err != nil {
		return nil, errors.Join(fmt.Errorf("eventlog: open %s: %w", path, err), l.release())
	}
	l.stopped.Add(3)
	go l.commitLoop()
	go l.syncLoop()
	go l.trimLoop()
	return l, nil
}

func (l *Embedded) open(ctx context.Context, path string) error {
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	l.lock = lock
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("%w: %w", ErrInUse, err)
	}
	if l.db, err = sqldb.Open(ctx, sqldb.Options{URL: "file:" + path}); err != nil {
		return err
	}
	if err := l.prepareStore(ctx); err != nil {
		return err
	}
	// The file is there as long as a connection is open. fsync of any
	// descriptor of it covers what SQLite wrote through its own.
	l.wal, err = os.Open(path + "-wal")
	return err
}

// EnsureTopic implements Log.
func (l *Embedded) EnsureTopic(ctx context.Context, spec TopicSpec) (TopicInfo, error) {
	if l.closed.Load() {
		return TopicInfo{}, ErrClosed
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.topics[spec.Name]
	if spec.Partitions == 0 {
		if t == nil {
			return TopicInfo{}, fmt.Errorf("%w: %s", ErrUnknownTopic, spec.Name)
		}
		spec.Partitions = len(t.partitions)
	}
	if t == nil {
		var err error
		if t, err = l.loadTopic(ctx, spec); err != nil {
			return TopicInfo{}, fmt.Errorf("eventlog: topic %s: %w", spec.Name, err)
		}
		l.topics[spec.Name] = t
		l.shareTails()
	}
	if len(t.partitions) != spec.Partitions {
		return TopicInfo{}, fmt.Errorf("eventlog: topic %s has %d partitions, not %d", spec.Name, len(t.partitions), spec.Partitions)
	}
	return TopicInfo{Name: spec.Name, ID: t.id, Partitions: spec.Partitions, Durability: t.durability}, nil
}

// Failed returns why the log takes nothing more until it is opened again; nil
// while it does.
func (l *Embedded) Failed() error {
	if why := l.failed.Load(); why != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, *why)
	}
	return nil
}

// Exclusive implements Exclusive: the file is locked.
func (l *Embedded) Exclusive() bool { return true }

// shareTails divides the memory for tails among the stored partitions.
func (l *Embedded) shareTails() {
	n := 0
	for _, t := range l.topics {
		if t.durability != Ephemeral {
			n += len(t.partitions)
		}
	}
	for _, t := range l.topics {
		if t.durability == Ephemeral {
			continue
		}
		t.mu.Lock()
		for _, p := range t.partitions {
			p.maxBytes = l.opts.TailBytes / int64(n)
		}
		t.mu.Unlock()
	}
}

func (l *Embedded) partition(name string, number int) (*topic, *partition, error) {
	if l.closed.Load() {
		return nil, nil, ErrClosed
	}
	l.mu.RLock()
	t := l.topics[name]
	l.mu.RUnlock()
	if t == nil || number < 0 || number >= len(t.partitions) {
		return nil, nil, fmt.Errorf("%w: %s/%d", ErrUnknownTopic, name, number)
	}
	return t, t.partitions[number], nil
}

// Bounds implements Log.
func (l *Embedded) Bounds(_ context.Context, name string, number int) (start, end int64, err error) {
	t, p, err := l.partition(name, number)
	if err != nil {
		return 0, 0, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return p.start, p.end, nil
}

// Trim implements Log.
func (l *Embedded) Trim(_ context.Context, name string, number int, before int64) error {
	t, p, err := l.partition(name, number)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	p.trimTo = max(p.trimTo, min(before, p.end))
	return nil
}

// Close implements Log.
func (l *Embedded) Close() error {
	l.closing.Lock()
	was := l.closed.Swap(true)
	l.closing.Unlock()
	if was {
		return ErrClosed
	}
	close(l.stop)
	l.stopped.Wait()
	l.mu.Lock()
	for _, t := range l.topics {
		t.mu.Lock()
		t.wake.All()
		t.mu.Unlock()
	}
	l.mu.Unlock()
	return l.release()
}

func (l *Embedded) release() error {
	var errs []error
	if l.wal != nil {
		errs = append(errs, l.wal.Close())
	}
	if l.db != nil {
		errs = append(errs, l.db.Close())
	}
	if l.lock != nil {
		errs = append(errs, l.lock.Close())
	}
	return errors.Join(errs...)
}
