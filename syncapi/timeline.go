package syncapi

import (
	"context"
	"slices"

	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

// maxHistoryPages bounds how often older events are asked for, for one room's
// timeline, when a filter lets few of them pass.
const maxHistoryPages = 5

// timeline is the part of a room's history that an answer shows.
type timeline struct {
	events  []*event // ascending
	limited bool
	// start is the point right before what the timeline covers, lower the Seq
	// up to which the client knows the room.
	start roomapi.Position
	lower int64
	// window are the tail's records in the part's range, whole whether those
	// are all.
	window []*event
	whole  bool
	// fromCreate is set when the timeline begins with the room.
	fromCreate bool
}

// firstSeq is the Seq of the first event covered.
func (t *timeline) firstSeq() int64 {
	if len(t.events) > 0 && t.limited {
		return t.events[0].Position.Seq
	}
	return t.lower + 1
}

// timeline finds the last events of a part's range that the client may see and
// wants: from the room's tail, older ones from the room server.
func (a *answer) timeline(ctx context.Context, p *part) (*timeline, error) {
	limit := a.limitOf(p)
	if a.tight {
		limit = min(limit, 1)
	}
	var err error
	if p.expired, err = a.s.expiredBefore(ctx, p.room, p.room.id); err != nil {
		return nil, err
	}
	t := &timeline{lower: p.lower}
	t.window, t.whole = p.room.window(p.lower, p.upper)
	if !t.whole && p.lower == 0 && len(t.window) > 0 && isCreate(t.window[0]) {
		t.whole = true
	}
	taken, gap, full := a.takeTail(t, p, limit)
	switch {
	case full, gap != nil && !p.fresh:
		t.limited = true
	case gap != nil, !t.whole:
		// A fresh room is shown with what has been fetched of its past.
		from := roomapi.Position{Partition: p.room.partition, Seq: p.upper}
		if gap != nil {
			from = before(gap.Position)
		} else if len(t.window) > 0 {
			from = before(t.window[0].Position)
		}
		older, err := a.olderEvents(ctx, t, p, from, limit-len(taken), gap != nil)
		if err != nil {
			return nil, err
		}
		taken = append(taken, older...)
	}
	slices.Reverse(taken)
	t.events = taken
	t.fromCreate = len(taken) > 0 && isCreate(taken[0])
	switch {
	case !t.limited && p.lower > 0:
		t.start = roomapi.Position{Partition: p.room.partition, Seq: p.lower}
	case len(t.events) > 0:
		t.start = before(t.events[0].Position)
	default:
		t.start = roomapi.Position{Partition: p.room.partition, Seq: p.upper}
	}
	return t, nil
}

func isCreate(ev *event) bool { return !ev.hidden && ev.Type() == "m.room.create" }

// takeTail takes up to limit events of the tail, newest first. It stops at an
// event with a gap before it, which it returns, and where there are more (full).
func (a *answer) takeTail(t *timeline, p *part, limit int) (taken []*event, gap *event, full bool) {
	for i := len(t.window) - 1; i >= 0; i-- {
		ev := t.window[i]
		if !ev.hidden && a.shows(p, ev) {
			if len(taken) == limit {
				return taken, nil, true
			}
			taken = append(taken, ev)
		}
		if ev.limited {
			return taken, ev, false
		}
	}
	return taken, nil, false
}

// shows tells whether an event of the tail is for this client.
func (a *answer) shows(p *part, ev *event) bool {
	return a.wants(ev) && !expired(ev, p.expired) && visible(p.changes, ev, a.u.id)
}

// wants tells whether the client wants an event in timelines.
func (a *answer) wants(ev *event) bool {
	if _, ignored := a.ignored[ev.Sender()]; ignored && !ev.IsState() {
		return false // spec: client-server-api §ignoring-users
	}
	return a.filter.Room.Timeline.WantsEvent(ev.Event)
}

// olderEvents finds what comes before the tail, newest first, and sets whether
// the timeline is limited: what is kept of it, then what the room server says.
func (a *answer) olderEvents(ctx context.Context, t *timeline, p *part, from roomapi.Position, want int, gap bool) ([]*event, error) {
	to := roomapi.Position{Partition: p.room.partition, Seq: p.lower}
	var taken []*event
	if !gap && len(p.changes) < maxChanges { // else only the room server knows who sees what
		kept, next, all, err := a.s.olderUpTo(ctx, p.room, from, p.lower, want+1)
		if err != nil {
			return nil, err
		}
		for _, ev := range kept {
			if !to.Less(ev.Position) {
				return taken, nil
			}
			if !a.shows(p, ev) {
				continue
			}
			if len(taken) == want {
				t.limited = true
				return taken, nil
			}
			taken = append(taken, ev)
		}
		if from = next; all {
			return taken, nil
		}
	}
	for range maxHistoryPages {
		res, err := roomapi.QueryHistory.Call(ctx, a.s.caller, &roomapi.HistoryRequest{
			RoomID: p.room.id, From: from, To: to, Backwards: true, Limit: max(want-len(taken), 0) + 1, Viewer: a.u.id})
		if err != nil {
			return nil, err
		}
		for _, stored := range res.Events {
			if !p.fresh && stored.Position.Sub < 0 { // there was a gap
				t.limited = true
				return taken, nil
			}
			ev := fromStored(stored)
			if !a.wants(ev) || expired(ev, p.expired) {
				continue
			}
			if len(taken) == want {
				t.limited = true
				return taken, nil
			}
			taken = append(taken, ev)
		}
		if !res.More {
			t.limited = t.limited || len(res.Gap) > 0
			return taken, nil
		}
		from = res.Next
	}
	t.limited = true
	return taken, nil
}
