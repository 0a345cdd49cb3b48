package gomatrixserverlib

import (
	"bytes"
	"cmp"
	"crypto/sha1"
	"slices"
	"strings"
)

// resolveV1 is the algorithm of room version 1.
//
// Where the specification leaves it open: conflicts are resolved one key after
// the other, keys of a type in ascending order, so each list has the candidates
// of one key; and a key none of whose candidates passes stays empty.
// spec: rooms/v1 §state-resolution
func (r *resolution) resolveV1(sets []map[StateKey]string) (map[StateKey]string, error) {
	agreed, conflicts := separateV1(sets)
	if len(conflicts) == 0 {
		return agreed, nil
	}
	keys := make([]StateKey, 0, len(conflicts))
	var all []string
	for key, ids := range conflicts {
		keys = append(keys, key)
		all = append(all, ids...)
	}
	slices.SortFunc(keys, func(x, y StateKey) int {
		return cmp.Or(cmp.Compare(v1Pass(x.Type), v1Pass(y.Type)),
			strings.Compare(x.Type, y.Type), strings.Compare(x.StateKey, y.StateKey))
	})
	if err := r.load(all); err != nil {
		return nil, err
	}
	state := &replay{resolution: r, base: agreed, taken: make(map[StateKey]*Event)}
	if err := state.prepare(all); err != nil {
		return nil, err
	}
	for _, key := range keys {
		if err := state.settleV1(key, r.sortV1(conflicts[key])); err != nil {
			return nil, err
		}
	}
	// Not before: base is not to change.
	for key, e := range state.taken {
		if _, conflict := conflicts[key]; conflict {
			agreed[key] = e.id
		}
	}
	return agreed, nil
}

// v1Pass says in which pass a type's conflicts are resolved.
func v1Pass(typ string) int {
	switch typ {
	case "m.room.power_levels":
		return 0
	case "m.room.join_rules":
		return 1
	case "m.room.member":
		return 2
	}
	return 3
}

// separateV1 returns what the states agree on, and the candidates of the other
// keys. A state without a key does not disagree.
func separateV1(sets []map[StateKey]string) (agreed map[StateKey]string, conflicts map[StateKey][]string) {
	agreed = make(map[StateKey]string)
	conflicts = make(map[StateKey][]string)
	for _, set := range sets {
		for key, id := range set {
			if ids, ok := conflicts[key]; ok {
				if !containsString(ids, id) {
					conflicts[key] = append(ids, id)
				}
				continue
			}
			other, ok := agreed[key]
			if !ok {
				agreed[key] = id
			} else if other != id {
				delete(agreed, key)
				conflicts[key] = []string{other, id}
			}
		}
	}
	return agreed, conflicts
}

// sortV1 sorts by ascending depth, then descending SHA-1 of the ID.
func (r *resolution) sortV1(ids []string) []string {
	type placed struct {
		event *Event
		hash  [sha1.Size]byte
	}
	list := make([]placed, len(ids))
	for i, id := range ids {
		list[i] = placed{r.events[id], sha1.Sum([]byte(id))}
	}
	slices.SortFunc(list, func(x, y placed) int {
		return cmp.Or(cmp.Compare(x.event.depth, y.event.depth), bytes.Compare(y.hash[:], x.hash[:]))
	})
	sorted := make([]string, len(list))
	for i, p := range list {
		sorted[i] = p.event.id
	}
	return sorted
}

// settleV1 resolves the conflict at a key between sorted candidates.
func (p *replay) settleV1(key StateKey, ids []string) error {
	if v1Pass(key.Type) < 3 {
		return p.settleAuthV1(key, ids)
	}
	for _, id := range slices.Backward(ids) {
		refused, err := p.check(id)
		if err != nil {
			return err
		}
		p.step(p.event, "rest", refused)
		if refused == nil {
			p.taken[key] = p.event
			return nil
		}
	}
	return nil
}

// settleAuthV1 takes the first candidate and then each that the one before
// allows, up to the first that is not allowed.
func (p *replay) settleAuthV1(key StateKey, ids []string) error {
	first := p.events[ids[0]]
	p.taken[key] = first
	p.step(first, "first", nil)
	for _, id := range ids[1:] {
		refused, err := p.check(id)
		if err != nil {
			return err
		}
		p.step(p.event, "auth", refused)
		if refused != nil {
			return nil
		}
		p.taken[key] = p.event
	}
	return nil
}
