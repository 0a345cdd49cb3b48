package roomserver

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// crowd is a room with many members, and what events of carol's need in it.
type crowd struct {
	*rig
	room    string
	version gomatrixserverlib.RoomVersion
	auth    []string
	n       int
}

func newCrowd(r *rig, version gomatrixserverlib.RoomVersion, members int) *crowd {
	c := &crowd{rig: r, room: r.room(version), version: version}
	levels := fmt.Sprintf(`{"users":{%s%q:90}}`, creator(version), carol)
	c.post(c.room, proto(alice, "m.room.power_levels", key(""), levels), member(carol, carol, "join"))
	const together = 200
	for from := 0; from < members; from += together {
		var events []api.InputEvent
		for i := from; i < min(from+together, members); i++ {
			user := fmt.Sprintf("@member%d:test", i)
			events = append(events, member(user, user, "join"))
		}
		if v := c.post(c.room, events...); v.Status != api.StatusAccepted {
			c.Fatalf("%+v", v)
		}
	}
	keys := []gomatrixserverlib.StateKey{{Type: "m.room.power_levels"}, memberKey(carol)}
	if !version.Rules().RoomIDFromCreate {
		keys = append(keys, gomatrixserverlib.StateKey{Type: "m.room.create"})
	}
	state, err := c.s.queryState(c.Context(), &api.StateRequest{RoomID: c.room, Keys: keys, IDsOnly: true})
	if err != nil || len(state.IDs) != len(keys) {
		c.Fatal(state, err)
	}
	for _, e := range state.IDs {
		c.auth = append(c.auth, e.EventID)
	}
	return c
}

// event makes one of carol's after another.
func (c *crowd) event(prev []string, depth int64, typ, stateKey, content string) *gomatrixserverlib.Event {
	c.Helper()
	c.n++
	b := gomatrixserverlib.EventBuilder{RoomID: c.room, Sender: carol, Type: typ, StateKey: &stateKey, Content: jsontext.Value(content),
		OriginServerTS: int64(1_000_000 + c.n), PrevEvents: prev, AuthEvents: slices.Clone(c.auth), Depth: depth}
	if typ == "m.room.member" {
		state, err := c.s.queryState(c.Context(), &api.StateRequest{RoomID: c.room, Keys: []gomatrixserverlib.StateKey{memberKey(stateKey)}, IDsOnly: true})
		if err != nil || len(state.IDs) != 1 {
			c.Fatal(state, err)
		}
		b.AuthEvents = append(b.AuthEvents, state.IDs[0].EventID)
	}
	e, err := b.Build(c.version)
	if err != nil {
		c.Fatal(err)
	}
	return e
}

func (c *crowd) log(events ...*gomatrixserverlib.Event) *api.Verdict {
	c.Helper()
	record := &api.InputRecord{RoomID: c.room, Origin: "remote"}
	var lines [][]byte
	for _, e := range events {
		record.Events = append(record.Events, api.InputEvent{EventID: e.EventID()})
		lines = append(lines, e.JSON())
	}
	v := c.accepted(record, lines...)
	for _, e := range v.Events {
		if e.Status != api.StatusAccepted {
			c.Fatalf("%+v", v)
		}
	}
	return v
}

// branch grows a branch from the room's end: a name, or kicks of members (many
// in one record). It returns a topic, from the same end, that has yet to come.
func (c *crowd) branch(kicks, from int) *gomatrixserverlib.Event {
	c.Helper()
	info, err := c.s.queryRoom(c.Context(), &api.RoomRequest{RoomID: c.room})
	if err != nil || len(info.ForwardExtremities) != 1 {
		c.Fatal(info, err)
	}
	head, depth := info.ForwardExtremities, info.Depth
	branch := c.event(head, depth+1, "m.room.topic", "", fmt.Sprintf(`{"topic":"%d"}`, c.n))
	var other []*gomatrixserverlib.Event
	prev := head
	for i := range max(kicks, 1) {
		depth++
		e := c.event(prev, depth, "m.room.name", "", fmt.Sprintf(`{"name":"%d"}`, c.n))
		if kicks > 0 {
			e = c.event(prev, depth, "m.room.member", fmt.Sprintf("@member%d:test", from+i), `{"membership":"leave"}`)
		}
		other, prev = append(other, e), []string{e.EventID()}
	}
	for chunk := range slices.Chunk(other, 200) {
		c.log(chunk...)
	}
	return branch
}

// BenchmarkFork resolves forks of a room with many members: of two events, and
// of one that kicked many.
func BenchmarkFork(b *testing.B) {
	const members = 20_000
	for _, version := range []gomatrixserverlib.RoomVersion{"10", "12"} {
		for _, kicks := range []int{0, 2000} {
			b.Run(fmt.Sprintf("version=%s/kicks=%d", version, kicks), func(b *testing.B) {
				c := newCrowd(newRigWithin(b, testServer, limits{effort: 1 << 40, records: 1000, bytes: 8 << 20}), version, members)
				b.ReportAllocs()
				b.ResetTimer()
				var took time.Duration
				for n := range b.N {
					branch := c.branch(kicks, n*kicks)
					began := time.Now()
					c.log(branch)
					took += time.Since(began)
					c.post(c.room, message(alice, "joins the branches"))
				}
				b.ReportMetric(took.Seconds()/float64(b.N), "s/fork")
			})
		}
	}
}
