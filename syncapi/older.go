package syncapi

import (
	"context"
	"slices"

	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/syncapi/storage"
)

const (
	// maxOlder bounds the events kept of a room from before its tail; their bytes
	// are bounded to one part in olderShare of what all rooms may take.
	maxOlder   = 2000
	olderShare = 8
	// olderPage is how many are asked for at least, olderAhead what is asked for
	// once to count what is unread.
	olderPage  = 32
	olderAhead = 2 * maxTail
)

// older holds what comes right before a room's tail in the timeline, as the
// room server told it or as the tail left it: without what was fetched of the
// past from other servers. It is dropped when anything happens there.
type older struct {
	// events are newest first, for everybody.
	events []*event
	// next is where to go on; the zero Position: nothing is kept.
	next roomapi.Position
	// complete tells that there is nothing before, full that nothing before is
	// to be kept.
	complete, full bool
	bytes          int64
	// drops counts how often it was dropped, or lost an event to a redaction: what
	// was asked before is out of date.
	drops int64
}

// forgetOlder drops the older events; r.mu is held. It returns by how much the
// room grew.
func (r *room) forgetOlder() (grown int64) {
	grown = -r.older.bytes
	r.older = older{drops: r.older.drops + 1}
	return grown
}

// redactOlder redacts an event among the older ones. r.mu is held.
func (r *room) redactOlder(eventID, by string) (grown int64, err error) {
	o := &r.older
	o.drops++ // answers on their way may have it whole
	i := slices.IndexFunc(o.events, func(ev *event) bool { return ev.holds(eventID) })
	if i < 0 {
		return 0, nil
	}
	fresh, err := o.events[i].without(eventID, by)
	if err != nil {
		return 0, err
	}
	grown = fresh.size() - o.events[i].size()
	o.events = slices.Clone(o.events) // readers may hold the old one
	o.events[i] = fresh
	o.bytes += grown
	return grown, nil
}

