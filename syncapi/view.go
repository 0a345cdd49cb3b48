package syncapi

import (
	"container/list"
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/rpc"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/syncapi/storage"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// view is what this instance knows of rooms and users: what is used in memory,
// the rest in the database. The applier writes it, requests read it.
type view struct {
	store  *storage.Store
	caller rpc.Caller
	log    *logrus.Entry
	server string // our server's name
	now    func() time.Time
	// shape has the partitions of the topics.
	shape *vector

	maxUsers    int
	maxBytes    int64 // of rooms
	loadTimeout time.Duration

	mu    sync.Mutex
	rooms map[string]*room
	users map[string]*user
	order *list.List // of *room, the ones with something to drop; last used first
	// progress is the Seq per partition of room.output whose rooms have been
	// looked up for being changed: a room made now misses nothing after it.
	progress []int64
	// typed is who typed last in rooms that are not in memory: when nobody does any
	// more, that too is to be told to who heard of it from another instance.
	typed map[string]typing
	// dirty holds what the table rooms does not have yet.
	dirty map[string]storage.Room
	// unread holds checkpoints of counts to be stored.
	unread []storage.Unread
	bytes  int64

	// lists are whose keys have changed lately, see device_lists.go.
	lists *lists

	// presence is what was last said of each user, see presence.go.
	presence presences

	// shared tells that there may be other instances; needed has the last Seq of
	// each partition whose rows another instance writes, stored how far rows are.
	// Guarded by mu, but for stored, which guards itself. maxLag bounds waiting.
	shared bool
	needed *vector
	stored rowsAt
	maxLag time.Duration

	applied atomic.Pointer[vector]
	// advance is closed and made anew whenever applied is.
	advance atomic.Pointer[chan struct{}]
	// audience is who waits for that, or for what comes with it.
	audience audience
}

func newView(store *storage.Store, caller rpc.Caller, log *logrus.Entry, server string, shape *vector) *view {
	v := &view{
		store: store, caller: caller, log: log, server: server, now: time.Now, shape: shape,
		maxUsers: 10_000, maxBytes: 64 << 20, loadTimeout: 30 * time.Second,
		rooms: map[string]*room{}, users: map[string]*user{}, order: list.New(),
		progress: make([]int64, len(shape.rooms)), dirty: map[string]storage.Room{}, typed: map[string]typing{},
		lists:    newLists(len(shape.users)),
		presence: presences{users: map[string]presence{}},
		needed:   shape.clone(), maxLag: 10 * time.Second,
	}
	v.stored.rooms, v.stored.users = make([]int64, len(shape.rooms)), make([]int64, len(shape.users))
	v.publish(shape.clone())
	return v
}

// publish makes a vector the one that requests see.
func (v *view) publish(at *vector) {
	v.applied.Store(at)
	fresh := make(chan struct{})
	if old := v.advance.Swap(&fresh); old != nil {
		close(*old)
	}
}

// partition is the partition of a room.
func (v *view) partition(roomID string) int { return eventlog.PartitionFor(roomID, len(v.progress)) }

// roomLocked returns a room in memory, making a stub. v.mu is held.
func (v *view) roomLocked(id string) (r *room, fresh bool) {
	r, ok := v.rooms[id]
	if !ok {
		p := eventlog.PartitionFor(id, len(v.progress))
		r = &room{id: id, partition: p, active: map[*user]struct{}{}, mostOlder: v.maxBytes / olderShare, mostState: v.maxBytes / stateShare}
		r.tail.from, r.changed, r.redacted = v.progress[p], v.progress[p], v.progress[p]
		if d, ok := v.dirty[id]; ok {
			r.latest, r.joined, r.invited, r.counted = d.Seq, d.Joined, d.Invited, d.Seq
			r.busy, r.bumped, r.purged = d.Active, d.Bumped, d.Purged
		}
		r.typing = v.typed[id]
		delete(v.typed, id)
		v.rooms[id] = r
	}
	return r, !ok
}

// seen is up to where a partition's records have come into the view.
func (v *view) seen(partition int) int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.progress[partition]
}

// startOver drops what is in memory of a partition's rooms: records up to the Seq
// are not going to be applied.
func (v *view) startOver(partition int, seq int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.progress[partition] = max(v.progress[partition], seq)
	for _, r := range v.rooms {
		if r.partition == partition {
			v.bytes -= r.forgetTail(seq)
		}
	}
}

