package roomserver

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/common/testwait"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// smallLimits set a room of a few dozen members aside when two states are
// resolved.
var smallLimits = limits{effort: 30, records: 4, bytes: 20_000}

// gate holds up what is done ahead, until it is opened.
type gate struct {
	reached chan string   // the rooms that came
	open    chan struct{} // closed: nothing is held up any more
}

func newGate() *gate { return &gate{reached: make(chan string, 100), open: make(chan struct{})} }

func (g *gate) wait(ctx context.Context, roomID string) {
	g.reached <- roomID
	select {
	case <-g.open:
	case <-ctx.Done():
	}
}

// forked is a world whose room has many members, and two events that fork it:
// the first is there, the second is what takes long.
type forked struct {
	*world
	second *gomatrixserverlib.Event
}

// newForked makes the room on a rig that runs, with members of another server.
func newForked(r *rig, version gomatrixserverlib.RoomVersion, members int) *forked {
	w := newWorldOf(r, version)
	w.own(proto(alice, "m.room.power_levels", key(""), fmt.Sprintf(`{"users":{%s%q:90,%q:90},"state_default":50}`, creator(version), carol, dave)))
	for i := range members {
		user := fmt.Sprintf("@member%d:remote", i)
		if i < 2 {
			user = []string{carol, dave}[i]
		}
		e := w.g.build(w.g.extremities, user, "m.room.member", &user, `{"membership":"join"}`)
		w.g.add(e)
		w.receive(e)
	}
	head := slices.Clone(w.g.extremities)
	first := w.g.build(head, carol, "m.room.topic", key(""), `{"topic":"carol's"}`)
	w.g.add(first)
	w.receive(first)
	return &forked{w, w.g.build(head, dave, "m.room.join_rules", key(""), `{"join_rule":"invite"}`)}
}

// newGated makes the room on a rig of its own, which soon sets aside what takes
// long, for as long as the gate is closed.
func newGated(t *testing.T, version gomatrixserverlib.RoomVersion, members int) (*forked, *gate) {
	t.Helper()
	g := newGate()
	r := newRigWithin(t, testServer, smallLimits)
	r.end()
	r.computing = g.wait
	r.start("store.db")
	return newForked(r, version, members), g
}

// fork logs the event that takes long, and waits for nothing.
func (f *forked) fork() {
	f.Helper()
	f.append(&api.InputRecord{RequestID: "fork", RoomID: f.g.room, Origin: "remote", Events: []api.InputEvent{{EventID: f.second.EventID()}}}, f.second.JSON())
}

// neighbour makes another room in the partition.
func (f *forked) neighbour() string {
	f.Helper()
	for {
		if room := f.room("12"); f.s.partitionOf(room) == f.s.partitionOf(f.g.room) {
			return room
		}
	}
}

// taken notes an event of ours that was accepted in the model.
func (f *forked) taken(v *api.Verdict) {
	f.Helper()
	if v.Status != api.StatusAccepted || len(v.EventIDs) != 1 {
		f.Fatalf("%+v", v)
	}
	found, err := f.s.queryEvents(f.Context(), &api.EventsRequest{EventIDs: v.EventIDs})
	if err != nil || len(found.Events) != 1 {
		f.Fatal(found, err)
	}
	f.g.take(found.Events[0].Event)
}

// resumes counts the records that resumed a room.
func (r *rig) resumes() (n int) {
	r.Helper()
	for p := range testPartitions {
		start, end, err := r.log.Bounds(r.Context(), api.TopicInput, p)
		if err != nil {
			r.Fatal(err)
		}
		for next := start; next < end; {
			records, err := r.log.Read(r.Context(), api.TopicInput, p, next, 1<<20)
			if err != nil {
				r.Fatal(err)
			}
			for _, rec := range records {
				if next = rec.Offset + 1; strings.Contains(string(rec.Value), `"kind":"resume"`) {
					n++
				}
			}
		}
	}
	return n
}

// waits reads what the table holds: how many records of how many rooms.
func (r *rig) waits() (records, rooms int) {
	r.Helper()
	if err := r.db.Read(r.Context(), func(tx *sqldb.Tx) error {
		return tx.QueryRow(r.Context(), "SELECT count(*), count(DISTINCT room_id) FROM set_aside").Scan(&records, &rooms)
	}); err != nil {
		r.Fatal(err)
	}
	return records, rooms
}

// TestSetAside: while a room is worked on, others of its partition go on, it is
// seen as it was, and what is written to it waits, within a bound; then all of
// it takes effect in order. The log gives the same again.
func TestSetAside(t *testing.T) { sqldbtest.Each(t, testSetAside) }

