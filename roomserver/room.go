package roomserver

import (
	"container/list"
	"slices"
	"sync"

	"github.com/matrix-org/dendrite/common/consumer"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/roomserver/storage"
)

// entry is an entry of a room's current state. nid is 0, and event nil, where
// it is known that there is none.
type entry struct {
	nid   int64
	event *api.StoredEvent
}

// room is a room in memory, as it is committed.
type room struct {
	mu sync.RWMutex
	// row is replaced, never changed.
	row *storage.Room
	// state holds the entries that were needed; full says that these are all.
	state map[gomatrixserverlib.StateKey]entry
	full  bool
	// levels are the power levels of the state, once somebody asked.
	levels *gomatrixserverlib.PowerLevels
	// viewers are the histories of the memberships of users who read the room.
	viewers map[string]*viewer
	bytes   int64
}

// What a room and an entry cost beside their bytes, by a heap profile. An
// event's JSON counts twice: its strings and references are copies of about as
// much.
const (
	roomOverhead  = 2000
	entryOverhead = 1000
)

func newRoom(row *storage.Room) *room {
	return &room{row: row, state: map[gomatrixserverlib.StateKey]entry{}, viewers: map[string]*viewer{}, bytes: roomOverhead}
}

// put sets an entry. The caller holds mu.
func (r *room) put(key gomatrixserverlib.StateKey, e entry) {
	if old, ok := r.state[key]; ok {
		r.bytes -= size(key, old)
	}
	r.state[key] = e
	r.bytes += size(key, e)
}

// remember keeps a viewer, unless the room is not at row any more.
func (r *room) remember(row *storage.Room, v *viewer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.row == row && r.viewers[v.userID] == nil {
		r.viewers[v.userID] = v
		r.bytes += v.size()
	}
}

// forgetViewer is called when a membership changes. The caller holds mu.
func (r *room) forgetViewer(userID string) {
	if v := r.viewers[userID]; v != nil {
		r.bytes -= v.size()
		delete(r.viewers, userID)
	}
}

func (v *viewer) size() int64 { return int64(entryOverhead + len(v.userID) + 32*len(v.history)) }

// drop forgets an entry, to be read again. The caller holds mu.
func (r *room) drop(key gomatrixserverlib.StateKey) {
	if old, ok := r.state[key]; ok {
		r.bytes -= size(key, old)
		delete(r.state, key)
	}
	r.full = false
}

func size(key gomatrixserverlib.StateKey, e entry) int64 {
	n := int64(entryOverhead + len(key.Type) + len(key.StateKey))
	if e.event != nil {
		n += 2 * int64(len(e.event.JSON()))
	}
	return n
}

// learn adds entries read from the database, unless the room has changed since
// they were read.
func (r *room) learn(latest int64, entries map[gomatrixserverlib.StateKey]entry, full bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.row.LatestSeq != latest {
		return
	}
	for key, e := range entries {
		if _, known := r.state[key]; !known {
			r.put(key, e)
		}
	}
	r.full = r.full || full
}

// get returns an entry, and whether it is known.
func (r *room) get(key gomatrixserverlib.StateKey) (entry, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	e, ok := r.state[key]
	return e, ok || r.full
}

// roomCache keeps the rooms used last, within a bound of bytes.
type roomCache struct {
	mu    sync.Mutex
	rooms map[string]*list.Element // of *cached
	order *list.List               // most recently used first
	bytes int64
	max   int64
}

type cached struct {
	id    string
	room  *room
	bytes int64 // as counted in roomCache.bytes
}

func newRoomCache(max int64) *roomCache {
	return &roomCache{rooms: map[string]*list.Element{}, order: list.New(), max: max}
}

func (c *roomCache) get(id string) *room {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.rooms[id]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	c.count(e)
	c.evict()
	return e.Value.(*cached).room
}

// recount brings the sum of bytes up to date with a room that has changed.
func (c *roomCache) recount(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.rooms[id]; e != nil {
		c.count(e)
		c.evict()
	}
}

// add puts a room into the cache, unless it is there already, and returns the
// one that is.
func (c *roomCache) add(id string, r *room) *room {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.rooms[id]; e != nil {
		return e.Value.(*cached).room
	}
	e := c.order.PushFront(&cached{id: id, room: r})
	c.rooms[id] = e
	c.count(e)
	c.evict()
	return r
}

// evict drops the rooms used longest ago, down to the bound.
func (c *roomCache) evict() {
	for c.bytes > c.max && c.order.Len() > 1 {
		c.drop(c.order.Back())
	}
}

// remove forgets a room.
func (c *roomCache) remove(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.rooms[id]; e != nil {
		c.drop(e)
	}
}

// removeOther forgets a room as somebody else has read it: before what is about
// to be applied to r, which was dropped from the cache meanwhile.
func (c *roomCache) removeOther(id string, r *room) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.rooms[id]; e != nil && e.Value.(*cached).room != r {
		c.drop(e)
	}
}

// removePartition forgets the rooms of a partition.
func (c *roomCache) removePartition(partition int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.rooms {
		r := e.Value.(*cached).room
		r.mu.RLock()
		here := r.row.Partition == partition
		r.mu.RUnlock()
		if here {
			c.drop(e)
		}
	}
}

// count brings the sum of bytes up to date with a room's growth.
func (c *roomCache) count(e *list.Element) {
	v := e.Value.(*cached)
	v.room.mu.RLock()
	now := v.room.bytes
	v.room.mu.RUnlock()
	c.bytes += now - v.bytes
	v.bytes = now
}

func (c *roomCache) drop(e *list.Element) {
	v := c.order.Remove(e).(*cached)
	c.bytes -= v.bytes
	delete(c.rooms, v.id)
}

// heads are the last positions committed.
type heads struct {
	mu        sync.RWMutex
	positions storage.Positions
	// applied counts the batches that were applied to the rooms in memory.
	applied int64
}

// get returns a copy.
func (h *heads) get() storage.Positions {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return storage.Positions{Seqs: slices.Clone(h.positions.Seqs), Others: slices.Clone(h.positions.Others)}
}

func (h *heads) generation() int64 {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.applied
}

// progress is how far room.input has been consumed since the start.
type progress struct {
	mu    sync.Mutex
	next  map[int]int64 // offset after the last record handled, by partition
	moved chan struct{} // closed and made anew when next changes
}

func newProgress() *progress {
	return &progress{next: map[int]int64{}, moved: make(chan struct{})}
}

func (p *progress) advance(records []consumer.Record) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range records {
		p.next[r.Partition] = r.Offset + 1
	}
	close(p.moved)
	p.moved = make(chan struct{})
}

// reached tells whether a partition has been consumed up to an offset, or
// returns what to wait for.
func (p *progress) reached(partition int, offset int64) (bool, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.next[partition] >= offset, p.moved
}
