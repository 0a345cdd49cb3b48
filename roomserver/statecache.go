package roomserver

import (
	"context"
	"math"
	"slices"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/storage"
)

// stateCache keeps the whole states that were needed last, within a bound of
// bytes: the events of a fork need the same few again and again, and those of a
// large room take long to read. What a room's state was at a Seq that is
// committed does not change.
type stateCache struct {
	mu         sync.Mutex
	states     *simplelru.LRU[stateAt, keptState]
	seqs       map[int64][]int64 // of each room those that are kept, the last used first
	bytes, max int64
}

// maxStatesPerRoom bounds the states that are looked through.
const maxStatesPerRoom = 16

type stateAt struct{ roomNID, seq int64 }

type keptState struct {
	state state
	bytes int64
}

// stateEntryOverhead is what an entry costs beside its texts.
const stateEntryOverhead = 120

func newStateCache(max int64) *stateCache {
	c := &stateCache{max: max, seqs: map[int64][]int64{}}
	// An error is for a size below one alone.
	c.states, _ = simplelru.NewLRU(math.MaxInt, func(at stateAt, s keptState) {
		c.bytes -= s.bytes
		c.seqs[at.roomNID] = slices.DeleteFunc(c.seqs[at.roomNID], func(seq int64) bool { return seq == at.seq })
		if len(c.seqs[at.roomNID]) == 0 {
			delete(c.seqs, at.roomNID)
		}
	})
	return c
}

// get returns the state at a Seq, or the last before it that is kept, and the
// Seq of what it returns; 0 if there is none.
func (c *stateCache) get(roomNID, seq int64) (state, int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept, best := c.seqs[roomNID], -1
	for i, at := range kept {
		if at <= seq && (best < 0 || at > kept[best]) {
			best = i
		}
	}
	if best < 0 {
		return nil, 0
	}
	at := kept[best]
	copy(kept[1:], kept[:best])
	kept[0] = at
	s, _ := c.states.Get(stateAt{roomNID, at})
	return s.state, at
}

func (c *stateCache) add(roomNID, seq int64, s state) {
	kept := keptState{state: s}
	for key, id := range s {
		kept.bytes += int64(stateEntryOverhead + len(key.StateKey) + len(id))
	}
	if kept.bytes > c.max {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	at := stateAt{roomNID, seq}
	if c.states.Contains(at) {
		return
	}
	if kept := c.seqs[roomNID]; len(kept) == maxStatesPerRoom {
		c.states.Remove(stateAt{roomNID, kept[len(kept)-1]})
	}
	c.seqs[roomNID] = slices.Insert(c.seqs[roomNID], 0, seq)
	c.bytes += kept.bytes
	c.states.Add(at, kept)
	for c.bytes > c.max {
		c.states.RemoveOldest()
	}
}

// clear is called when another instance may have changed what is stored.
func (c *stateCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.states.Purge()
}

// maxStateChanges is how many changes are read to make a state of an older one.
const maxStateChanges = 1000

// stateIDs returns a room's state at a Seq at which it changed.
func (s *Server) stateIDs(ctx context.Context, roomNID, seq int64) (state, error) {
	old, from := s.states.get(roomNID, seq)
	if old != nil && from == seq {
		return old, nil
	}
	var out state
	err := s.store.ReadOne(ctx, func(tx *sqldb.Tx) error {
		if old != nil {
			changes, err := s.store.StateIDChangesIn(ctx, tx, roomNID, from, seq, maxStateChanges)
			if err == nil && len(changes) < maxStateChanges {
				out = changed(old, changes)
			}
			if err != nil || out != nil {
				return err
			}
		}
		out = state{}
		types := map[string]string{} // of which there are few
		return s.store.StateIDsAt(ctx, tx, roomNID, seq, func(c storage.StateChange, id string) {
			if types[c.Type] == "" {
				types[c.Type] = c.Type
			}
			out[gomatrixserverlib.StateKey{Type: types[c.Type], StateKey: c.StateKey}] = id
		})
	})
	if err != nil {
		return nil, err
	}
	s.states.add(roomNID, seq, out)
	return out, nil
}

func changed(old state, changes []storage.StateIDChange) state {
	deltas := make([]delta, len(changes))
	for i, c := range changes {
		deltas[i] = delta{key: gomatrixserverlib.StateKey{Type: c.Type, StateKey: c.StateKey}, new: c.EventID}
	}
	return apply(old, deltas)
}