func testSetAside(t *testing.T) {
	for _, version := range []gomatrixserverlib.RoomVersion{"10", "12"} {
		t.Run(string(version), func(t *testing.T) {
			f, g := newGated(t, version, 60)
			other := f.neighbour()
			f.fork()
			if room := <-g.reached; room != f.g.room {
				t.Fatal("another room was set aside:", room)
			}
			for range 3 {
				if v := f.post(other, message(alice, "hello")); v.Status != api.StatusAccepted {
					t.Fatalf("the partition does not go on: %+v", v)
				}
			}
			f.meanwhile()
			close(g.open)
			f.g.add(f.second)
			f.g.order = append(f.g.order, f.second.EventID())
			if v := f.verdict("fork"); v.Status != api.StatusAccepted || v.Events[0].Status != f.g.events[f.second.EventID()].status {
				t.Fatalf("%+v", v)
			}
			for i := range smallLimits.records - 1 {
				v := f.verdict(fmt.Sprint("waits", i))
				f.taken(v)
				again, err := f.s.queryVerdict(t.Context(), &api.VerdictRequest{RoomID: f.g.room, RequestID: v.RequestID})
				if err != nil || again.Verdict == nil || again.Verdict.EventIDs[0] != v.EventIDs[0] {
					t.Fatalf("asked again: %+v, %v", again, err)
				}
			}
			f.heardElsewhere("waits0")
			f.compare()
			if records, rooms := f.waits(); records+rooms != 0 {
				t.Fatalf("%d records of %d rooms still wait", records, rooms)
			}
			f.own(message(alice, "as usual"))
			f.sameAgain()
		})
	}
}

// elsewhere is the partition of room.answers of another writer than the rig.
const elsewhere = 3

// heardElsewhere checks that the other writer has one verdict.
func (f *forked) heardElsewhere(id string) {
	f.Helper()
	records, err := f.log.Read(f.Context(), api.TopicAnswers, elsewhere, 0, 1<<20)
	if err != nil || len(records) != 1 {
		f.Fatal(records, err)
	}
	if v, err := api.DecodeVerdict(records[0].Value); err != nil || v.RequestID != id || v.Status != api.StatusAccepted {
		f.Fatal(v, err)
	}
}

// meanwhile checks what a room that is aside answers and takes.
func (f *forked) meanwhile() {
	f.Helper()
	for i := range smallLimits.records - 1 {
		f.append(&api.InputRecord{RequestID: fmt.Sprint("waits", i), RoomID: f.g.room, Events: []api.InputEvent{message(alice, fmt.Sprint(i))}})
	}
	// A retry, by a writer that listens elsewhere.
	f.append(&api.InputRecord{RequestID: "waits0", Answer: elsewhere, RoomID: f.g.room, Events: []api.InputEvent{message(alice, "0")}})
	// One too many; its verdict says also that all before it has been consumed.
	if v := f.submit(&api.InputRecord{RoomID: f.g.room, Events: []api.InputEvent{message(alice, "more")}}); v.Status != api.StatusRefused || v.HTTPStatus != 503 {
		f.Fatalf("there is no bound: %+v", v)
	}
	if records, rooms := f.waits(); records != smallLimits.records || rooms != 1 {
		f.Fatalf("%d records of %d rooms wait", records, rooms)
	}
	for _, id := range []string{"fork", "waits0"} {
		if v, err := f.s.queryVerdict(f.Context(), &api.VerdictRequest{RoomID: f.g.room, RequestID: id}); err != nil || v.Verdict != nil {
			f.Fatalf("%s has a verdict: %+v, %v", id, v, err)
		}
	}
	f.compare() // the model has not got what waits
	if _, err := f.s.Export(f.Context(), f.g.room, new(strings.Builder)); err != nil {
		f.Fatal(err)
	}
}

// sameAgain replays the log into empty stores: with what room.output holds, and
// without it, and however what is done ahead is held up.
func (f *forked) sameAgain() {
	f.Helper()
	f.settle()
	tables, outputs, resumes := f.tables(), f.outputs(), f.resumes()
	if resumes == 0 {
		f.Fatal("no room was set aside")
	}
	same := func(what string) {
		f.Helper()
		f.settle()
		for table, rows := range f.tables() {
			if len(rows) > 0 || len(tables[table]) > 0 {
				diff(f.TB, what+": "+table, tables[table], rows)
			}
		}
		diff(f.TB, what+": outputs", headers(outputs), headers(f.outputs()))
		f.compare()
	}
	for _, f.limits.batch = range []int{0, 1, 3} {
		f.end()
		f.start(fmt.Sprintf("again%d.db", f.limits.batch))
		same(fmt.Sprint("a store that was cut back, in batches of ", f.limits.batch))
	}
	f.end()
	inputs := f.copyInputs()
	f.logPath = filepath.Join(f.dir, "other.db")
	f.open("other-store.db")
	// Before the server runs: what it logs itself comes after.
	for _, m := range inputs {
		if _, err := f.log.Append(f.Context(), m); err != nil {
			f.Fatal(err)
		}
	}
	if err := errors.Join(f.log.Close(), f.db.Close()); err != nil {
		f.Fatal(err)
	}
	f.start("other-store.db")
	same("another log")
}

