package syncapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/matrix-org/dendrite/common/lease"
	"github.com/matrix-org/dendrite/common/matrixerror"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/syncapi/storage"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// Who writes the rows of the view, and how the others wait for them: see doc.go.

// lookRows is the pause between looks at how far the rows are stored.
const lookRows = 3 * time.Millisecond

// rowsAt is how far the rows of the view are stored, as far as is known here.
type rowsAt struct {
	mu sync.Mutex
	// looked is when the database was asked last.
	looked       time.Time
	rooms, users []int64
}

func (a *rowsAt) list(topic string) []int64 {
	if topic == roomapi.TopicOutput {
		return a.rooms
	}
	return a.users
}

// reached notes that the rows of a partition are stored up to a Seq.
func (a *rowsAt) reached(topic string, partition int, seq int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if list := a.list(topic); partition < len(list) {
		list[partition] = max(list[partition], seq)
	}
}

// has tells whether the rows of a vector are stored.
func (a *rowsAt) has(want *vector) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return covers(a.rooms, want.rooms) && covers(a.users, want.users)
}

// lookAtRows asks the database how far the rows are stored, unless somebody
// has just done so.
func (v *view) lookAtRows(ctx context.Context) error {
	v.stored.mu.Lock()
	defer v.stored.mu.Unlock()
	if time.Since(v.stored.looked) < lookRows {
		return nil
	}
	for _, topic := range []string{roomapi.TopicOutput, userapi.TopicUserOutput} {
		offsets, err := v.store.Offsets(ctx, topic)
		if err != nil {
			return err
		}
		list := v.stored.list(topic)
		for _, o := range offsets {
			if o.Partition < len(list) {
				list[o.Partition] = max(list[o.Partition], o.Seq)
			}
		}
	}
	v.stored.looked = time.Now()
	return nil
}

// need notes that a record with rows, which another instance writes, was taken.
// v.mu is held.
func (v *view) need(s *source, seq int64) {
	list := v.needed.users
	if s.topic == roomapi.TopicOutput {
		list = v.needed.rooms
	}
	list[s.partition] = max(list[s.partition], seq)
}

// ofRoom, ofUsers and ofUser choose from a vector what somebody reads.
func ofRoom(partition int) func(*vector) *vector {
	return func(all *vector) *vector {
		some := &vector{rooms: make([]int64, len(all.rooms))}
		some.rooms[partition] = all.rooms[partition]
		return some
	}
}

func ofUsers(all *vector) *vector { return &vector{users: all.users} }

func ofUser(partition int) func(*vector) *vector {
	return func(all *vector) *vector {
		some := &vector{rooms: all.rooms, users: make([]int64, len(all.users))}
		some.users[partition] = all.users[partition]
		return some
	}
}

