package syncapi

import (
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/matrixerror"
)

// Bounds of filters and of what they ask for.
const (
	maxFilterBytes       = 64 << 10
	maxFilterEntries     = 1000 // of each list
	defaultTimelineLimit = 10
	maxTimelineLimit     = 100
)

// filter is what a client wants to see of /sync.
// spec: client-server-api §filtering
type filter struct {
	EventFields []string    `json:"event_fields"`
	EventFormat string      `json:"event_format"`
	Presence    eventFilter `json:"presence"`
	AccountData eventFilter `json:"account_data"`
	Room        roomFilter  `json:"room"`

	fields *fieldTree // of EventFields; nil: all
}

// roomFilter is the part of a filter about rooms.
type roomFilter struct {
	Rooms        []string    `json:"rooms"`
	NotRooms     []string    `json:"not_rooms"`
	IncludeLeave bool        `json:"include_leave"`
	Ephemeral    eventFilter `json:"ephemeral"`
	State        eventFilter `json:"state"`
	Timeline     eventFilter `json:"timeline"`
	AccountData  eventFilter `json:"account_data"`
}

// eventFilter is an EventFilter, or a RoomEventFilter. A list that is absent
// (nil) does not filter, an empty one lets nothing pass.
type eventFilter struct {
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

// noFilter is the filter of a request without one.
func noFilter() *filter {
	f := &filter{}
	f.prepare()
	return f
}

// parseFilter reads a filter: 400 for what is not one.
func parseFilter(text []byte) (*filter, error) {
	if len(text) > maxFilterBytes {
		return nil, matrixerror.TooLarge("Filter is too large")
	}
	f := &filter{}
	if err := json.Unmarshal(text, f); err != nil {
		return nil, matrixerror.BadJSON("Filter is not valid")
	}
	switch f.EventFormat {
	case "", "client", "federation":
	default:
		return nil, matrixerror.BadJSON("Unknown event_format")
	}
	if len(f.EventFields) > maxFilterEntries || len(f.Room.Rooms) > maxFilterEntries || len(f.Room.NotRooms) > maxFilterEntries {
		return nil, matrixerror.BadJSON("Filter lists too many entries")
	}
	for _, e := range []*eventFilter{&f.Presence, &f.AccountData, &f.Room.Ephemeral, &f.Room.State, &f.Room.Timeline, &f.Room.AccountData} {
		if err := e.check(); err != nil {
			return nil, err
		}
	}
	f.prepare()
	return f, nil
}

// parseEventFilter reads the RoomEventFilter of /messages and /context.
func parseEventFilter(text string) (*eventFilter, error) {
	f := &eventFilter{}
	if text != "" {
		if len(text) > maxFilterBytes {
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

func (e *eventFilter) check() error {
	if e.Limit != nil && *e.Limit < 0 {
		return matrixerror.BadJSON("Filter has a negative limit")
	}
	for _, list := range [][]string{e.Types, e.NotTypes, e.Senders, e.NotSenders, e.Rooms, e.NotRooms} {
		if len(list) > maxFilterEntries {
			return matrixerror.BadJSON("Filter lists too many entries")
		}
	}
	return nil
}

func (f *filter) prepare() {
	for _, e := range []*eventFilter{&f.Presence, &f.AccountData, &f.Room.Ephemeral, &f.Room.State, &f.Room.Timeline, &f.Room.AccountData} {
		e.prepare()
	}
	if f.EventFields != nil {
		f.fields = newFieldTree(f.EventFields)
	}
}

func (e *eventFilter) prepare() {
	e.all = e.Types == nil && e.NotTypes == nil && e.Senders == nil && e.NotSenders == nil &&
		e.Rooms == nil && e.NotRooms == nil && e.ContainsURL == nil
}

// limit is the number of events asked for, within bounds.
func (e *eventFilter) limit(standard, highest int) int {
	if e.Limit == nil {
		return standard
	}
	return int(min(*e.Limit, int64(highest)))
}

// lazy tells whether members of a room's state are loaded lazily.
func (f *filter) lazy() bool { return f.Room.State.LazyLoadMembers || f.Room.Timeline.LazyLoadMembers }

// redundant tells whether a lazily loading client wants members again.
func (f *filter) redundant() bool {
	return f.Room.State.IncludeRedundantMembers || f.Room.Timeline.IncludeRedundantMembers
}

// threads tells whether unread counts are wanted for each thread.
func (f *filter) threads() bool {
	return f.Room.Timeline.UnreadThreadNotifications || f.Room.State.UnreadThreadNotifications ||
		f.Room.Ephemeral.UnreadThreadNotifications || f.Room.AccountData.UnreadThreadNotifications
}

// wantsRoom tells whether anything of the room is shown.
func (f *roomFilter) wantsRoom(roomID string) bool {
	return listed(f.Rooms, f.NotRooms, roomID)
}

// wantsRoom tells whether the filter is about the room.
func (e *eventFilter) wantsRoom(roomID string) bool {
	return listed(e.Rooms, e.NotRooms, roomID)
}

// wants tells whether an event that is no room event passes.
func (e *eventFilter) wants(typ, sender string) bool {
	if e.all {
		return true
	}
	return e.wantsType(typ) && listed(e.Senders, e.NotSenders, sender)
}

// wantsType tells whether events of the type may pass.
func (e *eventFilter) wantsType(typ string) bool {
	match := func(pattern string) bool { return wildcard(pattern, typ) }
	if slices.ContainsFunc(e.NotTypes, match) {
		return false
	}
	return e.Types == nil || slices.ContainsFunc(e.Types, match)
}

// wantsEvent tells whether a room's event passes.
func (e *eventFilter) wantsEvent(ev *event) bool {
	if e.all {
		return true
	}
	if !e.wantsRoom(ev.RoomID()) || !e.wants(ev.Type(), ev.Sender()) {
		return false
	}
	if e.ContainsURL == nil {
		return true
	}
	_, has := member(ev.Content(), "url")
	return has == *e.ContainsURL
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

// member finds a member of a JSON object; false when it has none or is no object.
func member(object jsontext.Value, name string) (jsontext.Value, bool) {
	d := jsontext.NewDecoder(newReader(object))
	tok, err := d.ReadToken()
	if err != nil || tok.Kind() != '{' {
		return nil, false
	}
	for d.PeekKind() == '"' {
		key, err := d.ReadToken()
		if err != nil {
			return nil, false
		}
		if key.String() == name {
			v, err := d.ReadValue()
			return v, err == nil
		}
		if err := d.SkipValue(); err != nil {
			return nil, false
		}
	}
	return nil, false
}
