package history

import "fmt"

// Check returns what cannot be true of a server that loses nothing; nil if all
// of the history can.
func (h *History) Check() []error {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := checker{rooms: map[string]*room{}}
	for id, events := range h.final {
		c.index(id, events)
	}
	for _, op := range h.ops {
		c.op(op)
	}
	for _, r := range h.readers {
		c.reader(r)
	}
	return c.faults
}

type room struct {
	events []Event
	at     map[string]int    // event ID → index in events
	sent   map[string]string // nonce → event ID
}

type checker struct {
	rooms  map[string]*room
	faults []error
}

func (c *checker) fault(format string, args ...any) {
	c.faults = append(c.faults, fmt.Errorf(format, args...))
}

// index checks that a room's final timeline holds nothing twice.
func (c *checker) index(id string, events []Event) {
	r := &room{events: events, at: map[string]int{}, sent: map[string]string{}}
	c.rooms[id] = r
	for i, e := range events {
		if first, twice := r.at[e.ID]; twice {
			c.fault("room %s: event %s stands twice in the timeline, at %d and %d", id, e.ID, first, i)
		}
		r.at[e.ID] = i
		if e.Nonce == "" {
			continue
		}
		if other, twice := r.sent[e.Nonce]; twice && other != e.ID {
			c.fault("room %s: op %s took effect twice, as %s and %s", id, e.Nonce, other, e.ID)
		}
		r.sent[e.Nonce] = e.ID
	}
}

// op checks that what was acknowledged is there, as what was sent.
func (c *checker) op(op *Op) {
	r := c.rooms[op.Room]
	if r == nil {
		c.fault("op %s: room %s has no final timeline", op.Nonce, op.Room)
		return
	}
	acknowledged := op.eventID()
	for _, a := range op.Attempts {
		if a.EventID != "" && a.EventID != acknowledged {
			c.fault("op %s: acknowledged as %s and, retried, as %s", op.Nonce, acknowledged, a.EventID)
		}
	}
	if acknowledged == "" {
		return
	}
	i, there := r.at[acknowledged]
	if !there {
		c.fault("op %s: acknowledged event %s is lost", op.Nonce, acknowledged)
		return
	}
	if e := r.events[i]; e.Nonce != op.Nonce || e.Sender != op.Sender {
		c.fault("op %s of %s: event %s holds op %q of %s", op.Nonce, op.Sender, e.ID, e.Nonce, e.Sender)
	}
}

// reader checks that what a reader got is a stretch of the final timeline up to
// its end: then it has no gap, no repeat, and everyone's order.
func (c *checker) reader(read *Reader) {
	r := c.rooms[read.Room]
	if r == nil {
		c.fault("%s: room %s has no final timeline", read.Name, read.Room)
		return
	}
	last := -1
	for n, e := range read.Events {
		at, there := r.at[e.ID]
		switch {
		case !there:
			c.fault("%s in %s: read %s, which is not in the final timeline", read.Name, read.Room, e.ID)
			continue
		case n > 0 && at <= last:
			c.fault("%s in %s: read %s (%d) after %d: repeated or out of order", read.Name, read.Room, e.ID, at, last)
		case n > 0 && at > last+1:
			c.fault("%s in %s: a gap: %s (%d) follows %d", read.Name, read.Room, e.ID, at, last)
		}
		last = at
	}
	if len(read.Events) > 0 && last != len(r.events)-1 {
		c.fault("%s in %s: read up to %d of %d", read.Name, read.Room, last, len(r.events)-1)
	}
}