// stubs returns the rooms in memory, loading what is not. The caller unpins them.
func (v *view) stubs(ctx context.Context, ids []string) (map[string]*room, error) {
	out := make(map[string]*room, len(ids))
	var cold []string
	v.mu.Lock()
	for _, id := range ids {
		r, fresh := v.roomLocked(id)
		r.pins++
		out[id] = r
		if fresh || r.last() == 0 {
			cold = append(cold, id)
		}
	}
	v.mu.Unlock()
	if len(cold) == 0 {
		return out, nil
	}
	// The stubs are there already, so that what is applied meanwhile is seen.
	rows, err := v.store.Rooms(ctx, cold)
	if err != nil {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.unpinRooms(out)
		return nil, err
	}
	for _, row := range rows {
		r := out[row.RoomID]
		r.mu.Lock()
		r.latest = max(r.latest, row.Seq)
		r.busy, r.bumped, r.purged = max(r.busy, row.Active), max(r.bumped, row.Bumped), max(r.purged, row.Purged)
		if r.counted < row.Seq {
			r.joined, r.invited, r.counted = row.Joined, row.Invited, row.Seq
		}
		r.mu.Unlock()
	}
	return out, nil
}

// unpinRooms ends a use of rooms. v.mu is held.
func (v *view) unpinRooms(rooms map[string]*room) {
	for _, r := range rooms {
		r.pins--
		v.dropIdleRoom(r)
	}
}

// dropIdleRoom forgets a room that nobody needs. v.mu is held.
func (v *view) dropIdleRoom(r *room) {
	if len(r.active) > 0 || r.pins > 0 || r.place != nil || v.rooms[r.id] != r {
		return
	}
	delete(v.rooms, r.id)
	r.mu.RLock()
	last := r.typing
	r.mu.RUnlock()
	if last.pos > 0 {
		v.typedElsewhere(r.id, last)
	}
	// Who still holds the room finds it empty, not complete.
	r.forgetTail(math.MaxInt64)
}

// maxTyped bounds the rooms not in memory of which it is known who typed last.
const maxTyped = 100_000

// typedElsewhere notes who typed last in a room that is not in memory. v.mu is
// held.
func (v *view) typedElsewhere(roomID string, last typing) {
	if _, ok := v.typed[roomID]; !ok && len(v.typed) >= maxTyped {
		for id := range v.typed { // any
			delete(v.typed, id)
			break
		}
	}
	v.typed[roomID] = last
}

// grown accounts for bytes of a room, makes it the last used, and drops tails
// of the least used rooms while there is too much.
func (v *view) grown(r *room, by int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.grownLocked(r, by)
}

func (v *view) grownLocked(r *room, by int64) {
	v.bytes += by
	if r.place == nil {
		r.place = v.order.PushFront(r)
	} else {
		v.order.MoveToFront(r.place)
	}
	for v.bytes > v.maxBytes && v.order.Len() > 1 {
		old := v.order.Remove(v.order.Back()).(*room)
		old.place = nil
		v.bytes -= old.forgetTail(v.progress[old.partition])
		v.dropIdleRoom(old)
	}
}

// reach waits until the view covers a vector, or ctx is done.
func (v *view) reach(ctx context.Context, want *vector) bool {
	if v.applied.Load().covers(want) {
		return true
	}
	v.audience.enter()
	defer v.audience.leave()
	for {
		changed := *v.advance.Load()
		if v.applied.Load().covers(want) {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// retry tries f until it succeeds or ctx is done, which is then the error.
func (v *view) retry(ctx context.Context, failed string, f func() error) error {
	for {
		err := f()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		v.log.WithError(err).Error(failed)
		pause(ctx, retryLater)
	}
}

// heads asks the writers how far they have committed: what a request without
// a token has to see (design rule 11).
func (v *view) heads(ctx context.Context) (*vector, error) {
	rooms, err := roomapi.Heads(ctx, v.caller, false)
	if err != nil {
		return nil, err
	}
	users, err := userapi.QueryHeads.Call(ctx, v.caller, &userapi.HeadsRequest{})
	if err != nil {
		return nil, err
	}
	return &vector{rooms: rooms, users: users.Seqs, ephID: v.shape.ephID}, nil
}
