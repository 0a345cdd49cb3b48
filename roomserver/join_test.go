package roomserver

import (
	"fmt"
	"slices"
	"testing"

	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// guest is another server, whose users join the world's room: what its writers
// would fetch over federation, the test asks the world for.
type guest struct {
	*rig
	w    *world
	room string
}

// outlierRecords makes records of events for KindOutlier, a few events in each.
func outlierRecords(room, version, set string, events []*api.StoredEvent, state []string) (records []*api.InputRecord, lines [][][]byte) {
	slices.SortFunc(events, func(a, b *api.StoredEvent) int { return int(a.Depth() - b.Depth()) })
	for chunk := range slices.Chunk(events, 5) {
		record := &api.InputRecord{RoomID: room, RoomVersion: version, Kind: api.KindOutlier, Origin: "test", StateSet: set}
		var l [][]byte
		for _, e := range chunk {
			record.Events = append(record.Events, api.InputEvent{EventID: e.EventID()})
			if l = append(l, e.JSON()); slices.Contains(state, e.EventID()) {
				record.State = append(record.State, e.EventID())
			}
		}
		records, lines = append(records, record), append(lines, l)
	}
	return records, lines
}

// stateBefore returns the state before an event, and it with its auth chain.
func (g *guest) stateBefore(id string) (ids []string, all []*api.StoredEvent) {
	g.Helper()
	state, err := g.w.s.queryState(g.Context(), &api.StateRequest{RoomID: g.room, BeforeEvent: id})
	if err != nil {
		g.Fatal(err)
	}
	for _, e := range state.Events {
		ids = append(ids, e.EventID())
	}
	chain, err := g.w.s.queryAuthChain(g.Context(), &api.AuthChainRequest{RoomID: g.room, EventIDs: ids})
	if err != nil {
		g.Fatal(err)
	}
	return ids, append(chain.Events, state.Events...)
}

// send sends a state as outliers and returns the set's name.
func (g *guest) sendState(id string, but int) string {
	g.Helper()
	ids, events := g.stateBefore(id)
	set := api.HashStateSet(ids)
	records, lines := outlierRecords(g.room, string(g.w.g.version), set, events, ids)
	for i, r := range records {
		if i != but {
			g.accepted(r, lines[i]...)
		}
	}
	return set
}

func (g *guest) history() (ids []string, gap []string) {
	g.Helper()
	out, err := g.s.queryHistory(g.Context(), &api.HistoryRequest{RoomID: g.room, Backwards: true, Limit: 1000})
	if err != nil || out.More {
		g.Fatal(out, err)
	}
	for _, e := range out.Events {
		ids = append(ids, e.EventID())
	}
	return ids, out.Gap
}

func (g *guest) join(e *gomatrixserverlib.Event, set string) *api.Verdict {
	g.Helper()
	return g.submit(&api.InputRecord{RoomID: g.room, RoomVersion: string(g.w.g.version), Kind: api.KindJoin, StateSet: set,
		Events: []api.InputEvent{{EventID: e.EventID()}}}, e.JSON())
}

// member makes a membership event of the guest's at the world's end, which the
// world takes.
func (g *guest) member(user, membership string) *gomatrixserverlib.Event {
	g.Helper()
	e := g.w.g.build(g.w.g.extremities, user, "m.room.member", &user, fmt.Sprintf(`{"membership":%q}`, membership))
	g.w.g.add(e)
	g.w.receive(e)
	return e
}

// sameState checks that an event has the state before and after it that the
// world says.
func (g *guest) sameState(id string) {
	g.Helper()
	for _, req := range []api.StateRequest{{BeforeEvent: id}, {AfterEvent: id}} {
		req.RoomID, req.IDsOnly = g.room, true
		want, err := g.w.s.queryState(g.Context(), &req)
		if err != nil {
			g.Fatal(err)
		}
		got, err := g.s.queryState(g.Context(), &req)
		if err != nil {
			g.Fatal(err)
		}
		index := func(r *api.StateResponse) state {
			out := state{}
			for _, e := range r.IDs {
				out[e.StateKey] = e.EventID
			}
			return out
		}
		if d := diffStates(index(want), index(got)); len(d) > 0 {
			g.Fatalf("state of %+v: %+v", req, d)
		}
	}
}

// TestJoinAndBackfill: also where the guest's room is set aside for each of them.
func TestJoinAndBackfill(t *testing.T) { sqldbtest.Each(t, testJoinsAndBackfills) }

func testJoinsAndBackfills(t *testing.T) {
	for _, version := range []gomatrixserverlib.RoomVersion{"6", "12"} {
		for name, l := range map[string]limits{"": {}, " aside": {effort: 2, records: 100, bytes: 1 << 20}} {
			t.Run(string(version)+name, func(t *testing.T) { testJoinAndBackfill(t, version, l) })
		}
	}
}

func testJoinAndBackfill(t *testing.T, version gomatrixserverlib.RoomVersion, l limits) {
	w := newWorld(t, version)
	for i := range 12 {
		w.own(proto(alice, "m.room.topic", key(""), fmt.Sprintf(`{"topic":"%d"}`, i)))
		w.own(message(alice, fmt.Sprint(i)))
		w.own(member(alice, fmt.Sprintf("@invited%d:test", i), "invite"))
	}
	g := &guest{newRigWithin(t, "remote", l), w, w.g.room}
	join := g.member(carol, "join")

	set := g.sendState(join.EventID(), 1)
	if v := g.join(join, set); v.Status != api.StatusMissing {
		t.Fatalf("a join whose state is not there: %+v", v)
	}
	if _, err := g.s.queryRoom(t.Context(), &api.RoomRequest{RoomID: g.room}); err == nil {
		t.Fatal("half a join shows")
	}
	g.end()
	g.start("store.db")
	g.sendState(join.EventID(), -1)
	if v := g.join(join, set); v.Status != api.StatusAccepted {
		t.Fatalf("%+v", v)
	}
	g.sameState(join.EventID())
	ids, gap := g.history()
	if !slices.Equal(ids, []string{join.EventID()}) || !slices.Equal(gap, join.PrevEventIDs()) {
		t.Fatalf("after the join: %v, gap %v", ids, gap)
	}

	// New events come, and old ones.
	w.own(message(alice, "welcome"))
	news := w.g.events[w.g.order[len(w.g.order)-1]].event
	g.accepted(&api.InputRecord{RoomID: g.room, Origin: "test", Events: []api.InputEvent{{EventID: news.EventID()}}}, news.JSON())
	g.backfill()
	for _, id := range w.g.order {
		if id != w.g.order[0] {
			g.sameState(id)
		}
	}
	room, err := g.s.queryRoom(t.Context(), &api.RoomRequest{RoomID: g.room})
	if err != nil || !room.LocalJoined || room.JoinedCount != 2 || room.InvitedCount != 12 {
		t.Fatalf("%+v, %v", room, err)
	}
	g.rejoin()
	if aside := g.resumes() > 0; aside != (l.effort > 0) {
		t.Fatal("set aside:", aside)
	}
	g.replayed()
}

// backfill fills the gap until the whole history is there.
func (g *guest) backfill() {
	g.Helper()
	order := slices.Clone(g.w.g.order)
	slices.Reverse(order)
	for {
		have, gap := g.history()
		if len(gap) == 0 {
			if !slices.Equal(have, order) {
				g.Fatalf("history %v, want %v", have, order)
			}
			return
		}
		from := slices.Index(order, gap[0])
		record := &api.InputRecord{RoomID: g.room, Kind: api.KindBackfill, Origin: "test"}
		var lines [][]byte
		for _, id := range order[from:min(from+8, len(order))] {
			record.Events = append(record.Events, api.InputEvent{EventID: id})
			lines = append(lines, g.w.g.events[id].event.JSON())
		}
		oldest := record.Events[len(record.Events)-1].EventID
		if g.w.g.events[oldest].event.Type() != "m.room.create" {
			record.StateSet = g.sendState(oldest, -1)
		} else {
			chain, err := g.w.s.queryAuthChain(g.Context(), &api.AuthChainRequest{RoomID: g.room, EventIDs: order[from:]})
			if err != nil {
				g.Fatal(err)
			}
			records, lines := outlierRecords(g.room, string(g.w.g.version), "", chain.Events, nil)
			for i := range records {
				g.accepted(records[i], lines[i]...)
			}
		}
		g.accepted(record, lines...)
	}
}

// rejoin leaves, lets the room go on, joins anew, and then has the room purged
// and joins once more.
func (g *guest) rejoin() {
	g.Helper()
	leave := g.member(carol, "leave")
	g.accepted(&api.InputRecord{RoomID: g.room, Events: []api.InputEvent{{EventID: leave.EventID()}}}, leave.JSON())
	g.w.own(proto(alice, "m.room.topic", key(""), `{"topic":"unseen"}`))
	join := g.member(carol, "join")
	if v := g.join(join, g.sendState(join.EventID(), -1)); v.Status != api.StatusAccepted {
		g.Fatalf("%+v", v)
	}
	g.sameState(join.EventID())
	if _, gap := g.history(); len(gap) != 1 {
		g.Fatalf("gap %v", gap)
	}
	g.accepted(&api.InputRecord{RoomID: g.room, Kind: api.KindPurge})
	if _, err := g.s.queryRoom(g.Context(), &api.RoomRequest{RoomID: g.room}); err == nil {
		g.Fatal("a purged room is there")
	}
	if v := g.submit(&api.InputRecord{RoomID: g.room, Kind: api.KindPurge}); v.Status != api.StatusRefused || v.HTTPStatus != 404 {
		g.Fatalf("a second purge: %+v", v)
	}
	if v := g.join(join, g.sendState(join.EventID(), -1)); v.Status != api.StatusAccepted {
		g.Fatalf("%+v", v)
	}
	g.sameState(join.EventID())
}

// replayed checks that the log gives the same tables again.
func (r *rig) replayed() {
	r.Helper()
	r.settle()
	tables := r.tables()
	r.end()
	r.start("replayed.db")
	r.settle()
	for table, rows := range r.tables() {
		if len(rows) > 0 || len(tables[table]) > 0 {
			diff(r.TB, table, tables[table], rows)
		}
	}
}

func TestOutOfRoom(t *testing.T) { sqldbtest.Each(t, testOutOfRoom) }

func testOutOfRoom(t *testing.T) {
	w := newWorld(t, "12")
	g := &guest{newRigOf(t, "remote"), w, w.g.room}
	invite := w.g.build(w.g.extremities, alice, "m.room.member", key(carol), `{"membership":"invite"}`)
	record := func(e *gomatrixserverlib.Event) *api.InputRecord {
		return &api.InputRecord{RoomID: g.room, RoomVersion: "12", Kind: api.KindOutOfRoom, Origin: "test",
			StrippedState: []byte(`[{"type":"m.room.name"}]`), Events: []api.InputEvent{{EventID: e.EventID()}}}
	}
	v := g.accepted(record(invite), invite.JSON())
	outputs := g.outputs()
	if len(outputs) != 1 || v.Position.Seq != 1 {
		t.Fatalf("%v, %+v", outputs, v)
	}
	foreign := w.g.build(w.g.extremities, alice, "m.room.member", key(erin), `{"membership":"invite"}`)
	if v := g.submit(record(foreign), foreign.JSON()); v.Status != api.StatusRefused {
		t.Fatalf("an invite of somebody else's user: %+v", v)
	}
	listed := func() []api.OutOfRoomMembership {
		res, err := g.s.queryOutOfRoom(t.Context(), &api.OutOfRoomRequest{Partition: v.Position.Partition, Limit: 10})
		if err != nil || res.More {
			t.Fatal(res, err)
		}
		return res.Memberships
	}
	if l := listed(); len(l) != 1 || l[0].UserID != carol || l[0].Seq != 1 || l[0].RoomID != g.room || string(l[0].JSON) != string(invite.JSON()) ||
		string(l[0].StrippedState) != `[{"type":"m.room.name"}]` {
		t.Fatalf("an invite is listed as %+v", l)
	}
	end := w.g.build(w.g.extremities, alice, "m.room.member", key(carol), `{"membership":"leave"}`)
	g.accepted(record(end), end.JSON())
	outputs = g.outputs()
	if l := listed(); len(l) != 1 || l[0].Seq != 2 || l[0].EventID != end.EventID() || len(l[0].StrippedState) > 0 {
		t.Fatalf("the end of an invite is listed as %+v", l)
	}
	g.replayed()
	diff(t, "outputs", outputs, g.outputs())
}