// TestSetAsideCrowd: a fork in a room of thousands is set aside by the limits
// that are in force.
func TestSetAsideCrowd(t *testing.T) { sqldbtest.Each(t, testSetAsideCrowd) }

func testSetAsideCrowd(t *testing.T) {
	g := newGate()
	r := newRig(t)
	r.end()
	r.computing = g.wait
	r.start("store.db")
	const members, kicks = 6000, 1000
	c := newCrowd(r, "12", members)
	f := &forked{world: &world{rig: r, g: &graph{room: c.room}}}
	other := f.neighbour()
	branch := c.branch(kicks, 0)
	if len(g.reached) > 0 {
		t.Fatal("it was set aside before there was a fork")
	}
	c.append(&api.InputRecord{RequestID: "fork", RoomID: c.room, Origin: "remote", Events: []api.InputEvent{{EventID: branch.EventID()}}}, branch.JSON())
	<-g.reached
	if v := c.post(other, message(alice, "hello")); v.Status != api.StatusAccepted {
		t.Fatalf("%+v", v)
	}
	close(g.open)
	if v := c.verdict("fork"); v.Status != api.StatusAccepted || v.Events[0].Status != api.StatusAccepted {
		t.Fatalf("%+v", v)
	}
	info, err := c.s.queryRoom(t.Context(), &api.RoomRequest{RoomID: c.room})
	if err != nil || len(info.ForwardExtremities) != 2 || info.JoinedCount != members-kicks+2 { // alice and carol
		t.Fatalf("%+v, %v", info, err)
	}
	state, err := c.s.queryState(t.Context(), &api.StateRequest{RoomID: c.room, Keys: []gomatrixserverlib.StateKey{{Type: "m.room.topic"}}, IDsOnly: true})
	if err != nil || len(state.IDs) != 1 || state.IDs[0].EventID != branch.EventID() {
		t.Fatal(state, err)
	}
}

// TestAsideMany: many records come of which all or some take long, faster than
// they can be handled; each takes effect in its order.
func TestAsideMany(t *testing.T) { sqldbtest.Each(t, testAsideManyInLimits) }

func testAsideManyInLimits(t *testing.T) {
	for _, effort := range []int{2, 10, 20, 30} {
		t.Run(fmt.Sprint(effort), func(t *testing.T) {
			t.Parallel()
			testAsideMany(t, limits{effort: effort, records: 100, bytes: 1 << 20})
		})
	}
}

func testAsideMany(t *testing.T, l limits) {
	f := &forked{world: newWorldOf(newRigWithin(t, testServer, l), "10")}
	f.own(proto(alice, "m.room.power_levels", key(""), fmt.Sprintf(`{"users":{%q:100,%q:90}}`, alice, carol)))
	for _, user := range []string{carol, dave, erin} {
		e := f.g.build(f.g.extremities, user, "m.room.member", &user, `{"membership":"join"}`)
		f.g.add(e)
		f.receive(e)
	}
	random := rand.New(rand.NewPCG(1, 2))
	var order []string
	for i := range 60 {
		e := f.g.random(random)
		f.g.add(e)
		f.g.order = append(f.g.order, e.EventID())
		order = append(order, e.EventID())
		f.append(&api.InputRecord{RequestID: fmt.Sprint("many", i), RoomID: f.g.room, Origin: "remote", Events: []api.InputEvent{{EventID: e.EventID()}}}, e.JSON())
	}
	for i, id := range order {
		if v := f.verdict(fmt.Sprint("many", i)); v.Status != api.StatusAccepted || v.Events[0].Status != f.g.events[id].status {
			t.Fatalf("%d: %+v, want %s", i, v, f.g.events[id].status)
		}
	}
	f.compare()
	f.sameAgain()
}

// TestAsideTakeover: a room that is aside when its partition's owner goes is
// resumed by the next one.
func TestAsideTakeover(t *testing.T) { sqldbtest.Each(t, testAsideTakeover) }

func testAsideTakeover(t *testing.T) {
	r := newShared(t, smallLimits)
	g := newGate()
	r.computing = g.wait
	a, stopA := r.instance()
	testwait.Until(t, "the first has all", func() bool { return a.owned() == testPartitions })
	r.s = a
	f := newForked(r, "12", 40)
	f.fork()
	<-g.reached
	f.append(&api.InputRecord{RequestID: "waits", RoomID: f.g.room, Events: []api.InputEvent{message(alice, "hello")}})
	stopA() // nothing was resumed
	if n := r.resumes(); n != 0 {
		t.Fatalf("%d resumes", n)
	}
	r.computing = nil
	b, stopB := r.instance()
	r.s = b
	f.g.add(f.second)
	f.g.order = append(f.g.order, f.second.EventID())
	if v := r.verdict("fork"); v.Status != api.StatusAccepted {
		t.Fatalf("%+v", v)
	}
	f.taken(r.verdict("waits"))
	f.compare()
	stopB()
	r.contiguous()
}

