package history

import "sync"

// Event is an event as a client saw it.
type Event struct {
	ID     string
	Type   string
	Sender string
	// Nonce is the op's name that the sender put in the content; "" for
	// events that no Op sent.
	Nonce string
}

// Attempt is one try of an Op. EventID is empty when it was not acknowledged.
type Attempt struct{ EventID string }

// Op is one send, tried until it was acknowledged or given up.
type Op struct {
	Room, Sender, Nonce string
	Attempts            []Attempt
}

// Reader is what one client has read of one room: the events of its timeline
// from its first sync on, gaps of limited syncs filled by /messages.
type Reader struct {
	Name, Room string
	Events     []Event
}

// History is the record of a run.
type History struct {
	mu      sync.Mutex
	ops     []*Op
	readers map[[2]string]*Reader
	// final is each room's whole timeline as /messages gave it at the end,
	// oldest first.
	final map[string][]Event
}

// New makes an empty history.
func New() *History {
	return &History{readers: map[[2]string]*Reader{}, final: map[string][]Event{}}
}

// Begin records that an op is about to be tried.
func (h *History) Begin(room, sender, nonce string) *Op {
	op := &Op{Room: room, Sender: sender, Nonce: nonce}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, op)
	return op
}

// Tried records an attempt and its answer.
func (h *History) Tried(op *Op, eventID string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	op.Attempts = append(op.Attempts, Attempt{EventID: eventID})
}

// Read appends what a reader got of a room in one step.
func (h *History) Read(reader, room string, events []Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := [2]string{reader, room}
	r := h.readers[key]
	if r == nil {
		r = &Reader{Name: reader, Room: room}
		h.readers[key] = r
	}
	r.Events = append(r.Events, events...)
}

// Final records a room's whole timeline, oldest first.
func (h *History) Final(room string, events []Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.final[room] = events
}

// Acknowledged counts the ops that were acknowledged, and all of them.
func (h *History) Acknowledged() (acknowledged, all int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, op := range h.ops {
		if op.eventID() != "" {
			acknowledged++
		}
	}
	return acknowledged, len(h.ops)
}

func (op *Op) eventID() string {
	for _, a := range op.Attempts {
		if a.EventID != "" {
			return a.EventID
		}
	}
	return ""
}
