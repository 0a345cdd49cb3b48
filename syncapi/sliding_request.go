package syncapi

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
)

// Bounds of what a request asks for. The first two are the proposal's.
const (
	maxLists         = 100
	maxSubscriptions = 100
	maxRanges        = 20 // of a list
	maxElements      = 1000
	maxFilterValues  = 100
	maxConnID        = 255
	maxListName      = 255
)

// slidingBody is the body of a request, in the proposal's form and in that of
// the clients that are there: ranges, required_state as pairs, and pos, timeout
// and set_presence in the query.
// spec: MSC4186 §request-body
type slidingBody struct {
	ConnID     string                    `json:"conn_id"`
	TxnID      string                    `json:"txn_id"`
	Pos        *string                   `json:"pos"`
	Timeout    *int64                    `json:"timeout"`
	Presence   *string                   `json:"set_presence"`
	Lists      map[string]listBody       `json:"lists"`
	Rooms      map[string]configBody     `json:"room_subscriptions"`
	Extensions map[string]jsontext.Value `json:"extensions"`
}

type configBody struct {
	Limit int64          `json:"timeline_limit"`
	State jsontext.Value `json:"required_state"`
}

type listBody struct {
	configBody
	Range   *[2]int64      `json:"range"`
	Ranges  [][2]int64     `json:"ranges"`
	Filters *slidingFilter `json:"filters"`
}

// slidingFilter says which rooms are in a list.
// spec: MSC4186 §slidingroomfilter
type slidingFilter struct {
	DM        *bool     `json:"is_dm"`
	Spaces    []string  `json:"spaces"`
	Encrypted *bool     `json:"is_encrypted"`
	Invited   *bool     `json:"is_invited"`
	Invite    *bool     `json:"is_invite"` // as clients have it
	Types     []*string `json:"room_types"`
	NotTypes  []*string `json:"not_room_types"`
	Tags      []string  `json:"tags"`
	NotTags   []string  `json:"not_tags"`
}

// slidingRequest is a request as understood.
type slidingRequest struct {
	connID, txnID string
	since         *vector // nil: the first of a connection
	hash          string  // of the state of the connection
	timeout       time.Duration
	presence      string
	lists         []*slidingList // by name
	subscribed    map[string]*roomConfig
	extensions    map[string]jsontext.Value
	// draft is set where names are those of clients that are there.
	draft bool
}

// slidingList is a list of rooms and what is told of those in its ranges.
type slidingList struct {
	name   string
	ranges [][2]int64 // nil: all rooms
	filter *slidingFilter
	config *roomConfig
}

// holds tells whether a place in the list is in its ranges.
func (l *slidingList) holds(index int) bool {
	return l.ranges == nil || slices.ContainsFunc(l.ranges, func(r [2]int64) bool { return r[0] <= int64(index) && int64(index) <= r[1] })
}

// whole tells whether all of so many rooms are in the ranges, in whatever order.
func (l *slidingList) whole(rooms int) bool {
	return l.ranges == nil || slices.ContainsFunc(l.ranges, func(r [2]int64) bool { return r[0] == 0 && r[1] >= int64(rooms)-1 })
}

func (s *Server) parseSliding(r *httpapi.Request, draft bool) (*slidingRequest, error) {
	var body slidingBody
	if err := r.DecodeOptional(&body); err != nil {
		return nil, err
	}
	if err := fromQuery(r, &body); err != nil {
		return nil, err
	}
	req := &slidingRequest{connID: body.ConnID, txnID: body.TxnID, extensions: body.Extensions, draft: draft, subscribed: map[string]*roomConfig{}}
	switch {
	case len(body.ConnID) > maxConnID || len(body.TxnID) > maxConnID:
		return nil, matrixerror.InvalidParam("conn_id or txn_id is too long")
	case len(body.Lists) > maxLists || len(body.Rooms) > maxSubscriptions:
		return nil, matrixerror.InvalidParam("There may be %d lists and %d subscriptions", maxLists, maxSubscriptions)
	}
	if body.Timeout != nil {
		if *body.Timeout < 0 {
			return nil, matrixerror.InvalidParam("timeout is not a number of milliseconds")
		}
		req.timeout = min(time.Duration(min(*body.Timeout, 1<<40))*time.Millisecond, s.maxTimeout)
	}
	if body.Presence != nil {
		req.presence = *body.Presence
	}
	if err := checkPresence(req.presence); err != nil {
		return nil, err
	}
	if body.Pos != nil && *body.Pos != "" {
		var err error
		if req.since, req.hash, err = parsePos(*body.Pos, s.view.shape); err != nil {
			return nil, err
		}
	}
	return req, req.parseRules(r.Device.UserID, &body)
}

