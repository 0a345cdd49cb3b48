package syncapi

import (
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/matrix-org/dendrite/gomatrixserverlib"
)

// roomConfig is what is told of a room that a rule matches.
type roomConfig struct {
	limit int
	state *required
}

// required is which state is told: what any of a list wants. It is kept with a
// connection as its id, which says all of it.
type required struct {
	id   string
	ids  []string // of the list's
	list []*wanted
	// lazy tells that members are told as they are needed, members that all are
	// told anyway, and wild that more than single entries is wanted.
	lazy, members, wild bool
}

// wanted is the required_state of one rule.
type wanted struct {
	Include []element `json:"include,omitempty"`
	Exclude []element `json:"exclude,omitempty"`
	Lazy    bool      `json:"lazy,omitzero"`
}

// element matches entries of state; nil matches all.
type element struct {
	Type *string `json:"type,omitzero"`
	Key  *string `json:"state_key,omitzero"`
}

func (e *element) matches(key gomatrixserverlib.StateKey) bool {
	return (e.Type == nil || *e.Type == key.Type) && (e.Key == nil || *e.Key == key.StateKey)
}

// matches tells whether an entry of state is wanted. Where members are loaded
// lazily, only what names their type is about them.
// spec: MSC4186 §lazy-loaded-memberships
func (w *wanted) matches(key gomatrixserverlib.StateKey) bool {
	included := slices.ContainsFunc(w.Include, func(e element) bool {
		return e.matches(key) && !(w.Lazy && e.Type == nil && key.Type == typeMember)
	})
	return included && !slices.ContainsFunc(w.Exclude, func(e element) bool { return e.matches(key) })
}

// newRequired combines what rules want.
func newRequired(list []*wanted) (*required, error) {
	ids := make(map[string]*wanted, len(list))
	for _, w := range list {
		text, err := json.Marshal(w)
		if err != nil {
			return nil, err
		}
		ids[string(text)] = w
	}
	r := &required{}
	for id, w := range ids {
		r.ids = append(r.ids, id)
		r.list = append(r.list, w)
		r.lazy = r.lazy || w.Lazy
		for _, e := range w.Include {
			r.wild = r.wild || e.Type == nil || e.Key == nil
			r.members = r.members || e.Key == nil && (e.Type == nil && !w.Lazy || e.Type != nil && *e.Type == typeMember)
		}
	}
	r.lazy = r.lazy && !r.members
	slices.Sort(r.ids)
	r.id = "[" + strings.Join(r.ids, ",") + "]"
	return r, nil
}

// covers tells whether all that another wants is wanted here, for the same reasons.
func (r *required) covers(other *required) bool {
	return r != nil && !slices.ContainsFunc(other.ids, func(id string) bool { return !slices.Contains(r.ids, id) })
}

// parseRequired reads an id.
func parseRequired(id string) (*required, error) {
	var list []*wanted
	if err := json.Unmarshal([]byte(id), &list); err != nil {
		return nil, err
	}
	return newRequired(list)
}

// matches tells whether an entry of state is wanted by any rule.
func (r *required) matches(key gomatrixserverlib.StateKey) bool {
	return r != nil && slices.ContainsFunc(r.list, func(w *wanted) bool { return w.matches(key) })
}

// keys are the single entries that are wanted, all that is where it is not wild.
func (r *required) keys() (out []gomatrixserverlib.StateKey) {
	for _, w := range r.list {
		for _, e := range w.Include {
			if e.Type != nil && e.Key != nil {
				out = append(out, gomatrixserverlib.StateKey{Type: *e.Type, StateKey: *e.Key})
			}
		}
	}
	return out
}

// combine is the config of a room that several rules match.
// spec: MSC4186 §combining-room-configs
func combine(configs []*roomConfig) (*roomConfig, error) {
	if len(configs) == 1 {
		return configs[0], nil
	}
	out := &roomConfig{}
	var list []*wanted
	for _, c := range configs {
		out.limit = max(out.limit, c.limit)
		list = append(list, c.state.list...)
	}
	var err error
	out.state, err = newRequired(list)
	return out, err
}
