package gomatrixserverlib

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// MaxResolutionEvents bounds how many events one state resolution may look at.
const MaxResolutionEvents = 500_000

// StateProvider gives state resolution the events that it asks for.
type StateProvider interface {
	// Events returns the events with these IDs, at most 1,000 in a call;
	// those that it has not got are left out.
	Events(ids []string) (map[string]*Event, error)
}

// AuthChainDiffer is a StateProvider with an index of auth chains, which saves
// state resolution from walking them.
type AuthChainDiffer interface {
	// AuthDifference returns the auth difference of several states, in any
	// order: the events that are in the auth chain of some states but not
	// in that of all. A state i is unconflicted, which all have in common,
	// and conflicted[i]. An event is not in its own auth chain.
	AuthDifference(conflicted [][]string, unconflicted []string) ([]string, error)

	// ConflictedSubgraph returns the events on the paths along auth_events
	// from any of these events to any other, in any order; with or without
	// the ends.
	ConflictedSubgraph(conflicted []string) ([]string, error)
}

// RejectionKnower is a StateProvider that knows which events were rejected on
// receipt. Without it none counts as rejected.
type RejectionKnower interface {
	Rejected(id string) bool
}

// ResolveState merges states of a room by its version's state resolution
// algorithm. The result depends on the set of states only, not on their order;
// it is a map of its own. Each state maps keys to event IDs.
//
// An event that is needed and that the provider has not got gives a
// *MissingEventsError. It is also an error if the room version is unknown, if
// auth events form a cycle, or if there is more to look at than
// MaxResolutionEvents. Nothing is loaded if the states have no conflict.
// spec: server-server-api §room-state-resolution, rooms/v1, v2, v12 §state-resolution
func ResolveState(v RoomVersion, sets []map[StateKey]string, p StateProvider) (map[StateKey]string, error) {
	return resolveState(v, sets, p, nil)
}

// ResolutionTrace shows how a state resolution came to its result.
type ResolutionTrace struct {
	Algorithm StateResVersion

	// Candidates has the event IDs that the states have at each key where
	// they differ, in order of ID. An empty ID means a state without the key.
	Candidates map[StateKey][]string

	// Steps says of each event, in order, what became of it.
	Steps []ResolutionStep
}

// ResolutionStep is what became of one event in a state resolution.
type ResolutionStep struct {
	EventID string
	Key     StateKey
	Phase   string // "power", "rest"; in version 1 "first" (taken unchecked), "auth", "rest"
	Refused string // why it was not taken; empty if it was
}

// ResolveStateTrace is ResolveState that also says how it came to its result.
func ResolveStateTrace(v RoomVersion, sets []map[StateKey]string, p StateProvider) (map[StateKey]string, *ResolutionTrace, error) {
	trace := &ResolutionTrace{Candidates: make(map[StateKey][]string)}
	state, err := resolveState(v, sets, p, trace)
	return state, trace, err
}

func resolveState(v RoomVersion, sets []map[StateKey]string, p StateProvider, trace *ResolutionTrace) (map[StateKey]string, error) {
	rules := v.Rules()
	if rules == nil {
		return nil, fmt.Errorf("%w %q", ErrUnsupportedRoomVersion, v)
	}
	if len(sets) == 0 {
		return make(map[StateKey]string), nil
	}
	r := &resolution{
		rules: rules, provider: p, trace: trace,
		events: make(map[string]*Event), levels: make(map[levelsKey]*PowerLevels),
	}
	r.rejections, _ = p.(RejectionKnower)
	if trace != nil {
		trace.Algorithm = rules.StateRes
		trace.addCandidates(sets)
	}
	var state map[StateKey]string
	var err error
	if rules.StateRes == StateResV1 {
		state, err = r.resolveV1(sets)
	} else {
		state, err = r.resolveV2(sets)
	}
	if err != nil {
		return nil, fmt.Errorf("resolving state: %w", err)
	}
	return state, nil
}

func (t *ResolutionTrace) addCandidates(sets []map[StateKey]string) {
	for _, set := range sets {
		for key := range set {
			if _, seen := t.Candidates[key]; seen {
				continue
			}
			var ids []string
			for _, other := range sets {
				ids = append(ids, other[key])
			}
			slices.Sort(ids)
			if ids = slices.Compact(ids); len(ids) > 1 {
				t.Candidates[key] = ids
			}
		}
	}
}

// resolution is one run of state resolution.
type resolution struct {
	rules      *VersionRules
	provider   StateProvider
	rejections RejectionKnower // nil if nobody knows
	trace      *ResolutionTrace

	events map[string]*Event
	create *Event // from room version 12 on, where no auth event leads to it
	levels map[levelsKey]*PowerLevels
	keys   []StateKey // scratch
}

// levelsKey is what power levels are made from.
type levelsKey struct{ create, powerLevels *Event }

// separate divides states into what all have in common, and for each state the
// rest. spec: rooms/v2 §definitions
func separate(sets []map[StateKey]string) (unconflicted map[StateKey]string, conflicted [][]string) {
	unconflicted = maps.Clone(sets[0])
	if unconflicted == nil {
		unconflicted = make(map[StateKey]string)
	}
	for _, set := range sets[1:] {
		for key, id := range unconflicted {
			if other, ok := set[key]; !ok || other != id {
				delete(unconflicted, key)
			}
		}
	}
	conflicted = make([][]string, len(sets))
	for i, set := range sets {
		for key, id := range set {
			if _, ok := unconflicted[key]; !ok {
				conflicted[i] = append(conflicted[i], id)
			}
		}
	}
	return unconflicted, conflicted
}

