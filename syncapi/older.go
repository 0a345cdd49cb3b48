package syncapi

import (
	"context"
	"slices"

	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

const (
	// maxOlder bounds the events kept of a room from before its tail.
	maxOlder = 2 * maxTail
	// olderPage is how many are asked for at least.
	olderPage = 32
)

// older holds what comes right before a room's tail in the timeline, as the
// room server told it: without what was fetched of the past from other servers.
// It is dropped when anything happens there, and when the tail begins elsewhere.
type older struct {
	// events are newest first, for everybody.
	events []*event
	// next is where to go on; the zero Position: nothing is kept.
	next roomapi.Position
	// complete tells that there is nothing before.
	complete bool
	bytes    int64
	// drops counts how often it was dropped: what was asked before is out of date.
	drops int64
}

// forgetOlder drops the older events; r.mu is held. It returns by how much the
// room grew.
func (r *room) forgetOlder() (grown int64) {
	grown = -r.older.bytes
	r.older = older{drops: r.older.drops + 1}
	return grown
}

// redactOlder drops the older events if the redacted one is among them. r.mu is held.
func (r *room) redactOlder(eventID string) int64 {
	if slices.ContainsFunc(r.older.events, func(ev *event) bool { return ev.EventID() == eventID }) {
		return r.forgetOlder()
	}
	r.older.drops++ // answers on their way may have it whole
	return 0
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

// olderKept returns what is kept, and from where to ask for what comes before
// that; false where nothing can be kept.
func (r *room) olderKept() (older, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	o := r.older
	if o.next == (roomapi.Position{}) {
		o.next = roomapi.Position{Partition: r.partition, Seq: r.tail.from}
	}
	return o, r.tail.from != gone && r.tail.from > 0
}

// olderRequest asks for what comes before what is kept.
func (r *room) olderRequest(o older, limit int) *roomapi.HistoryRequest {
	return &roomapi.HistoryRequest{RoomID: r.id, From: o.next, Backwards: true, Limit: max(limit, olderPage)}
}

// keepOlder keeps an answer to olderRequest, as far as it is to be kept.
func (v *view) keepOlder(r *room, asked older, res *roomapi.HistoryResponse) {
	events := fromAllStored(res.Events)
	next, complete := res.Next, !res.More && len(res.Gap) == 0
	for i, ev := range events {
		// Of what came from elsewhere, and before the next gap, the room server
		// knows better who may see it.
		if ev.Position.Sub < 0 || len(asked.events)+i == maxOlder {
			events, next, complete = events[:i], ev.Position, false
			break
		}
		if rel, ok := relationOf(ev); ok {
			ev.rel = &rel
		}
	}
	var grown int64
	for _, ev := range events {
		grown += ev.size()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	r.mu.Lock()
	o := &r.older
	if o.drops != asked.drops || len(o.events) != len(asked.events) || r.tail.from == gone || o.next != (roomapi.Position{}) && o.next != asked.next ||
		o.next == (roomapi.Position{}) && r.tail.from != asked.next.Seq {
		r.mu.Unlock()
		return
	}
	// A new slice: readers may hold the old one.
	o.events = append(slices.Clip(o.events), events...)
	o.next, o.complete = next, complete
	o.bytes += grown
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
	for hops := range 2 {
		o, ok := r.olderKept()
		if !ok {
			break
		}
		events := o.events
		for len(events) > 0 && from.Less(events[0].Position) {
			events = events[1:]
		}
		reaches := o.complete || len(events) >= want || len(o.events) > 0 && o.events[len(o.events)-1].Position.Seq <= lower
		if reaches || from.Less(o.next) || len(o.events) >= maxOlder || hops > 0 {
			return events, minPosition(o.next, from), o.complete, nil
		}
		res, err := roomapi.QueryHistory.Call(ctx, s.caller, r.olderRequest(o, want-len(events)))
		if err != nil {
			return nil, from, false, err
		}
		s.view.keepOlder(r, o, res)
	}
	return nil, from, false, nil
}

func minPosition(a, b roomapi.Position) roomapi.Position {
	if b.Less(a) {
		return b
	}
	return a
}

// timelineFrom returns the records from a position up to a Seq, oldest first,
// if all of them are in memory.
func (r *room) timelineFrom(from roomapi.Position, upTo int64) ([]*event, bool) {
	window, whole := r.window(from.Seq-1, upTo)
	if whole {
		return window, true
	}
	r.mu.RLock()
	o, tail := r.older, r.tail
	r.mu.RUnlock()
	if len(window) > 0 && len(tail.events) > 0 && window[0] != tail.events[0] {
		return nil, false // the tail has moved on
	}
	n := slices.IndexFunc(o.events, func(ev *event) bool { return !from.Less(ev.Position) })
	if n < 0 {
		return nil, false
	}
	out := slices.Clone(o.events[:n+1])
	slices.Reverse(out)
	return append(out, window...), true
}