// fromQuery takes what clients put into the query.
func fromQuery(r *httpapi.Request, body *slidingBody) error {
	q := r.Query()
	if text := q.Get("pos"); text != "" {
		body.Pos = &text
	}
	if text := q.Get("set_presence"); text != "" {
		body.Presence = &text
	}
	if text := q.Get("timeout"); text != "" {
		ms, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return matrixerror.InvalidParam("timeout is not a number of milliseconds")
		}
		body.Timeout = &ms
	}
	return nil
}

// parseRules reads lists and subscriptions.
func (req *slidingRequest) parseRules(userID string, body *slidingBody) error {
	elements := maxElements
	for _, name := range slices.Sorted(maps.Keys(body.Lists)) {
		b := body.Lists[name]
		if name == "" || len(name) > maxListName {
			return matrixerror.InvalidParam("A list's name is too long, or missing")
		}
		l := &slidingList{name: name, ranges: b.Ranges, filter: b.Filters}
		if b.Range != nil {
			l.ranges = append(l.ranges, *b.Range)
		}
		if len(l.ranges) > maxRanges {
			return matrixerror.InvalidParam("A list may have %d ranges", maxRanges)
		}
		for _, r := range l.ranges {
			if r[0] < 0 || r[1] < r[0] {
				return matrixerror.InvalidParam("%d to %d is not a range", r[0], r[1])
			}
		}
		if err := l.filter.check(); err != nil {
			return err
		}
		var err error
		if l.config, err = b.parse(userID, &elements); err != nil {
			return err
		}
		req.lists = append(req.lists, l)
	}
	for id, b := range body.Rooms {
		if len(id) > gomatrixserverlib.MaxIDBytes {
			return matrixerror.InvalidParam("%.30s… is no room ID", id)
		}
		config, err := b.parse(userID, &elements)
		if err != nil {
			return err
		}
		req.subscribed[id] = config
	}
	return nil
}

func (f *slidingFilter) check() error {
	if f == nil {
		return nil
	}
	if max(len(f.Spaces), len(f.Types), len(f.NotTypes), len(f.Tags), len(f.NotTags)) > maxFilterValues {
		return matrixerror.InvalidParam("A filter may have %d values of a kind", maxFilterValues)
	}
	if f.Invited == nil {
		f.Invited = f.Invite
	}
	return nil
}

// parse reads a room config. What may still be asked for of state is counted.
func (b *configBody) parse(userID string, elements *int) (*roomConfig, error) {
	if b.Limit < 0 {
		return nil, matrixerror.InvalidParam("timeline_limit is negative")
	}
	w, err := parseWanted(b.State, userID)
	if err != nil {
		return nil, err
	}
	if *elements -= len(w.Include) + len(w.Exclude); *elements < 0 {
		return nil, matrixerror.InvalidParam("There may be %d entries of required_state", maxElements)
	}
	config := &roomConfig{limit: int(min(b.Limit, maxTimelineLimit))}
	config.state, err = newRequired([]*wanted{w})
	return config, err
}

// parseWanted reads required_state, in the proposal's form or as pairs.
// spec: MSC4186 §requiredstaterequest
func parseWanted(raw jsontext.Value, userID string) (*wanted, error) {
	w := &wanted{}
	switch raw.Kind() {
	case 0, 'n':
		return w, nil
	case '[':
		var pairs [][2]string
		if err := json.Unmarshal(raw, &pairs); err != nil {
			return nil, matrixerror.BadJSON("required_state is not a list of pairs")
		}
		for _, p := range pairs {
			if p[0] == typeMember && p[1] == "$LAZY" {
				w.Lazy = true
				continue
			}
			e := element{Type: &p[0], Key: &p[1]}
			if p[0] == "*" {
				e.Type = nil
			}
			switch p[1] {
			case "*":
				e.Key = nil
			case "$ME":
				e.Key = &userID
			}
			w.Include = append(w.Include, e)
		}
	default:
		var body struct {
			Include []element `json:"include"`
			Exclude []element `json:"exclude"`
			Lazy    bool      `json:"lazy_members"`
		}
		if err := json.Unmarshal(raw, &body); err != nil {
			return nil, matrixerror.BadJSON("required_state is not what it should be")
		}
		*w = wanted(body)
	}
	return w, w.check()
}

// check bounds what is kept of it with the connection.
func (w *wanted) check() error {
	for _, e := range slices.Concat(w.Include, w.Exclude) {
		for _, text := range []*string{e.Type, e.Key} {
			if text != nil && len(*text) > gomatrixserverlib.MaxIDBytes {
				return matrixerror.InvalidParam("required_state names something that is too long for state")
			}
		}
	}
	return nil
}
