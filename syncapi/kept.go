package syncapi

import (
	"math"
	"slices"

	"github.com/matrix-org/dendrite/gomatrixserverlib"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

// keptState is what is kept of a room's state as the room server told it,
// together with what records have changed of it since.
type keptState struct {
	// from is the Seq since which the state has been this, up to the last record applied.
	from int64
	// entries are those known: nil where it is known that there is none.
	entries stateMap
	// others and members tell that all entries but those of members are known,
	// and all of members.
	others, members bool
	bytes           int64
	// past are entries as they were right after earlier positions.
	past map[pastKey]*event
}

type pastKey struct {
	seq int64
	gomatrixserverlib.StateKey
}

const (
	// maxPast bounds the earlier entries kept of a room.
	maxPast = 100
	// stateShare bounds the bytes of the state kept of a room: to one part in so
	// many of what all rooms may take. More is asked for each time.
	stateShare = 4
	// keptBytes is about what an entry costs in memory beside its event.
	keptBytes = 150
)

// now stands for a Seq after all that has been applied.
const now = math.MaxInt64

// complete tells whether all entries of a key's kind are known.
func (k *keptState) complete(key gomatrixserverlib.StateKey) bool {
	if key.Type == typeMember {
		return k.members
	}
	return k.others
}

func (k *keptState) put(key gomatrixserverlib.StateKey, ev *event) (grown int64) {
	if old, known := k.entries[key]; known {
		grown -= entryBytes(old)
	}
	grown += entryBytes(ev)
	k.entries[key] = ev
	k.bytes += grown
	return grown
}

func entryBytes(ev *event) int64 {
	if ev == nil {
		return keptBytes
	}
	return keptBytes + ev.size()
}

// knownState answers a request for state right after a Seq up to which all has
// been applied, if all that it asks for is kept.
func (r *room) knownState(at int64, req *roomapi.StateRequest) (stateMap, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	k := &r.kept
	if req.Types != nil || req.IDsOnly {
		return nil, false
	}
	if at < k.from || k.entries == nil {
		return k.before(at, req.Keys)
	}
	if out, ok := k.current(req); ok {
		return out, true
	}
	return k.before(at, req.Keys)
}

// current answers from the last state known.
func (k *keptState) current(req *roomapi.StateRequest) (stateMap, bool) {
	if req.Keys == nil && (!k.others || !k.members && !req.WithoutMembers) {
		return nil, false
	}
	keys := req.Keys
	out := make(stateMap, max(len(keys), 16))
	if keys == nil {
		for key, ev := range k.entries {
			if ev != nil && (key.Type != typeMember || !req.WithoutMembers) {
				out[key] = ev
			}
		}
		for _, id := range req.Members {
			keys = append(keys, gomatrixserverlib.StateKey{Type: typeMember, StateKey: id})
		}
	}
	for _, key := range keys {
		ev, known := k.entries[key]
		if !known && !k.complete(key) {
			return nil, false
		}
		if ev != nil {
			out[key] = ev
		}
	}
	return out, true
}

// knowsState tells whether the whole state right after a Seq is kept, or all of it
// but members.
func (r *room) knowsState(at int64, withoutMembers bool) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	k := &r.kept
	return k.entries != nil && at >= k.from && k.others && (k.members || withoutMembers)
}

// keptMembers returns the first users by the position of their memberships, of
// those with any of some; false if not all members are known.
func (r *room) keptMembers(most int, memberships []string) ([]string, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if !r.kept.members || r.kept.from > r.latest {
		return nil, false
	}
	var first []*event
	for key, ev := range r.kept.entries {
		if ev == nil || key.Type != typeMember || !slices.Contains(memberships, ev.Membership()) {
			continue
		}
		i, _ := slices.BinarySearchFunc(first, ev.Position, func(e *event, pos roomapi.Position) int { return e.Position.Compare(pos) })
		if i < most {
			first = slices.Insert(first, i, ev)
			first = first[:min(len(first), most)]
		}
	}
	out := make([]string, len(first))
	for i, ev := range first {
		out[i] = *ev.StateKey()
	}
	return out, true
}

// before answers what is kept of state at an earlier position.
func (k *keptState) before(at int64, keys []gomatrixserverlib.StateKey) (stateMap, bool) {
	if keys == nil || k.past == nil {
		return nil, false
	}
	out := make(stateMap, len(keys))
	for _, key := range keys {
		ev, known := k.past[pastKey{at, key}]
		if !known {
			return nil, false
		}
		if ev != nil {
			out[key] = ev
		}
	}
	return out, true
}

