package syncapi

import (
	"container/list"
	"slices"
	"sync"

	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/syncapi/storage"
)

// room is what is kept in memory of a room: a stub for as long as a user in
// memory is a member, and its recent events while they are used.
type room struct {
	id        string
	partition int

	// active are the users in memory who are joined; guarded by view.mu.
	active map[*user]struct{}
	// pins counts who is about to use the room; guarded by view.mu.
	pins int
	// place is the room's element in view.order; guarded by view.mu.
	place *list.Element

	mu sync.RWMutex
	// latest is the Seq of the room's last record.
	latest int64
	// joined and invited count members, as of counted (0: not known).
	joined, invited int
	counted         int64
	// busy and bumped are Active and Bumped of storage.Room; facts is what filters of lists go by.
	busy, bumped int64
	facts        roomFacts
	tail         tail
	// kept is what is known of the state; changed and redacted are the Seqs of
	// the last records that may have changed it, or redacted an event of it.
	kept              keptState
	changed, redacted int64
	// purged is the Seq of the last record that purged events of the room.
	purged int64
	older  older
	// mostOlder and mostState bound the bytes of what is kept.
	mostOlder, mostState int64
	receipts             *receipts
	typing               typing
	heroes               *heroes
	// bytes is what tail, older events, state and receipts cost.
	bytes int64
}

// tail holds a room's recent records: all with a Seq over from.
type tail struct {
	from   int64
	events []*event // ascending, at most 2 × maxTail
}

// maxTail is how many records of a room are kept at least, once they are there.
const maxTail = 64

// typing is who types in a room, and since which position of ephemeral.
type typing struct {
	users     []string
	partition int
	pos       int64
}

// add appends a record to the tail and returns by how much the room grew.
func (r *room) add(ev *event) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	grown := ev.size()
	if len(r.tail.events) >= 2*maxTail {
		drop := r.tail.events[:maxTail]
		for _, old := range drop {
			grown -= old.size()
		}
		r.tail.from = drop[maxTail-1].Position.Seq
		r.tail.events = append(make([]*event, 0, 2*maxTail), r.tail.events[maxTail:]...)
		grown += r.passOn(drop)
	}
	r.tail.events = append(r.tail.events, ev)
	r.bytes += grown
	r.heroesChanged(ev)
	return grown
}

// touch notes the room's last position and its member counts then.
func (r *room) touch(rec *roomapi.OutputRecord, at int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	after := roomAfter(storage.Room{Active: r.busy, Bumped: r.bumped, Purged: r.purged}, rec, at)
	r.busy, r.bumped, r.purged = after.Active, after.Bumped, after.Purged
	r.facts.touch(rec)
	r.latest = max(r.latest, rec.Position.Seq)
	r.joined, r.invited, r.counted = rec.JoinedCount, rec.InvitedCount, rec.Position.Seq
}

// redact replaces an event of the tail, of changes there and of what else is
// kept by what a redaction has left of it. It returns by how much the room grew.
func (r *room) redact(eventID, by string, seq int64) (grown int64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() { r.bytes += grown }()
	if grown, err = r.redactOlder(eventID, by); err != nil {
		return grown, err
	}
	more, err := r.redactState(eventID, by, seq)
	if grown += more; err != nil {
		return grown, err
	}
	var events []*event // a new slice: readers may hold the old one
	for i, old := range r.tail.events {
		if !old.holds(eventID) {
			continue
		}
		fresh, err := old.without(eventID, by)
		if err != nil {
			return grown, err
		}
		if events == nil {
			events = slices.Clone(r.tail.events)
		}
		events[i] = fresh
		grown += fresh.size() - old.size()
	}
	if events != nil {
		r.tail.events = events
	}
	return grown, nil
}

// window returns the records in (since, upTo] and whether the tail holds all of
// them; if not, those that it does hold.
func (r *room) window(since, upTo int64) ([]*event, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if upTo <= since {
		return nil, true // also where the tail begins after what is shown yet
	}
	seq := func(ev *event, s int64) int {
		switch {
		case ev.Position.Seq <= s:
			return -1
		default:
			return 1
		}
	}
	first, _ := slices.BinarySearchFunc(r.tail.events, since, seq)
	last, _ := slices.BinarySearchFunc(r.tail.events, upTo, seq)
	if last <= first {
		return nil, since >= r.tail.from
	}
	// Appends go behind last or into a new array, redactions into a new one:
	// what this slice shows never changes.
	return r.tail.events[first:last:last], since >= r.tail.from
}

// last returns the Seq of the room's last record.
func (r *room) last() int64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.latest
}

// forgetTail drops what is kept of the room but the stub. Everything up to the
// Seq given has been applied.
func (r *room) forgetTail(applied int64) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	freed := r.bytes
	r.tail = tail{from: applied}
	r.forgetState(applied)
	r.forgetOlder()
	if r.receipts != nil && r.receipts.loaded {
		r.receipts = nil
	}
	r.heroes, r.bytes = nil, 0
	return freed
}
