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
				h.Tried(op, "")
				h.Tried(op, id)
			case 3:
				h.Tried(op, "")
			case 4:
				h.Tried(op, "")
				continue
			default:
				h.Tried(op, id)
			}
			events = append(events, Event{ID: id, Sender: "@u", Nonce: nonce})
		}
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
		{"a retry that names another event", func(h *History) { h.Tried(h.ops[0], "$other") }, "and, retried, as"},
		{"somebody else's content", func(h *History) { h.ops[0].Nonce = "forged" }, "holds op"},
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
