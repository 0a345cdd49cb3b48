package history

import (
	"fmt"
	"strings"
	"testing"
)

// good is a history in which all is well: two rooms, ops that were retried,
// one that was never acknowledged but took effect, one that did not.
func good() *History {
	h := New()
	for _, room := range []string{"!a", "!b"} {
		events := []Event{{ID: "$create" + room, Type: "m.room.create", Sender: "@u"}}
		for i := range 6 {
			nonce := fmt.Sprintf("%s-%d", room, i)
			op := h.Begin(room, "@u", nonce)
			id := "$" + nonce
			switch i {
			case 2:
				h.Tried(op, false, "")
				h.Tried(op, true, id)
			case 3:
				h.Tried(op, false, "")
			case 4:
				h.Tried(op, false, "")
				continue
			default:
				h.Tried(op, true, id)
			}
			events = append(events, Event{ID: id, Sender: "@u", Nonce: nonce})
		}
		// State that was set, set again by a retry, and left unacknowledged.
		for i, acknowledged := range []bool{true, false, true, false} {
			nonce := fmt.Sprintf("%s-state%d", room, i)
			op := h.BeginState(room, "@u", "t key", nonce)
			h.Tried(op, false, "")
			h.Tried(op, acknowledged, "")
			events = append(events, Event{ID: "$" + nonce, Sender: "@u", Nonce: nonce}, Event{ID: "$again" + nonce, Sender: "@u", Nonce: nonce})
		}
		h.FinalState(room, "t key", room+"-state3")
		h.Redact(h.ops[len(h.ops)-9])
		h.Final(room, events)
		h.Read("early", room, events[:3])
		h.Read("early", room, events[3:])
		h.Read("late", room, events[2:])
	}
	return h
}

func TestCheck(t *testing.T) {
	swap := func(e []Event, i, j int) []Event {
		e = append([]Event(nil), e...)
		e[i], e[j] = e[j], e[i]
		return e
	}
	tests := []struct {
		name  string
		spoil func(h *History)
		want  string // part of the one kind of fault that is found; "" for none
	}{
		{"all is well", func(*History) {}, ""},
		{"a lost event", func(h *History) {
			h.final["!a"] = append(h.final["!a"][:1:1], h.final["!a"][2:]...)
			h.readers = nil
		}, "is lost"},
		{"an event twice", func(h *History) {
			h.final["!a"] = append(h.final["!a"], h.final["!a"][1])
			h.readers = nil
		}, "stands twice"},
		{"an op twice", func(h *History) {
			h.final["!a"] = append(h.final["!a"], Event{ID: "$again", Sender: "@u", Nonce: "!a-0"})
			h.readers = nil
		}, "took effect twice"},
		{"a retry that names another event", func(h *History) { h.Tried(h.ops[0], true, "$other") }, "and, retried, as"},
		{"somebody else's content", func(h *History) { h.ops[0].Nonce = "forged" }, "holds op"},
		{"state that is not there", func(h *History) { delete(h.state, "!a") }, "was set by op"},
		{"state that was set back", func(h *History) { h.state["!a"]["t key"] = "!a-state0" }, "was set by op"},
		{"a lost change of state", func(h *History) {
			e := h.final["!a"]
			h.final["!a"] = e[: len(e)-4 : len(e)-4]
			h.readers = nil
		}, "is lost"},
		{"a reader's gap", func(h *History) {
			r := h.readers[[2]string{"late", "!b"}]
			r.Events = append(r.Events[:1:1], r.Events[2:]...)
		}, "a gap"},
		{"a reader's repeat", func(h *History) {
			r := h.readers[[2]string{"late", "!b"}]
			r.Events = append(r.Events, r.Events[len(r.Events)-1])
		}, "repeated or out of order"},
		{"a reader's other order", func(h *History) {
			r := h.readers[[2]string{"early", "!a"}]
			r.Events = swap(r.Events, 1, 2)
		}, "order"},
		{"a reader left behind", func(h *History) {
			r := h.readers[[2]string{"early", "!a"}]
			r.Events = r.Events[:len(r.Events)-1]
		}, "read up to"},
		{"an event only one reader saw", func(h *History) {
			r := h.readers[[2]string{"early", "!a"}]
			r.Events = append(r.Events, Event{ID: "$ghost"})
		}, "not in the final timeline"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := good()
			test.spoil(h)
			faults := h.Check()
			if test.want == "" {
				if len(faults) > 0 {
					t.Fatal(faults)
				}
				return
			}
			for _, f := range faults {
				if strings.Contains(f.Error(), test.want) {
					return
				}
			}
			t.Fatalf("found %v, want a fault with %q", faults, test.want)
		})
	}
}
