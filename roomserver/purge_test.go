package roomserver

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/common/testwait"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/roomserver/storage"
)

// alone are the usual limits, but for batches of one record: a replay cuts the log
// otherwise.
var alone = limits{effort: defaultLimits.effort, records: defaultLimits.records, bytes: defaultLimits.bytes, batch: 1}

// wholly has the rest of the log handled in batches as large as they come.
func (r *rig) wholly() { r.limits.batch = 0 }

// purge has events forgotten, and returns what readers are told of it.
func (r *rig) purge(room string, ids ...string) []api.PurgedEvent {
	r.Helper()
	before := len(r.outputs())
	r.accepted(&api.InputRecord{RoomID: room, Kind: api.KindPurgeHistory, Purge: ids})
	testwait.Until(r.TB, "what is committed is published", func() bool { return r.published() })
	outputs := r.outputs()
	if len(outputs) == before {
		return nil
	}
	slices.Reverse(outputs) // the last one of the kind
	_, value, _ := strings.Cut(outputs[slices.IndexFunc(outputs, func(o string) bool { return strings.Contains(o, `"history_purged"`) })], " ")
	out, lines, err := api.DecodeOutput([]byte(value))
	if err != nil || len(outputs) != before+1 || out.Kind != api.OutputHistoryPurged || out.RoomID != room || len(lines) > 0 || out.JoinedCount == 0 {
		r.Fatalf("%d outputs more, %+v, %v", len(outputs)-before, out, err)
	}
	return out.Purged
}

// published tells whether room.output has all that is committed.
func (r *rig) published() bool {
	heads := r.s.heads.get().Seqs
	for p := range testPartitions {
		_, end, err := r.log.Bounds(r.Context(), api.TopicOutput, p)
		if err != nil {
			r.Fatal(err)
		}
		if end < heads[p] {
			return false
		}
	}
	return true
}

// shows returns the IDs of a room's history in one direction, read in pages.
func (r *rig) shows(room string, backwards bool) (ids []string) {
	r.Helper()
	for from := (api.Position{}); ; {
		page, err := r.s.queryHistory(r.Context(), &api.HistoryRequest{RoomID: room, From: from, Backwards: backwards, Limit: 2})
		if err != nil {
			r.Fatal(err)
		}
		for _, e := range page.Events {
			ids = append(ids, e.EventID())
		}
		if !page.More {
			break
		}
		from = page.Next
	}
	if backwards {
		slices.Reverse(ids)
	}
	return ids
}

// TestPurgeHistory: messages are gone wherever they are asked for; state and the last
// event stay, and the room goes on.
func TestPurgeHistory(t *testing.T) { sqldbtest.Each(t, testPurgeHistory) }

