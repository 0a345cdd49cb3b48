package roomserver

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/matrix-org/dendrite/gomatrixserverlib"
)

// TestStateCache: it gives the state that is asked for or the last one before it
// that is kept, and stays within its bounds.
func TestStateCache(t *testing.T) {
	one := func(n int64) state {
		return state{gomatrixserverlib.StateKey{Type: "t"}: fmt.Sprint("$", n)}
	}
	const bytes = 20_000
	c := newStateCache(bytes)
	r := rand.New(rand.NewPCG(1, 2))
	added := map[int64][]int64{}
	for range 5000 {
		room, seq := 1+r.Int64N(20), 1+r.Int64N(1000)
		s, at := c.get(room, seq)
		switch {
		case at == 0 && s != nil, at > seq:
			t.Fatalf("the state at %d for %d", at, seq)
		case at > 0 && (!slices.Contains(added[room], at) || s[gomatrixserverlib.StateKey{Type: "t"}] != one(at)[gomatrixserverlib.StateKey{Type: "t"}]):
			t.Fatalf("the state at %d is %v", at, s)
		}
		for _, kept := range c.seqs[room] {
			if kept <= seq && kept > at {
				t.Fatalf("the state at %d is there, %d was given for %d", kept, at, seq)
			}
		}
		if at != seq {
			c.add(room, seq, one(seq))
			added[room] = append(added[room], seq)
		}
		kept := 0
		for _, seqs := range c.seqs {
			if kept += len(seqs); len(seqs) > maxStatesPerRoom {
				t.Fatalf("%d states of a room", len(seqs))
			}
		}
		if c.bytes > bytes || kept != c.states.Len() {
			t.Fatalf("%d bytes; %d states, %d of rooms", c.bytes, c.states.Len(), kept)
		}
	}
	if s, at := c.get(1, 1000); at == 0 || s == nil {
		t.Fatal("nothing is kept")
	}
	large := state{}
	for i := range 1000 {
		large[gomatrixserverlib.StateKey{Type: fmt.Sprint(i)}] = "$x"
	}
	if c.add(99, 1, large); c.seqs[99] != nil {
		t.Fatal("a state is kept that is larger than the bound")
	}
	c.clear()
	if c.bytes != 0 || len(c.seqs) != 0 {
		t.Fatalf("%d bytes are left, %v", c.bytes, c.seqs)
	}
}