// TestAsideResumedByLog: a room is resumed by the record in the log, also where
// nothing was done ahead; by one that names another record it is not.
func TestAsideResumedByLog(t *testing.T) { sqldbtest.Each(t, testAsideResumedByLog) }

func testAsideResumedByLog(t *testing.T) {
	f, g := newGated(t, "10", 40)
	f.fork()
	<-g.reached
	f.resume("another")
	waits := &api.InputRecord{RequestID: "waits", RoomID: f.g.room, Events: []api.InputEvent{message(alice, "hello")}}
	f.append(waits)
	f.post(f.neighbour(), message(alice, "consumed up to here"))
	if records, _ := f.waits(); records != 2 {
		t.Fatalf("%d records wait", records)
	}
	var first []byte
	if err := f.db.Read(t.Context(), func(tx *sqldb.Tx) error {
		return tx.QueryRow(t.Context(), "SELECT record FROM set_aside WHERE n = 1").Scan(&first)
	}); err != nil {
		t.Fatal(err)
	}
	f.end() // what was being done ahead is gone
	f.open("store.db")
	f.resume(api.HashRecord(first))
	f.resume(api.HashRecord(first))
	if err := errors.Join(f.log.Close(), f.db.Close()); err != nil {
		t.Fatal(err)
	}
	close(g.open)
	f.start("store.db")
	f.g.add(f.second)
	f.g.order = append(f.g.order, f.second.EventID())
	f.taken(f.submit(waits))
	f.compare()
	f.sameAgain()
}

// resume logs that the room is resumed with a record.
func (f *forked) resume(record string) {
	f.append(&api.InputRecord{RoomID: f.g.room, Kind: api.KindResume, Answer: -1, RequestID: "resume", Resumes: record})
}

// TestAsidePurged: a room can be purged while it is aside; what waits is refused.
func TestAsidePurged(t *testing.T) { sqldbtest.Each(t, testAsidePurged) }

func testAsidePurged(t *testing.T) {
	f, g := newGated(t, "10", 40)
	f.fork()
	<-g.reached
	f.append(&api.InputRecord{RequestID: "waits", RoomID: f.g.room, Events: []api.InputEvent{message(alice, "hello")}})
	f.accepted(&api.InputRecord{RoomID: f.g.room, Kind: api.KindPurge})
	for _, id := range []string{"fork", "waits"} {
		if v := f.verdict(id); v.Status != api.StatusRefused || v.HTTPStatus != 404 {
			t.Fatalf("%s: %+v", id, v)
		}
	}
	if records, rooms := f.waits(); records+rooms != 0 {
		t.Fatalf("%d records of %d rooms still wait", records, rooms)
	}
	if _, err := f.s.queryRoom(t.Context(), &api.RoomRequest{RoomID: f.g.room}); err == nil {
		t.Fatal("a purged room is there")
	}
	f.replayed()
}

// TestAsideParked: a room that turns out to be broken when it is resumed is
// parked, with what waits.
func TestAsideParked(t *testing.T) { sqldbtest.Each(t, testAsideParked) }

func testAsideParked(t *testing.T) {
	r := newRigWithin(t, testServer, smallLimits)
	r.end()
	var f *forked
	g := newGate()
	r.computing = g.wait
	r.start("store.db")
	f = newForked(r, "10", 40)
	f.fork()
	<-g.reached
	f.append(&api.InputRecord{RequestID: "waits", RoomID: f.g.room, Events: []api.InputEvent{message(alice, "hello")}})
	if err := r.db.Write(t.Context(), func(tx *sqldb.Tx) error {
		_, err := tx.Exec(t.Context(), `UPDATE events SET json = $1 WHERE event_id <> $2`, []byte("{"), f.second.EventID())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	close(g.open)
	for _, id := range []string{"fork", "waits"} {
		if v := f.verdict(id); v.Status != api.StatusRefused || v.HTTPStatus != 503 {
			t.Fatalf("%s: %+v", id, v)
		}
	}
	if v := f.post(f.g.room, message(alice, "x")); v.Status != api.StatusRefused || v.HTTPStatus != 503 {
		t.Fatalf("%+v", v)
	}
	if records, rooms := f.waits(); records+rooms != 0 {
		t.Fatalf("%d records of %d rooms still wait", records, rooms)
	}
	f.accepted(&api.InputRecord{RoomID: f.g.room, Kind: api.KindPurge})
}