func testPurgeHistory(t *testing.T) {
	for _, version := range []gomatrixserverlib.RoomVersion{"1", "12"} {
		t.Run(string(version), func(t *testing.T) {
			r := newRigWithin(t, testServer, alone)
			room := r.room(version)
			topic := r.post(room, proto(alice, "m.room.topic", key(""), `{"topic":"x"}`)).EventIDs[0]
			var messages []string
			for n := range 6 {
				messages = append(messages, r.post(room, message(alice, fmt.Sprint("secret", n))).EventIDs[0])
			}
			redaction := proto(alice, "m.room.redaction", nil, `{}`)
			redaction.Proto.Redacts = messages[4]
			redacted := r.post(room, redaction).EventIDs[0]
			want := r.shows(room, false) // and is in memory now
			last := want[len(want)-1]

			purged := r.purge(room, messages[0], messages[1], topic, "$unknown", messages[0], last)
			if len(purged) != 2 || purged[0].EventID != messages[0] || purged[0].Seq != 5 || purged[1].EventID != messages[1] || purged[1].Seq != 6 {
				t.Fatalf("%+v", purged)
			}
			want = without(want, messages[:2])
			for _, backwards := range []bool{false, true} {
				if got := r.shows(room, backwards); !slices.Equal(got, want) {
					t.Fatalf("backwards %v: %v, want %v", backwards, got, want)
				}
			}
			found, err := r.s.queryEvents(t.Context(), &api.EventsRequest{EventIDs: messages})
			if err != nil || len(found.Events) != 4 {
				t.Fatalf("%d events, %v", len(found.Events), err)
			}
			if again := r.purge(room, messages[0], messages[1]); again != nil {
				t.Fatalf("purged twice: %+v", again)
			}
			if p := r.purge(room, messages[4], redacted); len(p) != 1 { // the redaction is the last event
				t.Fatalf("%+v", p)
			}
			if v := r.post(room, message(alice, "later")); v.Status != api.StatusAccepted {
				t.Fatalf("%+v", v)
			}
			if p := r.purge(room, redacted); len(p) != 1 {
				t.Fatalf("what was the last event: %+v", p)
			}
			for table, rows := range r.tables() {
				for _, row := range rows {
					for _, secret := range []string{"secret0", "secret1", "secret4"} {
						if strings.Contains(row, secret) {
							t.Errorf("%s: %s", table, row)
						}
					}
				}
			}
			r.contiguousOutputs()
			file, other := export(r, room), newRig(t)
			if _, _, err := Import(t.Context(), bytes.NewReader(file), testRing, other.importer()); err != nil {
				t.Fatal(err)
			}
			if got, want := other.shows(room, false), r.shows(room, false); !slices.Equal(got, want) {
				t.Fatalf("imported: %v, want %v", got, want)
			}
			outputs := headers(r.outputs())
			r.wholly()
			r.replayed()
			r.replayedOutputs(outputs)
		})
	}
}

// contiguousOutputs checks that a store whose outputs are published anew leaves no
// hole: what is gone is said to be.
func (r *rig) contiguousOutputs() {
	r.Helper()
	for p := range testPartitions {
		r.s.published[p] = 0
		head := r.s.heads.get().Seqs[p]
		rows, err := r.outputRows(p)
		if err != nil {
			r.Fatal(err)
		}
		for seq := int64(1); seq <= head; seq++ {
			value, err := republished(&rows, p, seq)
			if err != nil {
				r.Fatal(err)
			}
			if out, _, err := api.DecodeOutput(value); err != nil || out.Position.Seq != seq {
				r.Fatalf("%+v, %v, want seq %d", out, err, seq)
			}
		}
		if len(rows) > 0 {
			r.Fatalf("partition %d: %d outputs too many", p, len(rows))
		}
		r.s.published[p] = head
	}
}

func (r *rig) outputRows(partition int) (rows []storage.Output, err error) {
	err = r.s.store.ReadOne(r.Context(), func(tx *sqldb.Tx) (err error) {
		rows, err = r.s.store.Outputs(r.Context(), tx, partition, 0, 1000)
		return err
	})
	return rows, err
}

// replayedOutputs checks that the input alone, in another log, gives the same outputs.
func (r *rig) replayedOutputs(want []string) {
	r.Helper()
	tables := r.tables()
	r.end()
	inputs := r.copyInputs()
	r.logPath = filepath.Join(r.dir, "other.db")
	r.open("other-store.db")
	for _, m := range inputs { // before it runs, so that it is as few batches as can be
		if _, err := r.log.Append(r.Context(), m); err != nil {
			r.Fatal(err)
		}
	}
	if err := errors.Join(r.log.Close(), r.db.Close()); err != nil {
		r.Fatal(err)
	}
	r.start("other-store.db")
	r.settle()
	for table, rows := range r.tables() {
		if len(rows) > 0 || len(tables[table]) > 0 {
			diff(r.TB, table, tables[table], rows)
		}
	}
	testwait.Until(r.TB, "all is published", r.published)
	got := headers(r.outputs())
	for i := range want { // settle adds others behind, in each partition
		if !slices.Contains(got, want[i]) {
			r.Fatalf("the replay does not give %s", want[i])
		}
	}
}

