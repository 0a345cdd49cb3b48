package roomserver

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// graph is a plain model of a room: every state is a map of its own, made anew
// from the states after the previous events. What the room server keeps as
// references, forks and changes has to agree with it.
type graph struct {
	t           testing.TB
	version     gomatrixserverlib.RoomVersion
	room        string
	events      map[string]*node
	order       []string // of arrival
	extremities []string
	current     map[gomatrixserverlib.StateKey]string
	n           int
	sign        bool
}

type node struct {
	event         *gomatrixserverlib.Event
	before, after map[gomatrixserverlib.StateKey]string
	status        api.Status
}

// Events implements gomatrixserverlib.StateProvider.
func (g *graph) Events(ids []string) (map[string]*gomatrixserverlib.Event, error) {
	out := map[string]*gomatrixserverlib.Event{}
	for _, id := range ids {
		if n := g.events[id]; n != nil {
			out[id] = n.event
		}
	}
	return out, nil
}

// Rejected implements gomatrixserverlib.RejectionKnower.
func (g *graph) Rejected(id string) bool { return g.events[id].status == api.StatusRejected }

func (g *graph) view(state map[gomatrixserverlib.StateKey]string) gomatrixserverlib.StateEvents {
	out := gomatrixserverlib.StateEvents{}
	for key, id := range state {
		out[key] = g.events[id].event
	}
	return out
}

func (g *graph) resolve(ids []string) map[gomatrixserverlib.StateKey]string {
	var sets []map[gomatrixserverlib.StateKey]string
	for _, id := range ids {
		sets = append(sets, g.events[id].after)
	}
	out, err := gomatrixserverlib.ResolveState(g.version, sets, g)
	if err != nil {
		g.t.Fatal(err)
	}
	return out
}

// add takes an event as the specification says.
func (g *graph) add(e *gomatrixserverlib.Event) *node {
	n := &node{event: e, status: api.StatusAccepted, before: g.resolve(e.PrevEventIDs())}
	g.events[e.EventID()] = n
	var auth []*gomatrixserverlib.Event
	for _, id := range e.AuthEventIDs() {
		auth = append(auth, g.events[id].event)
	}
	err := gomatrixserverlib.CheckAuthEvents(e, auth, g.Rejected)
	if err == nil {
		for _, n := range g.events {
			if n.event.Type() == "m.room.create" {
				auth = append(auth, n.event)
			}
		}
		err = gomatrixserverlib.Authorise(e, gomatrixserverlib.NewStateEvents(auth...))
	}
	if err == nil {
		err = gomatrixserverlib.Authorise(e, g.view(n.before))
	}
	n.after = n.before
	if err != nil {
		n.status = api.StatusRejected
		return n
	}
	if e.IsState() {
		n.after = maps.Clone(n.before)
		n.after[e.Key()] = e.EventID()
	}
	if gomatrixserverlib.Authorise(e, g.view(g.current)) != nil {
		n.status = api.StatusSoftFailed
		return n
	}
	g.extremities = append(without(g.extremities, e.PrevEventIDs()), e.EventID())
	g.current = g.resolve(g.extremities)
	return n
}

// take adds an event that is ours, as the room server made it.
func (g *graph) take(e *gomatrixserverlib.Event) {
	if n := g.add(e); n.status != api.StatusAccepted && len(g.order) > 0 {
		g.t.Fatalf("an event of ours is %s", n.status)
	}
	g.order = append(g.order, e.EventID())
}