// awaitRows waits, bounded, until the database has the rows of all records that
// have been taken here by now. Who reads rows to keep them in memory has made
// known before that changes are to be kept for it.
func (v *view) awaitRows(ctx context.Context, of func(*vector) *vector) error {
	if !v.shared {
		return nil // they are written before anything is shown
	}
	v.mu.Lock()
	want := of(v.needed.clone())
	v.mu.Unlock()
	if v.stored.has(want) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, v.maxLag)
	defer cancel()
	for {
		if err := v.lookAtRows(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		if v.stored.has(want) {
			return nil
		}
		pause(ctx, lookRows)
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return matrixerror.Unavailable(retryLater, "The view of rooms lags behind")
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// bears tells from a record's header whether it makes rows, or may.
func (v *view) bears(rec *roomapi.OutputRecord, lines [][]byte) bool {
	if rec.Kind == roomapi.OutputPurged || rec.Kind == roomapi.OutputHistoryPurged || rec.Kind == roomapi.OutputOutOfRoom || rec.Redacts != "" {
		return true
	}
	for i := range rec.Changes {
		if c := &rec.Changes[i]; c.Type == typeMember && v.local(c.StateKey) &&
			(c.EventID != rec.EventID || rec.Membership != "join" || rec.MembershipBefore != "join") {
			return true
		}
	}
	return rec.StateKey == nil && len(lines) > 0 && bytes.Contains(lines[0], []byte("m.relates_to"))
}

// concerns tells whether a record concerns anybody in memory. If not, but it
// makes rows that another instance writes, who comes into memory from now on
// waits for these.
func (v *view) concerns(s *source, rec *roomapi.OutputRecord, bears bool) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if bears && !s.owned {
		v.need(s, rec.Position.Seq)
	}
	if r, ok := v.rooms[rec.RoomID]; ok && (len(r.active) > 0 || r.pins > 0) {
		return true
	}
	if !bears {
		return false
	}
	if rec.Kind == roomapi.OutputPurged {
		return true
	}
	if rec.StateKey != nil && v.users[*rec.StateKey] != nil {
		return true
	}
	for i := range rec.Changes {
		if c := &rec.Changes[i]; c.Type == typeMember && v.users[c.StateKey] != nil {
			return true
		}
	}
	return false
}

// passOver applies a record that is about nobody in memory, without looking at
// its event.
func (a *application) passOver(rec *roomapi.OutputRecord, at int64) {
	v, seq := a.v, rec.Position.Seq
	v.mu.Lock()
	defer v.mu.Unlock()
	v.progress[rec.Position.Partition] = max(v.progress[rec.Position.Partition], seq)
	v.dirty[rec.RoomID] = roomAfter(v.dirty[rec.RoomID], rec, at)
	r, ok := v.rooms[rec.RoomID]
	if !ok {
		return
	}
	// It is there after all, or has come meanwhile: what it holds ends here.
	r.touch(rec, at)
	v.bytes -= r.forgetTail(seq)
	if r.place != nil {
		v.order.Remove(r.place)
		r.place = nil
	}
	v.move(rec.Position.Partition, seq, r.active)
	for u := range r.active {
		a.woken[u] = struct{}{}
	}
	v.dropIdleRoom(r)
}

// number is a source's partition in the lease group of the rows.
func (c *consumer) number(s *source) int {
	if s.topic == roomapi.TopicOutput {
		return s.partition
	}
	return len(c.view.shape.rooms) + s.partition
}

// newLeases makes the leases that say who writes the rows of a partition.
func newLeases(ctx context.Context, d Deps, v *view) (*lease.Manager, error) {
	n, m := len(v.shape.rooms), len(v.shape.users)
	leases, err := lease.New(ctx, lease.Options{DB: d.DB, Group: fmt.Sprintf(storage.LeaseGroup, n, m), Partitions: n + m, TTL: d.LeaseTTL, Logger: v.log, Metrics: d.Metrics})
	if err != nil {
		return nil, fmt.Errorf("syncapi: %w", err)
	}
	return leases, nil
}

// reconcile takes over the rows of partitions that have become this instance's,
// and gives back those that others should have.
func (c *consumer) reconcile(ctx context.Context) error {
	c.again = false
	held := map[int]lease.Lease{}
	for _, l := range c.leases.Held() {
		held[l.Partition] = l
	}
	surplus := c.leases.Surplus()
	for _, s := range c.sources {
		if s.topic == userapi.TopicEphemeral {
			continue
		}
		l, ok := held[c.number(s)]
		s.owned = s.owned && ok && l.Epoch == s.lease.Epoch
		switch {
		case !ok:
		case surplus > 0:
			surplus--
			if err := c.giveBack(ctx, s, l); err != nil {
				return err
			}
		case !s.owned:
			if err := c.takeOver(ctx, s, l); err != nil {
				if stopsView(err) {
					return err
				}
				c.view.log.WithError(err).WithField("topic", s.topic).WithField("partition", s.partition).Warn("The rows of a partition cannot be taken over yet")
				c.again = true
			}
		}
	}
	return nil
}

// giveBack hands a partition over. What is not stored of it yet is the next
// owner's to write.
func (c *consumer) giveBack(ctx context.Context, s *source, l lease.Lease) error {
	if s.owned {
		if err := c.flushed(ctx, newFlush(nil)); err != nil {
			return err
		}
	}
	s.owned = false
	if err := c.leases.Release(ctx, l); err != nil {
		c.view.log.WithError(err).Warn("A partition could not be handed over yet")
	}
	return nil
}

// takeOver writes the rows of what has been applied here but not stored by who
// had the partition before, from the log, and from then on writes them.
func (c *consumer) takeOver(ctx context.Context, s *source, l lease.Lease) error {
	offsets, err := c.view.store.Offsets(ctx, s.topic)
	if err != nil {
		return err
	}
	start, _, err := c.log.Bounds(ctx, s.topic, s.partition)
	if err != nil {
		return err
	}
	t := &source{topic: s.topic, topicID: s.topicID, partition: s.partition, owned: true, lease: l, held: map[int64]record{}}
	for _, o := range offsets {
		if o.Partition == s.partition {
			t.next, t.seq = o.Next, o.Seq
			if o.TopicID != s.topicID {
				return fmt.Errorf("%w: topic %s is not the one that the view was built from", errView, s.topic)
			}
		}
	}
	if t.next < s.done && t.next < start {
		return fmt.Errorf("%w: topic %s/%d starts at offset %d, after offset %d that the view needs", errView, s.topic, s.partition, start, t.next)
	}
	for t.next < s.done {
		records, err := c.log.Read(ctx, s.topic, s.partition, t.next, readBytes)
		if err != nil {
			return err
		}
		a := newApplication(c.view)
		for _, r := range records {
			if r.Offset >= s.done {
				t.next = s.done
				break
			}
			t.next = r.Offset + 1
			if err := a.take(ctx, t, r); err != nil {
				return err
			}
		}
		f := newFlush(a)
		f.only = t
		if err := c.flush(ctx, f); err != nil {
			return err
		}
		if !t.owned {
			return lease.ErrFenced
		}
	}
	s.lease, s.owned, s.stored, s.written = l, true, s.done, t.seq
	return nil
}

// errView marks what an operator has to decide about.
var errView = errors.New("syncapi: the log does not fit the view")

func stopsView(err error) bool { return errors.Is(err, errView) }

// prune forgets what the table rooms has by now of the partitions that others
// write.
func (c *consumer) prune(ctx context.Context) {
	v := c.view
	v.mu.Lock()
	n := len(v.dirty)
	v.mu.Unlock()
	if n == 0 {
		return
	}
	if err := v.lookAtRows(ctx); err != nil {
		if ctx.Err() == nil {
			v.log.WithError(err).Warn("The positions of the view cannot be read now")
		}
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.stored.mu.Lock()
	defer v.stored.mu.Unlock()
	for id, d := range v.dirty {
		if d.Seq <= v.stored.rooms[v.partition(id)] {
			delete(v.dirty, id)
		}
	}
}
