package lease

import (
	"context"
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/sqldb"
)

//go:embed migrations/*.sql
var migrations embed.FS

// ErrFenced says that a partition has, or may have, another owner by now.
var ErrFenced = errors.New("lease: the partition has another owner")

// DefaultTTL is how long a lease holds without renewal.
const DefaultTTL = 2 * time.Second

// Options describe an instance of a group. DB, Group, Partitions and Logger are needed.
type Options struct {
	DB *sqldb.DB
	// Group names who share the partitions: a consumer and its topic.
	Group      string
	Partitions int
	// Owner names this instance, unlike every other and every earlier one;
	// default random.
	Owner string
	// Address is where this instance answers queries; may be empty.
	Address string
	// TTL is how long a lease holds without renewal; default DefaultTTL. It is
	// renewed each quarter of it.
	TTL time.Duration
	// Sole says that there can be no other instance, since the log is locked by
	// this process: leases are taken at once from whom had them, and not renewed.
	Sole    bool
	Logger  *logrus.Entry
	Metrics prometheus.Registerer // may be nil
}

// Lease is a partition that this instance owns.
type Lease struct {
	Partition int
	Epoch     int64
	// NextOffset and TopicID are what was last committed when the lease was
	// taken; -1 and "" if nothing ever was.
	NextOffset int64
	TopicID    string
}

// held is a Lease with the end of its local validity.
type held struct {
	Lease
	until time.Time
	// committed is the offset that this instance knows to have committed.
	committed int64
}

// Manager keeps the leases of one instance.
type Manager struct {
	o       Options
	metrics *metrics

	mu      sync.Mutex
	held    map[int]held
	surplus int           // how many of held others should have
	changed chan struct{} // closed and made anew when held or surplus change
}

// New makes the tables and the group's rows. It takes nothing yet: Run does.
func New(ctx context.Context, o Options) (*Manager, error) {
	if o.Owner == "" {
		o.Owner = rand.Text()
	}
	if o.TTL == 0 {
		o.TTL = DefaultTTL
	}
	if err := Migrate(ctx, o.DB); err != nil {
		return nil, err
	}
	m := &Manager{o: o, held: map[int]held{}, changed: make(chan struct{})}
	if err := m.makeRows(ctx); err != nil {
		return nil, fmt.Errorf("lease: %s: %w", o.Group, err)
	}
	if err := m.measure(); err != nil {
		return nil, fmt.Errorf("lease: %s: metrics: %w", o.Group, err)
	}
	return m, nil
}

// Held returns the leases that are valid now, by partition.
func (m *Manager) Held() []Lease {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Lease
	now := time.Now()
	for _, h := range m.held {
		if m.o.Sole || now.Before(h.until) {
			out = append(out, h.Lease)
		}
	}
	slices.SortFunc(out, func(a, b Lease) int { return a.Partition - b.Partition })
	return out
}

// Valid tells whether this instance surely owns the partition now, so that it
// may answer for it from memory.
func (m *Manager) Valid(partition int) bool {
	_, ok := m.Epoch(partition)
	return ok
}

// Epoch returns the epoch of a lease that is surely valid now. It is another
// one when the lease was lost meanwhile, unnoticed perhaps.
func (m *Manager) Epoch(partition int) (int64, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, ok := m.held[partition]
	return h.Epoch, ok && (m.o.Sole || time.Now().Before(h.until))
}

// Kept tells whether a lease was not lost as far as is known, and whether it is
// surely valid now. One that was not renewed in time may be renewed yet, with its
// epoch: what belongs to it is not to be used meanwhile, nor forgotten.
func (m *Manager) Kept(partition int) (kept, valid bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h, kept := m.held[partition]
	return kept, kept && (m.o.Sole || time.Now().Before(h.until))
}

// Changed returns a channel that is closed when Held or Surplus change next.
func (m *Manager) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

// Surplus returns how many of its partitions this instance is to release.
func (m *Manager) Surplus() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.surplus
}

// Committed notes that a commit under the lease took effect: what is stored is
// l.NextOffset. If less is stored at a later beat, the database has lost
// commits (a PostgreSQL server that crashed, and need not have had them on disk),
// and the lease is given up for a beat, so that whoever holds it begins anew
// with what is stored.
func (m *Manager) Committed(l Lease) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if h, ok := m.held[l.Partition]; ok && h.Epoch == l.Epoch {
		h.committed = l.NextOffset
		m.held[l.Partition] = h
	}
}

// known are the offsets that were committed before now, by partition.
func (m *Manager) known() map[int]held {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.held)
}

// Drop forgets a lease that turned out to be lost.
func (m *Manager) Drop(l Lease) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if h, ok := m.held[l.Partition]; ok && h.Epoch == l.Epoch {
		delete(m.held, l.Partition)
		m.metrics.lost.Inc()
		m.notify()
	}
}

// notify wakes who waits for a change; mu is held.
func (m *Manager) notify() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// Run takes and renews leases until ctx is done.
func (m *Manager) Run(ctx context.Context) {
	ticker := time.NewTicker(m.o.TTL / 4)
	defer ticker.Stop()
	for ctx.Err() == nil {
		// A beat that waits for its turn to write is given up when the leases
		// are over.
		beat, cancel := context.WithTimeout(ctx, m.o.TTL)
		err := m.beat(beat)
		cancel()
		if err != nil && ctx.Err() == nil {
			m.metrics.failures.Inc()
			m.o.Logger.WithError(err).WithField("group", m.o.Group).Warn("Leases could not be renewed")
		}
		if err == nil && m.o.Sole {
			<-ctx.Done() // nobody to renew against
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
}
