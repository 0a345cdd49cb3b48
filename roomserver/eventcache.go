package roomserver

import (
	"math"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/matrix-org/dendrite/roomserver/api"
)

// eventCache keeps the timeline events that were read last, by event_nid and
// within a bound of bytes: pages of history are read again and again, by
// everybody who opens a room. What it holds does not change; an event that is
// redacted is forgotten.
type eventCache struct {
	mu         sync.Mutex
	events     *simplelru.LRU[int64, *api.StoredEvent]
	bytes, max int64
	// changes counts redactions: what was read before one may be what it was.
	changes int64
}

func newEventCache(max int64) *eventCache {
	c := &eventCache{max: max}
	// An error is for a size below one alone.
	c.events, _ = simplelru.NewLRU(math.MaxInt, func(_ int64, e *api.StoredEvent) { c.bytes -= eventBytes(e) })
	return c
}

func eventBytes(e *api.StoredEvent) int64 { return int64(entryOverhead + len(e.JSON())) }

// get sets the events that are known of a list, and returns the others, with
// what add has to be given for them.
func (c *eventCache) get(nids []int64, out map[int64]*api.StoredEvent) (unknown []int64, changes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, nid := range nids {
		if e, ok := c.events.Get(nid); ok {
			out[nid] = e
		} else {
			unknown = append(unknown, nid)
		}
	}
	return unknown, c.changes
}

// add keeps events that were read after get, unless something was redacted since.
func (c *eventCache) add(read map[int64]*api.StoredEvent, changes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changes != changes {
		return
	}
	for nid, e := range read {
		if !c.events.Contains(nid) {
			c.events.Add(nid, e)
			c.bytes += eventBytes(e)
		}
	}
	for c.bytes > c.max {
		c.events.RemoveOldest()
	}
}

// forget is called when an event was redacted.
func (c *eventCache) forget(nid int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	c.events.Remove(nid)
}

// clear is called when a room was purged, or another instance may have changed
// what is stored.
func (c *eventCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	c.events.Purge()
}