// TestPurgesForgotten: that events were purged long ago is not stored for ever.
func TestPurgesForgotten(t *testing.T) { sqldbtest.Each(t, testPurgesForgotten) }

func testPurgesForgotten(t *testing.T) {
	r := newRigWithin(t, testServer, alone)
	room := r.room("12")
	var sent []string
	for range 4 {
		sent = append(sent, r.post(room, message(alice, "x")).EventIDs[0])
	}
	week := r.s.config.TransactionLifetime.Milliseconds()
	stored := func() (n int) {
		for _, row := range r.tables()["outputs"] {
			if strings.Contains(row, `"history_purged"`) {
				n++
			}
		}
		return n
	}
	for i, want := range []int{1, 2, 2} {
		r.accepted(&api.InputRecord{RoomID: room, TS: 1_000_000 + week/2*int64(i) + int64(i), Kind: api.KindPurgeHistory, Purge: sent[i : i+1]})
		if got := stored(); got != want {
			t.Errorf("after %d purges: %d are stored, want %d", i+1, got, want)
		}
	}
	r.contiguousOutputs()
	outputs := headers(r.outputs())
	r.wholly()
	r.replayed()
	r.replayedOutputs(outputs)
}

// TestPurgeShared: instances share the rooms, and what is purged no one shows, also
// one that has read it before or takes the room over.
func TestPurgeShared(t *testing.T) { sqldbtest.Each(t, testPurgeShared) }

func testPurgeShared(t *testing.T) {
	r := newShared(t, limits{})
	a, stopA := r.instance()
	b, stopB := r.instance()
	testwait.Until(t, "two share", func() bool { return a.owned() == testPartitions/2 && b.owned() == testPartitions/2 })
	type shown struct {
		room string
		want []string
	}
	var rooms []shown
	for range 6 {
		room := r.room("12")
		gone, kept, last := r.post(room, message(alice, "gone")).EventIDs[0], r.post(room, message(alice, "kept")).EventIDs[0], r.post(room, message(alice, "last")).EventIDs[0]
		for _, s := range []*Server{a, b} {
			if _, err := s.queryHistory(t.Context(), &api.HistoryRequest{RoomID: room, Backwards: true, Limit: 10}); err != nil {
				t.Fatal(err)
			}
		}
		r.accepted(&api.InputRecord{RoomID: room, Kind: api.KindPurgeHistory, Purge: []string{gone}})
		rooms = append(rooms, shown{room, []string{last, kept}})
	}
	check := func(s *Server) {
		t.Helper()
		for _, c := range rooms {
			page, err := s.queryHistory(t.Context(), &api.HistoryRequest{RoomID: c.room, Backwards: true, Limit: 3})
			if err != nil {
				t.Fatal(err)
			}
			if got := []string{page.Events[0].EventID(), page.Events[1].EventID()}; !slices.Equal(got, c.want) || page.Events[2].Type() == "m.room.message" {
				t.Errorf("%s shows %v, want %v", c.room, got, c.want)
			}
		}
	}
	check(a)
	check(b)
	stopA()
	testwait.Until(t, "the other took over", func() bool { return b.owned() == testPartitions })
	check(b)
	stopB()
}

// TestPurgeRemote: of what other servers have sent, what stands in the past, was
// rejected or soft-failed or has no place goes too; what comes again is taken again.
func TestPurgeRemote(t *testing.T) { sqldbtest.Each(t, testPurgeRemote) }