// keepState keeps an answer of the room server, to a question that was asked
// when everything up to the Seq asked had been published: what the answer does
// not know is to be applied yet. The state is the one right after at.
func (v *view) keepState(r *room, asked int64, req *roomapi.StateRequest, at int64, state stateMap) {
	if req.Types != nil || req.IDsOnly {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	r.mu.Lock()
	var grown int64
	switch current := req.AtSeq == 0; {
	case r.changed == gone:
	case current && r.changed <= max(asked, at), !current && r.changed <= at:
		grown = r.kept.keep(req, at, state, r.mostState)
	case !current && r.redacted <= asked:
		grown = r.kept.keepBefore(at, req.Keys, state)
	}
	r.bytes += grown
	r.mu.Unlock()
	if grown != 0 {
		v.grownLocked(r, grown)
	}
}

// keep adds to what is known of the current state, or drops all if that is more
// than a number of bytes. Answers may come in another order than they were given
// in, so that entries are as of different positions until all records up to from
// are applied: changeState brings them together.
func (k *keptState) keep(req *roomapi.StateRequest, at int64, state stateMap, most int64) (grown int64) {
	before := k.bytes
	if req.Keys == nil && !req.WithoutMembers {
		k.from, k.entries, k.others, k.members = at, make(stateMap, len(state)), true, true
		k.bytes = k.pastBytes()
	}
	if k.entries == nil {
		k.entries = stateMap{}
	}
	k.from = max(k.from, at)
	for key, ev := range state {
		k.put(key, ev)
	}
	keys := slices.Clone(req.Keys)
	for _, id := range req.Members {
		keys = append(keys, gomatrixserverlib.StateKey{Type: typeMember, StateKey: id})
	}
	for _, key := range keys {
		if state[key] == nil {
			k.put(key, nil)
		}
	}
	k.others = k.others || req.Keys == nil
	if k.bytes > most {
		*k = keptState{}
	}
	return k.bytes - before
}

// pastBytes is what the earlier entries cost.
func (k *keptState) pastBytes() (n int64) {
	for _, ev := range k.past {
		n += entryBytes(ev)
	}
	return n
}

// keepBefore keeps entries of an earlier state, which does not change any more.
func (k *keptState) keepBefore(at int64, keys []gomatrixserverlib.StateKey, state stateMap) (grown int64) {
	if len(keys) > maxPast {
		return 0
	}
	if k.past == nil || len(k.past)+len(keys) > maxPast {
		grown -= k.pastBytes()
		k.past = make(map[pastKey]*event, len(keys))
	}
	for _, key := range keys {
		if _, known := k.past[pastKey{at, key}]; !known {
			k.past[pastKey{at, key}] = state[key]
			grown += entryBytes(state[key])
		}
	}
	k.bytes += grown
	return grown
}

// gone is the changed of a room that is not in the view any more.
const gone = math.MaxInt64

// forgetState drops the state kept; r.mu is held. All up to the Seq is applied.
func (r *room) forgetState(applied int64) (grown int64) {
	grown = -r.kept.bytes
	r.bytes += grown
	r.kept = keptState{}
	r.changed, r.redacted = max(r.changed, applied), max(r.redacted, applied)
	return grown
}

// changeState brings the state kept up to date: by a record of the usual kind,
// a state event that takes its place in the current state. After all others that
// change the state it is asked for again.
func (r *room) changeState(t *told) (grown int64) {
	plain := t.Kind == roomapi.OutputEvent && !t.large
	if plain && len(t.changes) == 0 {
		return 0
	}
	if !plain && t.Kind == roomapi.OutputBackfilled && len(t.changes) == 0 {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	seq, k := t.Position.Seq, &r.kept
	if !plain || len(t.changes) != 1 || t.changes[0].ev != t.ev || !t.live() {
		return r.forgetState(seq)
	}
	r.changed = max(r.changed, seq)
	if k.entries == nil {
		return 0
	}
	k.from = max(k.from, seq)
	key := t.changes[0].StateKey
	// An answer that was ahead may have brought from up to here or beyond, without
	// this entry. If it has the entry, that is this event or a later one, or what
	// another kind of record has put there, which is about to come.
	if old, known := k.entries[key]; (known || k.complete(key)) && (old == nil || old.Position.Seq < seq) {
		grown = k.put(key, t.ev)
		r.bytes += grown
	}
	return grown
}

// redactState redacts an event of the state kept. r.mu is held.
func (r *room) redactState(eventID, by string, seq int64) (grown int64, err error) {
	r.changed, r.redacted = max(r.changed, seq), max(r.redacted, seq)
	k := &r.kept
	for key, ev := range k.entries {
		if ev == nil || ev.EventID() != eventID {
			continue
		}
		left, err := ev.without(eventID, by)
		if err != nil {
			return grown, err
		}
		grown += k.put(key, left)
	}
	for key, ev := range k.past {
		if ev == nil || ev.EventID() != eventID {
			continue
		}
		left, err := ev.without(eventID, by)
		if err != nil {
			return grown, err
		}
		k.past[key] = left
		by := left.size() - ev.size()
		k.bytes += by
		grown += by
	}
	return grown, nil
}