// builder makes an event of another server after the given ones.
func (g *graph) build(prevs []string, sender, typ string, stateKey *string, content string) *gomatrixserverlib.Event {
	g.n++
	b := gomatrixserverlib.EventBuilder{RoomID: g.room, Sender: sender, Type: typ, StateKey: stateKey, Content: jsontext.Value(content),
		OriginServerTS: int64(1000 + g.n%7), PrevEvents: prevs, EventID: fmt.Sprintf("$e%d:remote", g.n)}
	if !g.version.Rules().GivenEventIDs() {
		b.EventID = ""
	}
	state := g.resolve(prevs)
	keys, err := gomatrixserverlib.AuthKeys(g.version, typ, sender, stateKey, b.Content)
	if err != nil {
		g.t.Fatal(err)
	}
	for _, key := range keys {
		if id := state[key]; id != "" {
			b.AuthEvents = append(b.AuthEvents, id)
		}
	}
	hashes := func(ids []string) (out [][sha256.Size]byte) {
		for _, id := range ids {
			b.Depth = max(b.Depth, g.events[id].event.Depth()+1)
			out = append(out, g.events[id].event.ReferenceHash())
		}
		return out
	}
	b.PrevHashes, b.AuthHashes = hashes(prevs), hashes(b.AuthEvents)
	e, err := b.Build(g.version)
	if err == nil && g.sign {
		e, err = e.Sign(e.SenderServer(), remoteKey)
		if err == nil && g.version.Rules().GivenEventIDs() && e.SenderServer() != "remote" {
			e, err = e.Sign("remote", remoteKey) // the event ID's server
		}
	}
	if err != nil {
		g.t.Fatal(err)
	}
	return e
}

const carol, dave, erin = "@carol:remote", "@dave:remote", "@erin:third"

// random makes an event of another server somewhere in the recent graph.
func (g *graph) random(r *rand.Rand) *gomatrixserverlib.Event {
	recent := g.order[max(0, len(g.order)-10):]
	var prevs []string
	for _, i := range r.Perm(len(recent))[:1+r.IntN(min(3, len(recent)))] {
		prevs = append(prevs, recent[i])
	}
	users := []string{carol, dave, erin}
	sender, other := append(users, carol)[r.IntN(4)], append(users, bob)[r.IntN(4)]
	empty := ""
	switch r.IntN(10) {
	case 0:
		return g.build(prevs, sender, "m.room.topic", &empty, fmt.Sprintf(`{"topic":"%d"}`, g.n))
	case 1:
		return g.build(prevs, sender, "m.room.power_levels", &empty, fmt.Sprintf(`{"users":{%s%q:90,%q:%d},"state_default":%d}`, creator(g.version), carol, dave, r.IntN(3)*30, r.IntN(2)*50))
	case 2:
		return g.build(prevs, sender, "m.room.member", &other, `{"membership":"ban"}`)
	case 3:
		return g.build(prevs, sender, "m.room.member", &other, `{"membership":"leave"}`)
	case 4, 5:
		return g.build(prevs, sender, "m.room.member", &sender, `{"membership":"join"}`)
	case 6:
		return g.build(prevs, sender, "m.room.join_rules", &empty, []string{`{"join_rule":"public"}`, `{"join_rule":"invite"}`}[r.IntN(2)])
	case 7:
		return g.build(prevs, sender, "m.room.history_visibility", &empty, `{"history_visibility":"joined"}`)
	}
	return g.build(prevs, sender, "m.room.message", nil, fmt.Sprintf(`{"body":"%d"}`, g.n))
}

// world is a room server's room and its model.
type world struct {
	*rig
	g *graph
}

func newWorld(t testing.TB, version gomatrixserverlib.RoomVersion) *world {
	return newWorldOf(newRig(t), version)
}

func newWorldOf(rig *rig, version gomatrixserverlib.RoomVersion) *world {
	t := rig.TB
	w := &world{rig, &graph{t: t, version: version, events: map[string]*node{}}}
	w.g.room = w.room(version)
	state, err := w.s.queryState(t.Context(), &api.StateRequest{RoomID: w.g.room})
	if err != nil {
		t.Fatal(err)
	}
	for _, typ := range []string{"m.room.create", "m.room.member", "m.room.join_rules"} {
		for _, e := range state.Events {
			if e.Type() == typ {
				w.g.take(e.Event)
			}
		}
	}
	return w
}

