package gomatrixserverlib

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// ErrResolutionTooLarge means that a state resolution would have to look at
// more than MaxResolutionEvents.
var ErrResolutionTooLarge = errors.New("state resolution too large")

// authGraph is some events, everything in their auth chains, and the
// auth_events between them. Events are numbered.
type authGraph struct {
	number map[string]int32
	ids    []string
	auth   [][]int32
}

// add returns an event's number.
func (g *authGraph) add(id string) int32 {
	if n, ok := g.number[id]; ok {
		return n
	}
	n := int32(len(g.ids))
	g.number[id] = n
	g.ids = append(g.ids, id)
	g.auth = append(g.auth, nil)
	return n
}

// walkAuth loads events and their whole auth chains, a generation at a time.
func (r *resolution) walkAuth(ids []string) (*authGraph, error) {
	g := &authGraph{number: make(map[string]int32)}
	for _, id := range ids {
		g.add(id)
	}
	for done := 0; done < len(g.ids); {
		generation := len(g.ids)
		if err := r.load(g.ids[done:generation]); err != nil {
			return nil, err
		}
		for ; done < generation; done++ {
			auth := r.events[g.ids[done]].authEvents
			numbers := make([]int32, len(auth))
			for i, id := range auth {
				numbers[i] = g.add(id)
			}
			g.auth[done] = numbers
		}
	}
	return g, nil
}

// marks is a set of small numbers for each event of a graph.
type marks struct {
	words int // 64-bit words for each event
	bits  []uint64
}

func newMarks(events, members int) *marks {
	words := (members + 63) / 64
	return &marks{words: words, bits: make([]uint64, events*words)}
}

func (m *marks) of(n int32) []uint64 { return m.bits[int(n)*m.words : (int(n)+1)*m.words] }

// merge adds to the marks of n and reports whether any is new.
func (m *marks) merge(n int32, from []uint64) bool {
	changed := false
	for i, word := range m.of(n) {
		if merged := word | from[i]; merged != word {
			m.of(n)[i] = merged
			changed = true
		}
	}
	return changed
}

func (m *marks) count(n int32) int {
	count := 0
	for _, word := range m.of(n) {
		for ; word != 0; word &= word - 1 {
			count++
		}
	}
	return count
}

// inSomeChains returns the events that are in the auth chain of some of the
// sets of events but not of all.
func (g *authGraph) inSomeChains(sets [][]string) map[int32]bool {
	m := newMarks(len(g.ids), len(sets))
	var queue []int32
	one := make([]uint64, m.words)
	for i, set := range sets {
		clear(one)
		one[i/64] = 1 << (i % 64)
		for _, id := range set {
			for _, n := range g.auth[g.number[id]] {
				if m.merge(n, one) {
					queue = append(queue, n)
				}
			}
		}
	}
	for len(queue) > 0 {
		n := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		for _, below := range g.auth[n] {
			if m.merge(below, m.of(n)) {
				queue = append(queue, below)
			}
		}
	}
	some := make(map[int32]bool)
	for n := range g.ids {
		if count := m.count(int32(n)); count > 0 && count < len(sets) {
			some[int32(n)] = true
		}
	}
	return some
}

// between returns the events from which following auth_events leads to one of
// the given ones. In a graph of their auth chains these lie between them.
func (g *authGraph) between(ids []string) []string {
	children := make([][]int32, len(g.ids))
	for n, auth := range g.auth {
		for _, a := range auth {
			children[a] = append(children[a], int32(n))
		}
	}
	var queue []int32
	for _, id := range ids {
		queue = append(queue, g.number[id])
	}
	seen := make([]bool, len(g.ids))
	var found []string
	for len(queue) > 0 {
		n := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		for _, child := range children[n] {
			if !seen[child] {
				seen[child] = true
				found = append(found, g.ids[child])
				queue = append(queue, child)
			}
		}
	}
	return found
}

// authDifference returns the auth difference of the states, and the events
// between the conflicted ones.
func (r *resolution) authDifference(conflicted [][]string, all []string, unconflicted map[StateKey]string) (difference, between []string, err error) {
	if index, ok := r.provider.(AuthChainDiffer); ok {
		difference, err = index.AuthDifference(conflicted, slices.Collect(maps.Values(unconflicted)))
		if err != nil {
			return nil, nil, fmt.Errorf("auth difference: %w", err)
		}
		if between, err = index.ConflictedSubgraph(all); err != nil {
			return nil, nil, fmt.Errorf("conflicted subgraph: %w", err)
		}
		return difference, between, nil
	}
	g, err := r.walkAuth(all)
	if err != nil {
		return nil, nil, err
	}
	some := g.inSomeChains(conflicted)
	if err := r.dropShared(g, some, unconflicted); err != nil {
		return nil, nil, err
	}
	for n := range some {
		difference = append(difference, g.ids[n])
	}
	return difference, g.between(all), nil
}

// dropShared removes what is in the auth chain of an unconflicted event, and so
// in that of all states. It stops as soon as nothing is left to remove, and
// does not follow what all states have anyway: that leads nowhere else.
func (r *resolution) dropShared(g *authGraph, some map[int32]bool, unconflicted map[StateKey]string) error {
	w := sharedWalk{resolution: r, graph: g, some: some, seen: make(map[string]struct{}), visited: make([]bool, len(g.ids))}
	// Few of them, mostly, reach all that can be reached. Members come last:
	// there may be many.
	const part = 256
	var first, members []string
	for key, id := range unconflicted {
		if key.Type == "m.room.member" {
			members = append(members, id)
		} else {
			first = append(first, id)
		}
	}
	slices.Sort(first)
	slices.Sort(members)
	for ids := range slices.Chunk(append(first, members...), part) {
		if err := w.follow(ids); err != nil {
			return err
		}
	}
	return nil
}

// sharedWalk follows auth_events from unconflicted events.
type sharedWalk struct {
	*resolution
	graph   *authGraph
	some    map[int32]bool      // of the graph, in the auth chains of some states
	visited []bool              // of the graph
	seen    map[string]struct{} // outside it
}

// follow walks the auth chains of the events.
func (w *sharedWalk) follow(ids []string) error {
	for len(ids) > 0 && len(w.some) > 0 {
		var outside []string
		var reached []string
		for _, id := range ids {
			if n, ok := w.graph.number[id]; ok {
				w.drop(w.graph.auth[n])
				continue
			}
			if _, ok := w.seen[id]; !ok {
				w.seen[id] = struct{}{}
				outside = append(outside, id)
			}
		}
		if len(w.seen) > MaxResolutionEvents {
			return fmt.Errorf("%w: more than %d events to look at", ErrResolutionTooLarge, MaxResolutionEvents)
		}
		// Loaded so far is the graph alone, so these are not.
		err := w.fetch(outside, func(e *Event) {
			for _, auth := range e.authEvents {
				if n, ok := w.graph.number[auth]; ok {
					w.drop([]int32{n})
				} else {
					reached = append(reached, auth)
				}
			}
		})
		if err != nil {
			return err
		}
		ids = reached
	}
	return nil
}

// drop removes events of the graph and their auth chains.
func (w *sharedWalk) drop(queue []int32) {
	queue = slices.Clone(queue)
	for len(queue) > 0 {
		n := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if w.visited[n] {
			continue
		}
		w.visited[n] = true
		delete(w.some, n)
		queue = append(queue, w.graph.auth[n]...)
	}
}
