package history

import (
	"fmt"
	"slices"
)

// Check returns what cannot be true of a server that loses nothing; nil if all
// of the history can.
func (h *History) Check() []error {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := checker{rooms: map[string]*room{}, again: map[[2]string]bool{}}
	for _, op := range h.ops {
		c.again[[2]string{op.Room, op.Nonce}] = op.State != ""
	}
	for id, events := range h.final {
		c.index(id, events)
	}
	for _, op := range h.ops {
		c.op(op)
	}
	for _, r := range h.readers {
		c.reader(r)
	}
	c.state(h.ops, h.state)
	return c.faults
}

type room struct {
	events []Event
	at     map[string]int    // event ID → index in events
	sent   map[string]string // nonce → event ID
}

type checker struct {
	rooms map[string]*room
	// again are the ops, by room and nonce, that a retry may do again.
	again  map[[2]string]bool
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
		if other, twice := r.sent[e.Nonce]; twice && other != e.ID && !c.again[[2]string{id, e.Nonce}] {
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
	if !op.acknowledged() {
		return
	}
	id := op.eventID()
	for _, a := range op.Attempts {
		if a.EventID != "" && a.EventID != id && op.State == "" {
			c.fault("op %s: acknowledged as %s and, retried, as %s", op.Nonce, id, a.EventID)
		}
	}
	if id == "" { // the answer named none
		id = r.sent[op.Nonce]
	}
	i, there := r.at[id]
	if !there {
		c.fault("op %s: acknowledged event %s is lost", op.Nonce, id)
		return
	}
	if e := r.events[i]; e.Sender != op.Sender || (e.Nonce != op.Nonce && !op.Redacted) {
		c.fault("op %s of %s: event %s holds op %q of %s", op.Nonce, op.Sender, e.ID, e.Nonce, e.Sender)
	}
}

// state checks that at the end each state is what set it last: the last op that
// was acknowledged, or one that was tried after that.
func (c *checker) state(ops []*Op, final map[string]map[string]string) {
	may := map[[2]string][]string{}
	for _, op := range ops {
		if op.State == "" {
			continue
		}
		key := [2]string{op.Room, op.State}
		if op.acknowledged() {
			may[key] = nil
		} else if len(may[key]) == 0 { // none was acknowledged: it may be unset
			may[key] = []string{""}
		}
		may[key] = append(may[key], op.Nonce)
	}
	for key, nonces := range may {
		if got := final[key[0]][key[1]]; !slices.Contains(nonces, got) {
			c.fault("room %s: state %s was set by op %q, not by one of %q", key[0], key[1], got, nonces)
		}
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
