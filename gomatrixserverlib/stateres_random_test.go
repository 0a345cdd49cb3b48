package gomatrixserverlib

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// indexProvider is an AuthChainDiffer that follows the definitions to the
// letter, without a thought for cost.
type indexProvider struct{ mapProvider }

// chain is the union of the events' auth chains.
func (p *indexProvider) chain(ids ...string) map[string]bool {
	found := make(map[string]bool)
	for queue := slices.Clone(ids); len(queue) > 0; queue = queue[1:] {
		if e := p.events[queue[0]]; e != nil {
			for _, id := range e.AuthEventIDs() {
				if !found[id] {
					found[id] = true
					queue = append(queue, id)
				}
			}
		}
	}
	return found
}

func (p *indexProvider) AuthDifference(conflicted [][]string, unconflicted []string) ([]string, error) {
	count := make(map[string]int)
	for _, ids := range conflicted {
		for id := range p.chain(append(slices.Clone(ids), unconflicted...)...) {
			count[id]++
		}
	}
	var difference []string
	for id, n := range count {
		if n < len(conflicted) {
			difference = append(difference, id)
		}
	}
	return difference, nil
}

func (p *indexProvider) ConflictedSubgraph(conflicted []string) ([]string, error) {
	var between []string
	for id := range p.chain(conflicted...) {
		below := p.chain(id)
		if slices.ContainsFunc(conflicted, func(c string) bool { return below[c] }) {
			between = append(between, id)
		}
	}
	return between, nil
}

// action is a random line; users, levels and rules are few so that they clash.
func action(v RoomVersion, rng func(int) int) string {
	users := []string{"@c:s", "@a:s", "@m:t", "@u:t", "@v:t"}
	sender, target := users[rng(len(users))], users[rng(len(users))]
	switch rng(10) {
	case 0:
		return member_(sender, target, []string{"ban", "leave", "invite", "knock"}[rng(4)])
	case 1:
		return member_(sender, sender, "leave")
	case 2, 3:
		return member_(sender, sender, "join")
	case 4, 5:
		return levelsLine(v, sender, fmt.Sprintf(`"@a:s":%d,"@m:t":%d,"@u:t":%d`, 50*rng(3), 50*rng(3), 50*rng(3)))
	case 6:
		return rulesBy(sender, []string{"public", "invite", "knock"}[rng(3)])
	default:
		return fmt.Sprintf(`m.room.topic %s "" {"topic":"%d"}`, sender, rng(1000))
	}
}

func rulesBy(sender, rule string) string {
	return `m.room.join_rules ` + sender + ` "" {"join_rule":"` + rule + `"}`
}

// randomForks lets forks of a room go on by themselves, now and then merging
// two, and returns their states. If lax, what is not allowed is taken too.
func randomForks(r *authRoom, base roomState, rng func(int) int, lax bool) []roomState {
	forks := make([]roomState, 2+rng(3))
	for i := range forks {
		forks[i] = base
	}
	for range 10 + rng(40) {
		i := rng(len(forks))
		if rng(8) == 0 {
			merged, err := ResolveState(r.v, []map[StateKey]string{forks[i].ids(), forks[rng(len(forks))].ids()}, &mapProvider{events: r.events})
			if err != nil {
				r.t.Fatal(err)
			}
			forks[i] = make(roomState)
			for key, id := range merged {
				forks[i][key] = r.events[id]
			}
			continue
		}
		if rng(12) == 0 { // a fork that has an outdated state of something
			key := []StateKey{{"m.room.power_levels", ""}, {"m.room.join_rules", ""}, {"m.room.member", "@a:s"}}[rng(3)]
			forks[i] = maps.Clone(forks[i])
			forks[i][key] = base[key]
			continue
		}
		e, after := r.send(forks[i], r.create, action(r.v, rng))
		if Authorise(e, forks[i]) == nil || lax {
			forks[i] = after
		}
	}
	return forks
}

// Whatever the forks: one result in any order and with an index of auth chains;
// what all agree on stays; what is at a key belongs there.
func TestResolveRandom(t *testing.T) {
	for _, v := range SupportedRoomVersions() {
		for seed := range uint64(40) {
			rng := rand.New(rand.NewPCG(seed, 7)).IntN
			r, base := newForkRoom(t, v)
			states := randomForks(r, base, rng, seed%4 == 3)
			requireSound(r, states, r.resolve(states...))
		}
	}
}

func requireSound(r *authRoom, states []roomState, result map[StateKey]string) {
	r.t.Helper()
	for key, e := range states[0] {
		if !slices.ContainsFunc(states, func(s roomState) bool { return s[key] != e }) && result[key] != e.EventID() {
			r.t.Errorf("version %s: %v was %s in all states and is %q", r.v, key, e.EventID(), result[key])
		}
	}
	for key, id := range result {
		if e := r.events[id]; e == nil || !e.IsState() || e.Key() != key {
			r.t.Errorf("version %s: %s is at %v", r.v, id, key)
		}
	}
	twice := append(slices.Clone(states), states...)
	sets := make([]map[StateKey]string, len(twice))
	for i, s := range twice {
		sets[i] = s.ids()
	}
	if again, err := ResolveState(r.v, sets, &mapProvider{events: r.events}); err != nil || !maps.Equal(result, again) {
		r.t.Errorf("version %s: the same states twice give another result: %v", r.v, err)
	}
}

// More than 64 states take more than one word of marks.
func TestResolveManyStates(t *testing.T) {
	for _, v := range []RoomVersion{RoomVersionV1, RoomVersionV10, RoomVersionV12} {
		r, base := newForkRoom(t, v)
		rng := rand.New(rand.NewPCG(1, 1)).IntN
		var states []roomState
		for len(states) < 70 {
			states = append(states, randomForks(r, base, rng, false)...)
		}
		sets := make([]map[StateKey]string, len(states))
		for i, s := range states {
			sets[i] = s.ids()
		}
		plain := &mapProvider{events: r.events}
		x, err := ResolveState(v, sets, plain)
		if err != nil {
			t.Fatal(err)
		}
		y, err := ResolveState(v, reversed(sets), &indexProvider{*plain})
		if err != nil || !maps.Equal(x, y) {
			t.Errorf("version %s: results differ (%v)", v, err)
		}
		requireSound(r, states, x)
	}
}

// FuzzResolve lets bytes decide what the forks do, allowed or not.
func FuzzResolve(f *testing.F) {
	for i := range 12 {
		f.Add(uint8(i), []byte("the quick brown fox jumps over the lazy dog"))
		f.Add(uint8(i), []byte{4, 9, 1, 0, 200, 13, 7, 77, 5, 5, 5, 1, 2, 3, 8, 90, 17, 61, 34})
	}
	f.Fuzz(func(t *testing.T, version uint8, choices []byte) {
		v := SupportedRoomVersions()[int(version)%12]
		i := 0
		rng := func(n int) int {
			if len(choices) == 0 {
				return 0
			}
			i++
			return (int(choices[i%len(choices)]) + i/len(choices)) % n
		}
		r, base := newForkRoom(t, v)
		states := randomForks(r, base, rng, true)
		requireSound(r, states, r.resolve(states...))
	})
}