func testPurgeRemote(t *testing.T) {
	for _, version := range []gomatrixserverlib.RoomVersion{"2", "12"} {
		t.Run(string(version), func(t *testing.T) {
			w := newWorld(t, version)
			for i := range 6 {
				w.own(proto(alice, "m.room.topic", key(""), fmt.Sprintf(`{"topic":"%d"}`, i)))
				w.own(message(alice, fmt.Sprint("secret", i)))
			}
			g := &guest{newRigWithin(t, "remote", alone), w, w.g.room}
			join := g.member(carol, "join")
			if v := g.join(join, g.sendState(join.EventID(), -1)); v.Status != api.StatusAccepted {
				t.Fatalf("%+v", v)
			}
			w.own(message(alice, "welcome"))
			news := w.g.events[w.g.order[len(w.g.order)-1]].event
			g.accepted(&api.InputRecord{RoomID: g.room, Origin: "test", Events: []api.InputEvent{{EventID: news.EventID()}}}, news.JSON())
			g.backfill()
			// One that nobody may send, and one that has no place.
			bad := w.g.build(w.g.extremities, erin, "m.room.message", nil, `{"body":"secret of erin's"}`)
			v := g.submit(&api.InputRecord{RoomID: g.room, Origin: "test", Events: []api.InputEvent{{EventID: bad.EventID()}}}, bad.JSON())
			if len(v.Events) != 1 || v.Events[0].Status != api.StatusRejected {
				t.Fatalf("%+v", v)
			}
			gone := g.purgeable(1 << 50)
			if len(gone) != 7 || !slices.Contains(gone, bad.EventID()) || slices.Contains(gone, news.EventID()) {
				t.Fatalf("%d may go: %v", len(gone), gone)
			}
			if p := g.rig.purge(g.room, gone...); len(p) != len(gone) {
				t.Fatalf("%+v", p)
			}
			if left := g.purgeable(1 << 50); len(left) > 0 {
				t.Fatalf("%v are left", left)
			}
			for _, id := range w.g.order {
				if e := w.g.events[id].event; e.IsState() {
					g.sameState(id)
				}
			}
			// A purged message comes again, as an outlier, and is purged again.
			old := w.g.events[gone[0]].event
			again := func(n int) *api.InputRecord {
				return &api.InputRecord{RoomID: g.room, RoomVersion: string(version), Kind: api.KindOutlier, Origin: "test",
					RequestID: fmt.Sprint("again", n), Events: []api.InputEvent{{EventID: old.EventID()}}}
			}
			g.accepted(again(1), old.JSON())
			if p := g.rig.purge(g.room, old.EventID()); len(p) != 1 || p[0].Seq != 0 {
				t.Fatalf("%+v", p)
			}
			g.accepted(again(2), old.JSON())
			outputs := headers(g.outputs())
			g.wholly()
			g.replayed()
			g.replayedOutputs(outputs)
		})
	}
}

// purgeable returns what may be purged of before a time, page by page.
func (g *guest) purgeable(before int64) (ids []string) {
	g.Helper()
	req := api.PurgeableRequest{RoomID: g.room, BeforeTS: before, Others: true, Limit: 3}
	for {
		page, err := g.s.queryPurgeable(g.Context(), &req)
		if err != nil {
			g.Fatal(err)
		}
		if ids = append(ids, page.EventIDs...); !page.More {
			return ids
		}
		req.After = page.Next
	}
}

// TestPurgeable: what is old is told by time or by place.
func TestPurgeable(t *testing.T) { sqldbtest.Each(t, testPurgeable) }