// changeOlder drops the older events when a record has put something among them.
func (r *room) changeOlder(t *told) (grown int64) {
	if t.Kind == roomapi.OutputEvent && t.place() == t.Position {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	grown = r.forgetOlder()
	r.bytes += grown
	return grown
}

// passOn makes records that the tail drops, oldest first, the newest of the
// older events, if any of those are kept. r.mu is held.
func (r *room) passOn(dropped []*event) (grown int64) {
	o := &r.older
	if o.next == (roomapi.Position{}) || slices.ContainsFunc(dropped, func(ev *event) bool { return ev.limited }) {
		return r.forgetOlder() // there is a hole now
	}
	events := make([]*event, 0, len(dropped)+len(o.events))
	for _, ev := range slices.Backward(dropped) {
		if !ev.hidden {
			events = append(events, ev)
			grown += ev.size()
		}
	}
	o.events = append(events, o.events...)
	o.bytes += grown
	return grown + o.trim(r.mostOlder)
}

// trim drops the oldest events beyond the bounds.
func (o *older) trim(most int64) (grown int64) {
	for n := len(o.events); n > 0 && (n > maxOlder || o.bytes > most); n = len(o.events) {
		last := o.events[n-1]
		o.events, o.next = o.events[:n-1], last.Position
		o.complete, o.full = false, true
		o.bytes -= last.size()
		grown -= last.size()
	}
	return grown
}

// olderKept returns what is kept, and from where to ask for what comes before
// that; false where nothing can be kept.
func (r *room) olderKept() (older, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.olderNow(), r.tail.from != gone && r.tail.from > 0
}

// olderNow is what is kept, with where to go on in any case. r.mu is held.
func (r *room) olderNow() older {
	o := r.older
	if o.next == (roomapi.Position{}) {
		o.next = roomapi.Position{Partition: r.partition, Seq: r.tail.from}
	}
	return o
}

// olderRequest asks for what comes before what is kept.
func (r *room) olderRequest(o older, limit int) *roomapi.HistoryRequest {
	return &roomapi.HistoryRequest{RoomID: r.id, From: o.next, Backwards: true, Limit: min(max(limit, olderPage), maxPage)}
}

// keepOlder keeps an answer to olderRequest, as far as it is to be kept.
func (v *view) keepOlder(r *room, asked older, res *roomapi.HistoryResponse) {
	next, complete, full := res.Next, !res.More && len(res.Gap) == 0, !res.More
	events := make([]*event, 0, len(res.Events))
	var grown int64
	for _, stored := range res.Events {
		// Of what came from elsewhere, and before the next gap, the room server
		// knows better who may see it.
		if stored.Position.Sub < 0 {
			next, complete, full = stored.Position, false, true
			break
		}
		ev := fromStored(stored)
		if rel, ok := relationOf(ev); ok {
			ev.rel = &rel
		}
		events = append(events, ev)
		grown += ev.size()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	r.mu.Lock()
	o := &r.older
	if o.drops != asked.drops || r.olderNow().next != asked.next || r.tail.from == gone {
		r.mu.Unlock()
		return
	}
	// A new slice: readers may hold the old one.
	o.events = append(slices.Clip(o.events), events...)
	o.next, o.complete, o.full = next, complete, full
	o.bytes += grown
	grown += o.trim(r.mostOlder)
	r.bytes += grown
	r.mu.Unlock()
	if grown != 0 {
		v.grownLocked(r, grown)
	}
}

// olderUpTo returns the kept events that are not after a position, newest first,
// where to go on asking, and whether they are all. It asks for more once if what
// is kept is fewer than wanted and does not reach down to a Seq.
func (s *Server) olderUpTo(ctx context.Context, r *room, from roomapi.Position, lower int64, want int) ([]*event, roomapi.Position, bool, error) {
	for asked := false; ; asked = true {
		o, ok := r.olderKept()
		if !ok {
			return nil, from, false, nil
		}
		first, _ := slices.BinarySearchFunc(o.events, from, func(ev *event, pos roomapi.Position) int { return pos.Compare(ev.Position) })
		events := o.events[first:]
		reaches := o.complete || len(events) >= want || len(o.events) > 0 && o.events[len(o.events)-1].Position.Seq <= lower
		if asked || reaches || o.full || from.Less(o.next) {
			return events, minPosition(o.next, from), o.complete, nil
		}
		res, err := roomapi.QueryHistory.Call(ctx, s.caller, r.olderRequest(o, want-len(events)))
		if err != nil {
			return nil, from, false, err
		}
		s.view.keepOlder(r, o, res)
	}
}

func minPosition(a, b roomapi.Position) roomapi.Position {
	if b.Less(a) {
		return b
	}
	return a
}

// childrenFrom returns the relations that are aggregated among the events from a
// position up to a Seq, oldest first, if all of those are in memory.
func (r *room) childrenFrom(from roomapi.Position, upTo int64) (children []storage.Relation, whole bool) {
	r.mu.RLock()
	tail, o := r.tail, r.older
	r.mu.RUnlock()
	add := func(ev *event) {
		if ev.rel != nil && ev.Position.Seq <= upTo && ev.RedactedBy == "" && aggregated(ev.rel.RelType) {
			children = append(children, *ev.rel)
		}
	}
	switch {
	case from.Seq > tail.from:
	case o.complete, len(o.events) > 0 && !from.Less(o.events[len(o.events)-1].Position):
		n, _ := slices.BinarySearchFunc(o.events, from, func(ev *event, pos roomapi.Position) int { return pos.Compare(ev.Position) })
		for _, ev := range slices.Backward(o.events[:min(n+1, len(o.events))]) {
			add(ev)
		}
	default:
		return nil, false
	}
	for _, ev := range tail.events {
		if from.Less(ev.Position) {
			if ev.limited { // of what was fetched from before it, nothing is here
				return nil, false
			}
			add(ev)
		}
	}
	return children, true
}

// find sets those of the events, by ID, that are nil and in memory.
func (r *room) find(events map[string]*event) {
	r.mu.RLock()
	tail, old := r.tail.events, r.older.events
	r.mu.RUnlock()
	missing := 0
	for _, ev := range events {
		if ev == nil {
			missing++
		}
	}
	for _, list := range [][]*event{tail, old} {
		for _, ev := range list {
			if missing == 0 {
				return
			}
			if ev.hidden {
				continue
			}
			if known, wanted := events[ev.EventID()]; wanted && known == nil {
				events[ev.EventID()] = ev
				missing--
			}
		}
	}
}
