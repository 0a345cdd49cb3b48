package filters

import (
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
)

// Bounds of filters.
const (
	maxBytes   = 64 << 10
	maxEntries = 1000 // of each list
)

// Filter is what a client wants to see of /sync.
// spec: client-server-api §filtering
type Filter struct {
	EventFields []string `json:"event_fields"`
	EventFormat string   `json:"event_format"`
	Presence    Event    `json:"presence"`
	AccountData Event    `json:"account_data"`
	Room        Room     `json:"room"`
}

// Room is the part of a filter about rooms.
type Room struct {
	Rooms        []string `json:"rooms"`
	NotRooms     []string `json:"not_rooms"`
	IncludeLeave bool     `json:"include_leave"`
	Ephemeral    Event    `json:"ephemeral"`
	State        Event    `json:"state"`
	Timeline     Event    `json:"timeline"`
	AccountData  Event    `json:"account_data"`
}

// Event is an EventFilter, or a RoomEventFilter. A list that is absent
// (nil) does not filter, an empty one lets nothing pass.
type Event struct {
	Limit      *int64   `json:"limit"`
	Types      []string `json:"types"`
	NotTypes   []string `json:"not_types"`
	Senders    []string `json:"senders"`
	NotSenders []string `json:"not_senders"`

	Rooms                     []string `json:"rooms"`
	NotRooms                  []string `json:"not_rooms"`
	ContainsURL               *bool    `json:"contains_url"`
	LazyLoadMembers           bool     `json:"lazy_load_members"`
	IncludeRedundantMembers   bool     `json:"include_redundant_members"`
	UnreadThreadNotifications bool     `json:"unread_thread_notifications"`

	all bool // nothing but a limit: every event passes
}

// None is the filter of a request without one.
func None() *Filter {
	f := &Filter{}
	f.prepare()
	return f
}

// Parse reads a filter: 400 for what is not one.
func Parse(text []byte) (*Filter, error) {
	if len(text) > maxBytes {
		return nil, matrixerror.TooLarge("Filter is too large")
	}
	f := &Filter{}
	if err := json.Unmarshal(text, f); err != nil {
		return nil, matrixerror.BadJSON("Filter is not valid")
	}
	switch f.EventFormat {
	case "", "client", "federation":
	default:
		return nil, matrixerror.BadJSON("Unknown event_format")
	}
	if len(f.EventFields) > maxEntries || len(f.Room.Rooms) > maxEntries || len(f.Room.NotRooms) > maxEntries {
		return nil, matrixerror.BadJSON("Filter lists too many entries")
	}
	for _, e := range []*Event{&f.Presence, &f.AccountData, &f.Room.Ephemeral, &f.Room.State, &f.Room.Timeline, &f.Room.AccountData} {
		if err := e.check(); err != nil {
			return nil, err
		}
	}
	f.prepare()
	return f, nil
}

// ParseEvent reads the RoomEventFilter of /messages and /context; "" is none.
func ParseEvent(text string) (*Event, error) {
	f := &Event{}
	if text != "" {
		if len(text) > maxBytes {
			return nil, matrixerror.TooLarge("Filter is too large")
		}
		if err := json.Unmarshal([]byte(text), f); err != nil {
			return nil, matrixerror.BadJSON("Filter is not valid")
		}
	}
	if err := f.check(); err != nil {
		return nil, err
	}
	f.prepare()
	return f, nil
}

func (e *Event) check() error {
	if e.Limit != nil && *e.Limit < 0 {
		return matrixerror.BadJSON("Filter has a negative limit")
	}
	for _, list := range [][]string{e.Types, e.NotTypes, e.Senders, e.NotSenders, e.Rooms, e.NotRooms} {
		if len(list) > maxEntries {
			return matrixerror.BadJSON("Filter lists too many entries")
		}
	}
	return nil
}

func (f *Filter) prepare() {
	for _, e := range []*Event{&f.Presence, &f.AccountData, &f.Room.Ephemeral, &f.Room.State, &f.Room.Timeline, &f.Room.AccountData} {
		e.prepare()
	}
}

func (e *Event) prepare() {
	e.all = e.Types == nil && e.NotTypes == nil && e.Senders == nil && e.NotSenders == nil &&
		e.Rooms == nil && e.NotRooms == nil && e.ContainsURL == nil
}

// Count is the number of events asked for, within bounds.
func (e *Event) Count(standard, highest int) int {
	if e.Limit == nil {
		return standard
	}
	return int(min(*e.Limit, int64(highest)))
}

// Lazy tells whether members of a room's state are loaded lazily.
func (f *Filter) Lazy() bool { return f.Room.State.LazyLoadMembers || f.Room.Timeline.LazyLoadMembers }

// Redundant tells whether a lazily loading client wants members again.
func (f *Filter) Redundant() bool {
	return f.Room.State.IncludeRedundantMembers || f.Room.Timeline.IncludeRedundantMembers
}

// Threads tells whether unread counts are wanted for each thread.
func (f *Filter) Threads() bool {
	return f.Room.Timeline.UnreadThreadNotifications || f.Room.State.UnreadThreadNotifications ||
		f.Room.Ephemeral.UnreadThreadNotifications || f.Room.AccountData.UnreadThreadNotifications
}

// WantsRoom tells whether anything of the room is shown.
func (f *Room) WantsRoom(roomID string) bool {
	return listed(f.Rooms, f.NotRooms, roomID)
}

// WantsRoom tells whether the filter is about the room.
func (e *Event) WantsRoom(roomID string) bool {
	return listed(e.Rooms, e.NotRooms, roomID)
}

// Wants tells whether an event that is no room event passes.
func (e *Event) Wants(typ, sender string) bool {
	if e.all {
		return true
	}
	return e.WantsType(typ) && listed(e.Senders, e.NotSenders, sender)
}

// WantsType tells whether events of the type may pass.
func (e *Event) WantsType(typ string) bool {
	match := func(pattern string) bool { return wildcard(pattern, typ) }
	if slices.ContainsFunc(e.NotTypes, match) {
		return false
	}
	return e.Types == nil || slices.ContainsFunc(e.Types, match)
}

// WantsEvent tells whether a room's event passes.
func (e *Event) WantsEvent(ev *gomatrixserverlib.Event) bool {
	if e.all {
		return true
	}
	if !e.WantsRoom(ev.RoomID()) || !e.Wants(ev.Type(), ev.Sender()) {
		return false
	}
	return e.ContainsURL == nil || hasMember(ev.Content(), "url") == *e.ContainsURL
}

// listed is the rule of every pair of lists: excluded wins, an absent list of
// what to include includes everything.
func listed(include, exclude []string, s string) bool {
	if slices.Contains(exclude, s) {
		return false
	}
	return include == nil || slices.Contains(include, s)
}

// wildcard matches s against a pattern in which * stands for any characters.
// It is linear in the product of the lengths at worst: no backtracking but to
// the last star.
func wildcard(pattern, s string) bool {
	if !strings.Contains(pattern, "*") {
		return pattern == s
	}
	p, i, star, mark := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && pattern[p] == s[i]:
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// hasMember tells whether the object has a member of that name.
func hasMember(object jsontext.Value, name string) bool {
	var members map[string]jsontext.Value
	if json.Unmarshal(object, &members, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) != nil {
		return false
	}
	_, ok := members[name]
	return ok
}
