package gomatrixserverlib

import (
	"fmt"
	"maps"
	"strings"
	"testing"
)

// benchState is a room with a hundred listed users.
func benchState(b *testing.B, v RoomVersion) (*authRoom, *cachedState) {
	r := newAuthRoom(b, v, "")
	var users strings.Builder
	for i := range 100 {
		fmt.Fprintf(&users, `"@user%d:t":50,`, i)
	}
	lines := append(baseState(), `m.room.power_levels @a:s "" {"users":{`+users.String()+`"@a:s":100,"@m:t":50}}`)
	state := &cachedState{StateEvents: r.state(lines...)}
	var err error
	if state.levels, err = NewPowerLevels(v, r.create, state.StateEvent("m.room.power_levels", "")); err != nil {
		b.Fatal(err)
	}
	return r, state
}

func BenchmarkAuthorise(b *testing.B) {
	for _, v := range []RoomVersion{RoomVersionV10, RoomVersionV12} {
		r, state := benchState(b, v)
		for name, line := range map[string]string{
			"message": `m.room.message @u:t - {"body":"hello"}`, "join": member_("@i:t", "@i:t", "join"), "topic": `m.room.topic @m:t ""`,
		} {
			e := r.line(line)
			for parsed, s := range map[string]AuthState{"parsed": state, "unparsed": state.StateEvents} {
				b.Run("v"+string(v)+"/"+name+"/"+parsed, func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						if err := Authorise(e, s); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		}
	}
}

func BenchmarkAuthKeys(b *testing.B) {
	r, _ := benchState(b, RoomVersionV10)
	e := r.line(`m.room.message @u:t - {"body":"hello"}`)
	b.ReportAllocs()
	for b.Loop() {
		if len(e.AuthKeys()) != 3 {
			b.Fatal("keys")
		}
	}
}

// BenchmarkResolve has forks of a room with many members: one change on each
// side ("topic"), and as many profile changes on each as a tenth of the members.
func BenchmarkResolve(b *testing.B) {
	for _, v := range []RoomVersion{RoomVersionV1, RoomVersionV11, RoomVersionV12} {
		for _, members := range []int{1000, 10000} {
			r, base := newForkRoom(b, v)
			for i := range members {
				user := fmt.Sprintf("@user%d:t", i)
				_, base = r.sendShared(base, member_(user, user, "join"))
			}
			x, _ := r.run(base, `m.room.topic @a:s "" {"topic":"x"}`)
			y, _ := r.run(base, `m.room.topic @m:t "" {"topic":"y"}`)
			benchResolve(b, fmt.Sprintf("v%s/%d/topic", v, members), r, x, y)
			p, q := maps.Clone(base), maps.Clone(base)
			for i := range members / 10 {
				user := fmt.Sprintf("@user%d:t", i)
				profile := `m.room.member ` + user + ` ` + user + ` {"membership":"join","displayname":"U"}`
				_, p = r.sendShared(p, profile)
				_, q = r.sendShared(q, profile)
			}
			benchResolve(b, fmt.Sprintf("v%s/%d/profiles", v, members), r, p, q)
		}
	}
}

// sendShared is send that changes the state in place.
func (r *authRoom) sendShared(state roomState, line string) (*Event, roomState) {
	f := strings.SplitN(line, " ", 4)
	keys, err := AuthKeys(r.v, f[0], f[1], &f[2], []byte(f[3]))
	if err != nil {
		r.t.Fatal(err)
	}
	var auth []*Event
	for _, k := range keys {
		if e := state[k]; e != nil {
			auth = append(auth, e)
		}
	}
	e := r.add(f[0], f[1], &f[2], f[3], auth, []*Event{r.create})
	state[e.Key()] = e
	return e, state
}

func benchResolve(b *testing.B, name string, r *authRoom, states ...roomState) {
	sets := make([]map[StateKey]string, len(states))
	for i, s := range states {
		sets[i] = s.ids()
	}
	p := &mapProvider{events: r.events}
	b.Run(name, func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ResolveState(r.v, sets, p); err != nil {
				b.Fatal(err)
			}
		}
		if p.most > 1000 {
			b.Fatalf("%d events in a call", p.most)
		}
	})
}
