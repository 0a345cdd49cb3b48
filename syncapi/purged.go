package syncapi

import (
	"context"
	"slices"

	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/syncapi/storage"
)

// purgeHistory forgets events of a room that are gone.
func (a *application) purgeHistory(rec *roomapi.OutputRecord, at int64) {
	v := a.v
	v.mu.Lock()
	defer v.mu.Unlock()
	p, seq := rec.Position.Partition, rec.Position.Seq
	r, _ := v.roomLocked(rec.RoomID)
	v.progress[p] = max(v.progress[p], seq)
	v.dirty[rec.RoomID] = roomAfter(v.dirty[rec.RoomID], rec, at)
	r.touch(rec, at)
	if grown := r.forgetEvents(rec.Purged); grown != 0 {
		v.grownLocked(r, grown)
	}
	v.dropIdleRoom(r)
}

// goneRows are the rows that purged events have.
func goneRows(rec *roomapi.OutputRecord) storage.Gone {
	g := storage.Gone{RoomID: rec.RoomID, Places: make(map[string]storage.Place, len(rec.Purged))}
	for _, e := range rec.Purged {
		g.Places[e.EventID] = storage.Place{Seq: e.Seq, Sub: e.Sub}
	}
	return g
}

// forgetEvents drops events from what is kept of the room, and returns by how much it
// grew. Receipts at them learn where they were: nobody can be asked any more.
func (r *room) forgetEvents(purged []roomapi.PurgedEvent) (grown int64) {
	gone := make(map[string]roomapi.PurgedEvent, len(purged))
	for _, e := range purged {
		gone[e.EventID] = e
	}
	is := func(ev *event) bool {
		if ev.Event == nil {
			return false
		}
		_, is := gone[ev.EventID()]
		return is
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.ContainsFunc(r.tail.events, is) {
		events := make([]*event, 0, 2*maxTail) // a new slice: readers may hold the old one
		for _, ev := range r.tail.events {
			if !is(ev) {
				events = append(events, ev)
				continue
			}
			grown -= ev.size()
			if left := ev.withoutItself(); left != nil {
				events = append(events, left)
				grown += left.size()
			}
		}
		r.tail.events = events
	}
	o := &r.older
	o.drops++ // answers on their way may have them
	if slices.ContainsFunc(o.events, is) {
		kept := slices.Clone(o.events)
		for _, ev := range kept {
			if is(ev) {
				o.bytes -= ev.size()
				grown -= ev.size()
			}
		}
		o.events = slices.DeleteFunc(kept, is)
	}
	if r.receipts != nil {
		for key, rec := range r.receipts.all {
			if e, ok := gone[rec.EventID]; ok {
				rec.Place = storage.Place{Seq: e.Seq, Sub: e.Sub}.Of(e.EventID)
				r.receipts.all[key] = rec
			}
		}
	}
	r.bytes += grown
	return grown
}

// withoutItself is what stays of an entry of a tail when its event is purged: the
// changes of state that came with it, and that there is a gap; nil for nothing.
func (e *event) withoutItself() *event {
	if len(e.changes) == 0 && !e.limited {
		return nil
	}
	return &event{StoredEvent: &roomapi.StoredEvent{Position: e.Position}, changes: e.changes, hidden: true, limited: e.limited}
}

// lastPurge is the Seq of the last record that purged events of the room.
func (r *room) lastPurge() int64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.purged
}

// dropGone drops notices of events that were purged since it was done last. fold.mu
// is held.
func (s *Server) dropGone(ctx context.Context, fold *unread, r *room) error {
	last := r.lastPurge()
	if fold.checked >= last {
		return nil
	}
	if len(fold.notices) > 0 {
		ids := make([]string, len(fold.notices))
		for i, n := range fold.notices {
			ids[i] = n.ID
		}
		res, err := roomapi.QueryEvents.Call(ctx, s.caller, &roomapi.EventsRequest{RoomID: r.id, EventIDs: ids})
		if err != nil {
			return err
		}
		there := make(map[string]struct{}, len(res.Events))
		for _, ev := range res.Events {
			there[ev.EventID()] = struct{}{}
		}
		fold.notices = slices.DeleteFunc(fold.notices, func(n notice) bool {
			_, ok := there[n.ID]
			return !ok
		})
	}
	fold.checked = last
	return nil
}