// logged sends events of another server in one record and checks the verdicts.
func (w *world) logged(events ...*gomatrixserverlib.Event) *api.Verdict {
	w.Helper()
	record := &api.InputRecord{RoomID: w.g.room, Origin: "remote"}
	var lines [][]byte
	for _, e := range events {
		record.Events = append(record.Events, api.InputEvent{EventID: e.EventID()})
		lines = append(lines, e.JSON())
	}
	return w.submit(record, lines...)
}

func (w *world) receive(events ...*gomatrixserverlib.Event) {
	w.Helper()
	v := w.logged(events...)
	if v.Status != api.StatusAccepted || len(v.Events) != len(events) {
		w.Fatalf("%+v", v)
	}
	for i, e := range events {
		if want := w.g.events[e.EventID()].status; v.Events[i].Status != want {
			w.Fatalf("event %d, %s of %s: %+v, want %s", i, e.Type(), e.Sender(), v.Events[i], want)
		}
		w.g.order = append(w.g.order, e.EventID())
	}
}

// own sends an event of ours, which may be refused.
func (w *world) own(e api.InputEvent) {
	w.Helper()
	v := w.post(w.g.room, e)
	if v.Status == api.StatusRefused {
		return
	}
	found, err := w.s.queryEvents(w.Context(), &api.EventsRequest{EventIDs: v.EventIDs})
	if err != nil || len(found.Events) != 1 {
		w.Fatal(v, err)
	}
	w.g.take(found.Events[0].Event)
}

func (w *world) compare() {
	w.Helper()
	check := func(what string, want map[gomatrixserverlib.StateKey]string, req api.StateRequest) {
		w.Helper()
		req.RoomID = w.g.room
		got, err := w.s.queryState(w.Context(), &req)
		if err != nil {
			w.Fatal(what, err)
		}
		state := map[gomatrixserverlib.StateKey]string{}
		for _, e := range got.Events {
			state[e.Key()] = e.EventID()
		}
		if d := diffStates(want, state); len(d) > 0 {
			w.Fatalf("%s: %+v", what, d)
		}
	}
	check("current state", w.g.current, api.StateRequest{})
	for i, id := range w.g.order {
		n := w.g.events[id]
		what := fmt.Sprintf("event %d, %s, %s", i, n.event.Type(), n.status)
		if n.event.Type() != "m.room.create" {
			check("before "+what, n.before, api.StateRequest{BeforeEvent: id})
		}
		check("after "+what, n.after, api.StateRequest{AfterEvent: id})
	}
	room, err := w.s.queryRoom(w.Context(), &api.RoomRequest{RoomID: w.g.room})
	if err != nil {
		w.Fatal(err)
	}
	slices.Sort(room.ForwardExtremities)
	want := slices.Sorted(slices.Values(w.g.extremities))
	joined := 0
	for key, id := range w.g.current {
		if key.Type == "m.room.member" && w.g.events[id].event.Membership() == "join" {
			joined++
		}
	}
	if !slices.Equal(room.ForwardExtremities, want) || room.JoinedCount != joined {
		w.Fatalf("room %+v, want %v and %d joined", room, want, joined)
	}
}

// TestGraphs: whatever the graph of events, the state at each of them, the
// current state, forward extremities and verdicts are the model's; and the log
// gives the same tables again. The same holds if the room is set aside whenever
// there is anything to resolve.
func TestGraphs(t *testing.T) { sqldbtest.Each(t, testGraphsOfVersions) }

func testGraphsOfVersions(t *testing.T) {
	for _, version := range []gomatrixserverlib.RoomVersion{"1", "2", "6", "10", "12"} {
		for name, l := range map[string]limits{"": {}, " aside": {effort: 2, records: 100, bytes: 1 << 20}} {
			t.Run(string(version)+name, func(t *testing.T) {
				t.Parallel()
				testGraphs(t, newWorldOf(newRigWithin(t, testServer, l), version))
			})
		}
	}
}

