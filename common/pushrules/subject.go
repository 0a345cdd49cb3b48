package pushrules

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/property"
)

// maxBody is how much of a text is searched.
const maxBody = 32 << 10

// Event is what rules look at.
type Event interface {
	EventID() string
	RoomID() string
	Type() string
	Sender() string
	StateKey() *string
	Content() jsontext.Value
}

// Subject is an event that is judged for any number of users: what their rules
// look for in it is looked for once. It is for one goroutine.
type Subject struct {
	event  Event
	values map[string]jsontext.Value
	texts  map[string]text
	// root is that of the event's thread, looked says that it was looked for.
	root   string
	looked bool
}

type text struct {
	text string
	is   bool
}

// NewSubject prepares an event to be judged.
func NewSubject(ev Event) *Subject {
	return &Subject{event: ev, values: map[string]jsontext.Value{}, texts: map[string]text{}}
}

// valueAt finds a property of the event by its path; nil when it is absent. Both
// sides of comparisons are canonical JSON, so bytes can be compared.
func (s *Subject) valueAt(key string, path []string) jsontext.Value {
	v, known := s.values[key]
	if !known {
		v = s.find(path)
		s.values[key] = v
	}
	return v
}

func (s *Subject) find(path []string) jsontext.Value {
	switch {
	case path[0] == "content":
		at := s.event.Content()
		for _, name := range path[1:] {
			if !bytes.Contains(at, []byte(name)) && !bytes.ContainsRune(at, '\\') {
				return nil // cheaper than to look, and the usual case
			}
			var ok bool
			if at, ok = property.Member(at, name); !ok {
				return nil
			}
		}
		return at
	case len(path) == 1:
		if text, ok := s.header(path[0]); ok {
			quoted, err := jsontext.AppendQuote(nil, text)
			if err == nil {
				return quoted
			}
		}
	}
	return nil
}

// textAt finds a property that is a string.
func (s *Subject) textAt(key string, path []string) (string, bool) {
	if len(path) == 1 {
		return s.header(path[0])
	}
	t, known := s.texts[key]
	if !known {
		t.text, t.is = property.Text(s.valueAt(key, path))
		s.texts[key] = t
	}
	return t.text, t.is
}

// thread is the root of the thread that the event is in; "" when it is in none.
// spec: client-server-api §threading
func (s *Subject) thread() string {
	if s.looked {
		return s.root
	}
	s.looked = true
	const relates = "m.relates_to"
	if kind, _ := property.Text(s.find([]string{"content", relates, "rel_type"})); kind == "m.thread" {
		s.root, _ = property.Text(s.find([]string{"content", relates, "event_id"}))
	}
	return s.root
}

// header is a property of the event that is a string, outside of its content.
func (s *Subject) header(name string) (string, bool) {
	switch name {
	case "type":
		return s.event.Type(), true
	case "sender":
		return s.event.Sender(), true
	case "room_id":
		return s.event.RoomID(), true
	case "event_id":
		return s.event.EventID(), true
	case "state_key":
		if key := s.event.StateKey(); key != nil {
			return *key, true
		}
	}
	return "", false
}