// load fetches events that are not loaded yet.
func (r *resolution) load(ids []string) error {
	return r.fetch(ids, func(e *Event) { r.events[e.id] = e })
}

// fetch asks the provider for events that are not loaded yet, in batches. The
// same ID may be asked for several times in a run, not in a call.
func (r *resolution) fetch(ids []string, got func(*Event)) error {
	const batch = 1000
	var wanted, missing []string
	asked := make(map[string]struct{})
	for _, id := range ids {
		if _, ok := r.events[id]; ok {
			continue
		}
		if _, ok := asked[id]; !ok {
			asked[id] = struct{}{}
			wanted = append(wanted, id)
		}
	}
	if len(r.events)+len(wanted) > MaxResolutionEvents {
		return fmt.Errorf("%w: more than %d events to look at", ErrResolutionTooLarge, MaxResolutionEvents)
	}
	for part := range slices.Chunk(wanted, batch) {
		events, err := r.provider.Events(part)
		if err != nil {
			return err
		}
		for _, id := range part {
			e := events[id]
			switch {
			case e == nil:
				missing = append(missing, id)
			case e.version != r.rules.Version:
				return fmt.Errorf("%w: %s is of room version %q", ErrBadEvent, id, e.version)
			default:
				got(e)
			}
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return &MissingEventsError{EventIDs: missing}
	}
	return nil
}

// levelsOf returns power levels, each parsed once.
func (r *resolution) levelsOf(create, powerLevels *Event) (*PowerLevels, error) {
	key := levelsKey{create, powerLevels}
	if levels, ok := r.levels[key]; ok {
		return levels, nil
	}
	levels, err := NewPowerLevels(r.rules.Version, create, powerLevels)
	if err != nil {
		return nil, err
	}
	r.levels[key] = levels
	return levels, nil
}

// authEvent returns the auth event of e, loaded already, that has a key; nil
// if there is none.
func (r *resolution) authEvent(e *Event, typ, stateKey string) *Event {
	for _, id := range e.authEvents {
		if x := r.events[id]; x != nil && x.typ == typ && x.StateKeyEquals(stateKey) {
			return x
		}
	}
	return nil
}

// loadAuthEvents loads the auth events of events that are loaded.
func (r *resolution) loadAuthEvents(ids []string) error {
	var auth []string
	for _, id := range ids {
		auth = append(auth, r.events[id].authEvents...)
	}
	return r.load(auth)
}

// replay is the state against which events are checked one after the other.
type replay struct {
	*resolution
	base  map[StateKey]string // never written
	taken map[StateKey]*Event // over base

	event    *Event // being checked
	fromAuth bool   // may its auth events fill gaps? (not in version 1)
	err      error  // what went wrong in StateEvent
}

// StateEvent implements AuthState.
func (p *replay) StateEvent(typ, stateKey string) *Event {
	if p.create != nil && typ == "m.room.create" {
		return p.create
	}
	key := StateKey{typ, stateKey}
	if e, ok := p.taken[key]; ok {
		return e
	}
	if id, ok := p.base[key]; ok {
		if p.events[id] == nil {
			if err := p.load([]string{id}); err != nil && p.err == nil {
				p.err = err
			}
		}
		return p.events[id]
	}
	if !p.fromAuth {
		return nil
	}
	e := p.authEvent(p.event, typ, stateKey)
	if e == nil || p.rejections != nil && p.rejections.Rejected(e.id) {
		return nil
	}
	return e
}

// PowerLevels implements PowerLevelState.
func (p *replay) PowerLevels() *PowerLevels {
	levels, err := p.levelsOf(p.StateEvent("m.room.create", ""), p.StateEvent("m.room.power_levels", ""))
	if err != nil {
		return nil // Authorise makes them again and returns the error
	}
	return levels
}

// prepare loads what checking the events will need from base.
func (p *replay) prepare(ids []string) error {
	var needed []string
	for _, id := range ids {
		e := p.events[id]
		p.keys = appendAuthKeys(p.keys[:0], p.rules, e.typ, e.sender, e.stateKey, e.membership, e.Content())
		for _, key := range p.keys {
			if id, ok := p.base[key]; ok && p.events[id] == nil {
				needed = append(needed, id)
			}
		}
	}
	return p.load(needed)
}

// check reports whether an event is allowed, and why not.
func (p *replay) check(id string) (refused *AuthError, err error) {
	p.event = p.events[id]
	if !p.event.IsState() {
		return &AuthError{Rule: strconv.Itoa(p.rules.ruleNumbers().authEvents) + ".2", Reason: "not a state event"}, nil
	}
	err = Authorise(p.event, p)
	if p.err != nil {
		return nil, p.err
	}
	if refused, ok := err.(*AuthError); ok {
		return refused, nil
	}
	return nil, err
}

// step notes what became of an event.
func (r *resolution) step(e *Event, phase string, refused *AuthError) {
	if r.trace == nil {
		return
	}
	s := ResolutionStep{EventID: e.id, Key: e.Key(), Phase: phase}
	if refused != nil {
		s.Refused = refused.Error()
	}
	r.trace.Steps = append(r.trace.Steps, s)
}