func testGraphs(t *testing.T, w *world) {
	version := w.g.version
	r := rand.New(rand.NewPCG(7, uint64(len(version))))
	w.own(proto(alice, "m.room.power_levels", key(""), fmt.Sprintf(`{"users":{%s%q:90}}`, creator(version), carol)))
	for _, user := range []string{carol, dave, erin} {
		e := w.g.build(w.g.extremities, user, "m.room.member", &user, `{"membership":"join"}`)
		w.g.add(e)
		w.receive(e)
	}
	statuses := map[api.Status]int{}
	for range 60 {
		if r.IntN(4) == 0 {
			w.own([]api.InputEvent{message(alice, "x"), member(bob, bob, "join"), proto(alice, "m.room.topic", key(""), `{"topic":"ours"}`),
				member(alice, carol, "invite")}[r.IntN(4)])
			continue
		}
		var events []*gomatrixserverlib.Event
		for range 1 + r.IntN(3) {
			e := w.g.random(r)
			n := w.g.add(e)
			statuses[n.status]++
			events = append(events, e)
		}
		w.receive(events...)
		if r.IntN(10) == 0 {
			w.end()
			w.start("store.db")
		}
	}
	w.compare()
	if len(statuses) != 3 {
		t.Errorf("only %v were tried", statuses)
	}
	w.settle()
	if aside := w.resumes() > 0; aside != (w.limits.effort > 0) {
		t.Fatal("set aside:", aside)
	}
	tables, outputs := w.tables(), w.outputs()
	w.end()
	w.start("empty.db")
	w.settle()
	for table, rows := range w.tables() {
		if len(rows) > 0 || len(tables[table]) > 0 {
			diff(t, table, tables[table], rows)
		}
	}
	diff(t, "outputs", outputs, w.outputs())
	w.compare()
}

// creator is the creator's part of the users of power levels.
func creator(version gomatrixserverlib.RoomVersion) string {
	if version.Rules().CreatorsPrivileged {
		return "" // may not be listed
	}
	return fmt.Sprintf("%q:100,", alice)
}

// TestMissing: an event is taken once what it refers to is there.
func TestMissing(t *testing.T) { sqldbtest.Each(t, testMissing) }

func testMissing(t *testing.T) {
	w := newWorld(t, "10")
	head := w.g.order[len(w.g.order)-1:]
	join := w.g.build(head, carol, "m.room.member", key(carol), `{"membership":"join"}`)
	w.g.add(join)
	first := w.g.build([]string{join.EventID()}, carol, "m.room.message", nil, `{}`)
	w.g.add(first)
	second := w.g.build([]string{first.EventID()}, carol, "m.room.message", nil, `{}`)
	w.g.add(second)
	for range 2 {
		v := w.logged(second)
		if v.Status != api.StatusMissing || !slices.Contains(v.Missing, first.EventID()) || !slices.Contains(v.Missing, join.EventID()) {
			t.Fatalf("%+v", v)
		}
	}
	if v := w.logged(first, join); v.Status != api.StatusMissing || v.Events[1].Status != api.StatusAccepted {
		t.Fatalf("what can be taken is not: %+v", v)
	}
	w.g.order = append(w.g.order, join.EventID())
	w.receive(first, second)
	if v := w.logged(first, join); v.Status != api.StatusAccepted {
		t.Fatalf("again: %+v", v)
	}
	w.compare()
	unknown := w.submit(&api.InputRecord{RoomID: "!unknown:remote", Origin: "remote", Events: []api.InputEvent{{EventID: first.EventID()}}}, first.JSON())
	if unknown.Status != api.StatusRefused || unknown.Code != "M_NOT_FOUND" {
		t.Fatalf("an unknown room: %+v", unknown)
	}
}
