package history

import (
	"slices"
	"sync"
)

// Event is an event as a client saw it.
type Event struct {
	ID     string
	Type   string
	Sender string
	// Nonce is the op's name that the sender put in the content; "" for
	// events that no Op sent.
	Nonce string
}

// Attempt is one try of an Op. EventID is the event that the answer named, if any.
type Attempt struct {
	Acknowledged bool
	EventID      string
}

// Op is one change of a room, tried until it was acknowledged or given up.
type Op struct {
	Room, Sender, Nonce string
	// State is the type and state key that it sets, with a space between; "" for
	// a message. Changes of state have no transaction: a retry may set it again.
	State string
	// Redacted says that somebody tried to redact the event, so that its content
	// may be gone.
	Redacted bool
	Attempts []Attempt
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
	// state is each room's state at the end: the nonce of what set it, by State.
	state map[string]map[string]string
}

// New makes an empty history.
func New() *History {
	return &History{readers: map[[2]string]*Reader{}, final: map[string][]Event{}, state: map[string]map[string]string{}}
}

// Begin records that a message is about to be tried.
func (h *History) Begin(room, sender, nonce string) *Op { return h.BeginState(room, sender, "", nonce) }

// BeginState records that a change of state is about to be tried. Nobody else
// changes the same state at the time.
func (h *History) BeginState(room, sender, state, nonce string) *Op {
	op := &Op{Room: room, Sender: sender, Nonce: nonce, State: state}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, op)
	return op
}

// Tried records an attempt and its answer, which may name the event.
func (h *History) Tried(op *Op, acknowledged bool, eventID string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	op.Attempts = append(op.Attempts, Attempt{Acknowledged: acknowledged, EventID: eventID})
}

// Redact records that an op's event is about to be redacted.
func (h *History) Redact(op *Op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	op.Redacted = true
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

// FinalState records the nonce of what set a room's state at the end.
func (h *History) FinalState(room, state, nonce string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.state[room] == nil {
		h.state[room] = map[string]string{}
	}
	h.state[room][state] = nonce
}

// Acknowledged counts the ops that were acknowledged, and all of them.
func (h *History) Acknowledged() (acknowledged, all int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, op := range h.ops {
		if op.acknowledged() {
			acknowledged++
		}
	}
	return acknowledged, len(h.ops)
}

func (op *Op) acknowledged() bool {
	return slices.ContainsFunc(op.Attempts, func(a Attempt) bool { return a.Acknowledged })
}

func (op *Op) eventID() string {
	for _, a := range op.Attempts {
		if a.EventID != "" {
			return a.EventID
		}
	}
	return ""
}
