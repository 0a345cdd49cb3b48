package syncapi

import (
	"context"

	"github.com/matrix-org/dendrite/common/filters"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

// recall reads what it can of a page from memory: backwards, from the room's tail
// and what is kept of what comes before, which is asked for and kept as far as
// that goes. It tells whether the page is done; if not, out.next is where to go
// on asking. Where only the room server knows who may see what, or there is a gap,
// it stops.
func (s *Server) recall(ctx context.Context, v *viewer, f *filters.Event, out *page) (done bool, err error) {
	r := v.room
	if r == nil || !out.backwards || out.limit <= 0 {
		return false, nil
	}
	if out.next == (roomapi.Position{}) {
		if out.next.Partition, out.next.Seq = r.partition, r.last(); out.next.Seq == 0 {
			out.next = roomapi.Position{}
			return false, nil
		}
	}
	c := &recalling{viewer: v, filter: f, out: out}
	window, _ := r.window(0, out.next.Seq)
	for i := len(window) - 1; i >= 0 && !c.done; i-- {
		ev := window[i]
		if !ev.hidden && !out.next.Less(ev.Position) {
			c.take(ev)
		}
		if ev.limited && !c.done {
			return c.leave()
		}
	}
	for !c.done {
		events, next, all, err := s.olderUpTo(ctx, r, out.next, out.to.Seq, out.limit-len(out.events)+1)
		if err != nil {
			return false, err
		}
		for i := 0; i < len(events) && !c.done; i++ {
			c.take(events[i])
		}
		switch {
		case c.done:
		case all:
			c.end(false)
		case len(events) == 0:
			return c.leave()
		default:
			out.next = next
		}
	}
	return true, nil
}

// recalling is a page being read from memory, newest first.
type recalling struct {
	viewer *viewer
	filter *filters.Event
	out    *page
	done   bool
}

// take takes the next event of the timeline, if it is for this viewer.
func (c *recalling) take(ev *event) {
	out := c.out
	switch {
	case !out.to.Less(ev.Position):
		c.end(false)
		return
	case len(out.events) == out.limit:
		c.end(true)
		return
	}
	out.next = before(ev.Position)
	if !visible(c.viewer.changes, ev, c.viewer.userID) {
		return
	}
	if out.from == (roomapi.Position{}) {
		out.from = ev.Position
	}
	if c.viewer.wants(c.filter, ev) {
		out.events = append(out.events, ev)
	}
}

// leave leaves the rest to the room server, if there is to be any: something
// follows, be it a gap.
func (c *recalling) leave() (done bool, err error) {
	if len(c.out.events) == c.out.limit {
		c.end(true)
	}
	return c.done, nil
}

// end ends the page. More tells whether there is more before it.
func (c *recalling) end(more bool) {
	c.done, c.out.more = true, more
	if c.out.from == (roomapi.Position{}) {
		c.out.from = c.out.next
	}
}