func testPurgeable(t *testing.T) {
	r := newRig(t)
	room := r.room("12")
	at := func(ts int64) string {
		return r.accepted(&api.InputRecord{RoomID: room, TS: ts, Events: []api.InputEvent{message(alice, "x")}}).EventIDs[0]
	}
	first, second := at(1_000_000), at(3_000_000)
	r.accepted(&api.InputRecord{RoomID: room, TS: 1_000_000, Events: []api.InputEvent{proto(alice, "m.room.topic", key(""), `{}`)}})
	third, last := at(2_000_000), at(1_500_000)
	place, err := r.s.queryEvents(t.Context(), &api.EventsRequest{EventIDs: []string{third}})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		req  api.PurgeableRequest
		want []string
	}{
		"before all":      {api.PurgeableRequest{BeforeTS: 1_000_000}, nil},
		"before a time":   {api.PurgeableRequest{BeforeTS: 3_000_000}, []string{first, third}},
		"before all ends": {api.PurgeableRequest{BeforeTS: 1 << 50}, []string{first, third, second}}, // last is the last event
		"before a place":  {api.PurgeableRequest{Before: place.Events[0].Position}, []string{first, second}},
	} {
		c.req.RoomID = room
		var got []string
		for pages := 0; ; pages++ {
			c.req.Limit = 1
			page, err := r.s.queryPurgeable(t.Context(), &c.req)
			if err != nil || pages > 20 {
				t.Fatal(name, pages, err)
			}
			if got = append(got, page.EventIDs...); !page.More {
				break
			}
			c.req.After = page.Next
		}
		if !slices.Equal(got, c.want) || slices.Contains(got, last) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	for _, wrong := range []api.PurgeableRequest{{RoomID: room}, {RoomID: room, BeforeTS: 1, Before: api.Position{Seq: 1}}, {RoomID: "!none:test", BeforeTS: 1}} {
		if out, err := r.s.queryPurgeable(t.Context(), &wrong); err == nil {
			t.Errorf("%+v: %+v", wrong, out)
		}
	}
}

// TestRefusedPurges: what is refused changes nothing.
func TestRefusedPurges(t *testing.T) { sqldbtest.Each(t, testRefusedPurges) }

func testRefusedPurges(t *testing.T) {
	r := newRig(t)
	room := r.room("12")
	for name, c := range map[string]struct {
		record *api.InputRecord
		status int
	}{
		"an unknown room":       {&api.InputRecord{RoomID: "!none:test", Kind: api.KindPurgeHistory, Purge: []string{"$x"}}, 404},
		"too much":              {&api.InputRecord{RoomID: room, Kind: api.KindPurgeHistory, Purge: make([]string, api.MaxPurge+1)}, 400},
		"a room with a user in": {&api.InputRecord{RoomID: room, Kind: api.KindPurge, IfEmpty: true}, 403},
	} {
		if v := r.submit(c.record); v.Status != api.StatusRefused || v.HTTPStatus != c.status {
			t.Errorf("%s: %+v", name, v)
		}
	}
	r.post(room, member(alice, alice, "leave"))
	if v := r.submit(&api.InputRecord{RoomID: room, Kind: api.KindPurge, IfEmpty: true}); v.Status != api.StatusAccepted {
		t.Fatalf("%+v", v)
	}
	if _, err := r.s.queryRoom(t.Context(), &api.RoomRequest{RoomID: room}); err == nil {
		t.Fatal("a purged room is there")
	}
	r.replayed()
}

// TestQueryRetention: rooms are listed with what they say.
func TestQueryRetention(t *testing.T) { sqldbtest.Each(t, testQueryRetention) }

func testQueryRetention(t *testing.T) {
	r := newRig(t)
	want := map[string]string{}
	for i := range 9 {
		room := r.room("12")
		want[room] = ""
		if i%3 > 0 {
			want[room] = fmt.Sprintf(`{"max_lifetime":%d}`, i)
			r.post(room, proto(alice, "other.type", key(""), want[room]))
		}
		if i%3 == 2 {
			want[room] = fmt.Sprintf(`{"max_lifetime":1%d}`, i)
			r.post(room, proto(alice, "first.type", key(""), want[room]))
		}
	}
	got := map[string]string{}
	for p := range testPartitions {
		for after, more := "", true; more; {
			page, err := r.s.queryRetention(t.Context(), &api.RetentionRequest{Partition: p, After: after, Limit: 2, Types: []string{"first.type", "other.type"}})
			if err != nil {
				t.Fatal(err)
			}
			for _, room := range page.Rooms {
				got[room.RoomID], after = string(room.Content), room.RoomID
			}
			more = page.More
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
