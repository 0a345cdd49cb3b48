package gomatrixserverlib

import (
	"cmp"
	"container/heap"
	"errors"
	"math"
	"slices"
)

// errAuthCycle means that events authorise each other in a circle, which
// events that were accepted cannot.
var errAuthCycle = errors.New("auth events form a cycle")

// powerOrder divides the full conflicted set: its power events with what of it
// is in their auth chains, in reverse topological power ordering, and the rest
// in no order. Chains may lead through all of graph, which has the full set and
// what lies between conflicted events; other paths from one event of the full
// set to another there are none.
// spec: rooms/v2 §definitions, reverse topological power ordering
func (r *resolution) powerOrder(full, graph []string) (power, rest []string, err error) {
	inGraph := make(map[string]*powerNode, len(graph))
	for _, id := range graph {
		inGraph[id] = &powerNode{event: r.events[id]}
	}
	var chain []*powerNode // power events and what is below them
	add := func(n *powerNode) {
		if !n.picked {
			n.picked = true
			chain = append(chain, n)
		}
	}
	for _, id := range full {
		inGraph[id].wanted = true
		if isPowerEvent(inGraph[id].event) {
			add(inGraph[id])
		}
	}
	for i := 0; i < len(chain); i++ {
		for _, id := range chain[i].event.authEvents {
			if below := inGraph[id]; below != nil {
				add(below)
				below.above = append(below.above, chain[i])
				chain[i].waits++
			}
		}
	}
	for _, n := range chain {
		if n.level, err = r.senderLevel(n.event); err != nil {
			return nil, nil, err
		}
	}
	if power, err = kahn(chain); err != nil {
		return nil, nil, err
	}
	for _, id := range full {
		if !inGraph[id].picked {
			rest = append(rest, id)
		}
	}
	return power, rest, nil
}

// senderLevel returns the power of an event's sender by its auth events.
func (r *resolution) senderLevel(e *Event) (int64, error) {
	create := r.create
	if create == nil {
		create = r.authEvent(e, "m.room.create", "")
	}
	if create == nil && e.typ == "m.room.create" {
		create = e
	}
	levels, err := r.levelsOf(create, r.authEvent(e, "m.room.power_levels", ""))
	if err != nil {
		return 0, err
	}
	return levels.UserLevel(e.sender), nil
}

// powerNode is an event to be ordered by power.
type powerNode struct {
	event  *Event
	level  int64        // its sender's
	above  []*powerNode // that have it among their auth events
	waits  int          // how many of its auth events are not ordered yet
	picked bool         // is a power event or in the auth chain of one
	wanted bool         // is in the full conflicted set
}

// powerHeap has the smallest event on top.
type powerHeap []*powerNode

func (h powerHeap) Len() int      { return len(h) }
func (h powerHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *powerHeap) Push(n any)   { *h = append(*h, n.(*powerNode)) }

func (h powerHeap) Less(i, j int) bool {
	x, y := h[i], h[j]
	if x.wanted != y.wanted {
		return y.wanted // what only leads from one to another must not hold others up
	}
	return cmp.Or(
		cmp.Compare(y.level, x.level),
		cmp.Compare(x.event.originTS, y.event.originTS),
		cmp.Compare(x.event.id, y.event.id),
	) < 0
}

func (h *powerHeap) Pop() any {
	last := len(*h) - 1
	n := (*h)[last]
	*h = (*h)[:last]
	return n
}

// kahn sorts events so that each stands after its auth events, and else the
// smallest first. It returns the wanted ones.
func kahn(nodes []*powerNode) ([]string, error) {
	var ready powerHeap
	for _, n := range nodes {
		if n.waits == 0 {
			ready = append(ready, n)
		}
	}
	heap.Init(&ready)
	var sorted []string
	done := 0
	for ; ready.Len() > 0; done++ {
		n := heap.Pop(&ready).(*powerNode)
		if n.wanted {
			sorted = append(sorted, n.event.id)
		}
		for _, above := range n.above {
			if above.waits--; above.waits == 0 {
				heap.Push(&ready, above)
			}
		}
	}
	if done < len(nodes) {
		return nil, errAuthCycle
	}
	return sorted, nil
}

// mainlineOrder sorts events by the mainline of a power levels event, nil if
// there is none.
// spec: rooms/v2 §definitions, mainline ordering
func (r *resolution) mainlineOrder(top *Event, ids []string) ([]string, error) {
	positions := make(map[string]int) // of power levels events
	for p, i := top, 0; p != nil; i++ {
		if _, seen := positions[p.id]; seen {
			return nil, errAuthCycle
		}
		positions[p.id] = i
		if err := r.load(p.authEvents); err != nil {
			return nil, err
		}
		p = r.authEvent(p, "m.room.power_levels", "")
	}
	type placed struct {
		event    *Event
		position int
	}
	list := make([]placed, len(ids))
	for i, id := range ids {
		position, err := r.mainlinePosition(r.events[id], positions)
		if err != nil {
			return nil, err
		}
		list[i] = placed{r.events[id], position}
	}
	slices.SortFunc(list, func(x, y placed) int {
		return cmp.Or(
			cmp.Compare(y.position, x.position),
			cmp.Compare(x.event.originTS, y.event.originTS),
			cmp.Compare(x.event.id, y.event.id),
		)
	})
	sorted := make([]string, len(list))
	for i, p := range list {
		sorted[i] = p.event.id
	}
	return sorted, nil
}

// mainlinePosition returns the position of the first power levels event of the
// mainline that following auth_events from e comes to; math.MaxInt if it comes
// to none. It adds the positions of those that it passes.
func (r *resolution) mainlinePosition(e *Event, positions map[string]int) (int, error) {
	var passed []string
	position := math.MaxInt
	for p := r.authEvent(e, "m.room.power_levels", ""); p != nil; {
		if known, ok := positions[p.id]; ok {
			position = known
			break
		}
		passed = append(passed, p.id)
		positions[p.id] = math.MaxInt // ends a cycle
		if err := r.load(p.authEvents); err != nil {
			return 0, err
		}
		p = r.authEvent(p, "m.room.power_levels", "")
	}
	for _, id := range passed {
		positions[id] = position
	}
	return position, nil
}
