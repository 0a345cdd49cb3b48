package roomserver

import (
	"errors"
	"slices"
	"testing"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
)

func TestPrepare(t *testing.T) { sqldbtest.Each(t, testPrepare) }

func testPrepare(t *testing.T) {
	for _, version := range []gomatrixserverlib.RoomVersion{"2", "12"} {
		w := newWorld(t, version)
		req := &api.PrepareRequest{RoomID: w.g.room, TS: 5, Proto: *member(alice, carol, "invite").Proto}
		out, err := w.s.queryPrepare(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if err := out.Event.VerifySignature(testServer, testKey.ID, testKey.Public()); err != nil || out.Event.Membership() != "invite" {
			t.Fatalf("%s, %v", out.Event.JSON(), err)
		}
		if len(out.AuthEvents) != len(out.Event.AuthEventIDs()) || !slices.Equal(out.Event.PrevEventIDs(), w.g.extremities) {
			t.Fatalf("%+v", out)
		}
		// It can be logged, even when the room has gone on.
		w.own(message(alice, "meanwhile"))
		w.accepted(&api.InputRecord{RoomID: w.g.room, Events: []api.InputEvent{{EventID: out.Event.EventID()}}}, out.Event.JSON())
		w.g.take(out.Event.Event)
		w.compare()
		// Nor is it soft-failed: its writer is told.
		late, err := w.s.queryPrepare(t.Context(), &api.PrepareRequest{RoomID: w.g.room, TS: 6, Proto: *member(alice, bob, "invite").Proto})
		if err != nil {
			t.Fatal(err)
		}
		w.own(member(alice, alice, "leave"))
		v := w.submit(&api.InputRecord{RoomID: w.g.room, Events: []api.InputEvent{{EventID: late.Event.EventID()}}}, late.Event.JSON())
		if v.Status != api.StatusRefused || v.Code != "M_FORBIDDEN" || v.Rule == "" {
			t.Fatalf("%+v", v)
		}
		_, err = w.s.queryPrepare(t.Context(), req)
		if !matrixerror.Is(err, "M_FORBIDDEN") {
			t.Fatalf("an invite of somebody who left: %v", err)
		}
	}
}

func TestMissingEvents(t *testing.T) { sqldbtest.Each(t, testMissingEvents) }

func testMissingEvents(t *testing.T) {
	w := newWorld(t, "12")
	for range 10 {
		w.own(message(alice, "x"))
	}
	ids := w.g.order
	for _, c := range []struct {
		req  api.MissingEventsRequest
		want []string
	}{
		{api.MissingEventsRequest{Earliest: ids[3:4], Latest: ids[9:10], Limit: 20}, ids[4:9]},
		{api.MissingEventsRequest{Earliest: ids[3:4], Latest: ids[9:10], Limit: 2}, ids[7:9]},
		{api.MissingEventsRequest{Latest: ids[9:10], Limit: 20, MinDepth: 6}, ids[5:9]},
		{api.MissingEventsRequest{Latest: []string{"$unknown"}, Limit: 20}, nil},
	} {
		c.req.RoomID = w.g.room
		out, err := w.s.queryMissingEvents(t.Context(), &c.req)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range out.Events {
			got = append(got, e.EventID())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v, want %v", c.req, got, c.want)
		}
	}
}

func TestServerMaySee(t *testing.T) { sqldbtest.Each(t, testServerMaySee) }

func testServerMaySee(t *testing.T) {
	w := newWorld(t, "12")
	visibility := func(v string) {
		w.own(proto(alice, "m.room.history_visibility", key(""), `{"history_visibility":"`+v+`"}`))
	}
	last := func() string { return w.g.order[len(w.g.order)-1] }
	seen := map[string]bool{}
	say := func(visible bool) {
		w.own(message(alice, "x"))
		seen[last()] = visible
	}
	say(true) // shared, and they join later
	visibility("joined")
	say(false)
	visibility("invited")
	say(false)
	w.own(member(alice, carol, "invite"))
	say(true)
	visibility("world_readable")
	say(true)
	visibility("joined")
	join := w.g.build(w.g.extremities, carol, "m.room.member", key(carol), `{"membership":"join"}`)
	w.g.add(join)
	w.receive(join)
	say(true)
	w.own(member(alice, carol, "ban"))
	say(false)
	visibility("shared")
	say(false) // and no later join
	var ids []string
	for id := range seen {
		ids = append(ids, id)
	}
	out, err := w.s.queryServerMaySee(t.Context(), &api.ServerMaySeeRequest{RoomID: w.g.room, Server: "remote", EventIDs: ids})
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range seen {
		if slices.Contains(out.Visible, id) != want {
			t.Errorf("event %d: visible %v, want %v", slices.Index(w.g.order, id), !want, want)
		}
	}
}

// TestRedactionFirst: a redaction may be here before what it redacts.
func TestRedactionFirst(t *testing.T) { sqldbtest.Each(t, testRedactionFirst) }

func testRedactionFirst(t *testing.T) {
	w := newWorld(t, "11")
	join := w.g.build(w.g.extremities, carol, "m.room.member", key(carol), `{"membership":"join"}`)
	w.g.add(join)
	w.receive(join)
	secret := w.g.build(w.g.extremities, carol, "m.room.message", nil, `{"body":"secret"}`)
	redaction := w.g.build(w.g.extremities, carol, "m.room.redaction", nil, `{"redacts":"`+secret.EventID()+`"}`)
	foreign := w.g.build(w.g.extremities, carol, "m.room.redaction", nil, `{"redacts":"$somethingelse"}`)
	for _, e := range []*gomatrixserverlib.Event{redaction, foreign, secret} {
		w.g.add(e)
	}
	w.receive(redaction, foreign)
	w.end()
	w.start("store.db")
	w.receive(secret)
	found, err := w.s.queryEvents(t.Context(), &api.EventsRequest{EventIDs: []string{secret.EventID()}})
	if err != nil || len(found.Events) != 1 || string(found.Events[0].Content()) != "{}" || found.Events[0].RedactedBy != redaction.EventID() {
		t.Fatalf("%+v, %v", found, err)
	}
	w.replayed()
}

// TestParked: a room whose data is broken takes nothing more, and no other room
// is held up; it can be purged.
func TestParked(t *testing.T) { sqldbtest.Each(t, testParked) }

func testParked(t *testing.T) {
	r := newRig(t)
	bad := r.room("10")
	good := r.room("10")
	for eventlog.PartitionFor(good, testPartitions) != eventlog.PartitionFor(bad, testPartitions) {
		good = r.room("10")
	}
	r.end()
	r.open("store.db")
	if err := r.db.Write(t.Context(), func(tx *sqldb.Tx) error {
		_, err := tx.Exec(t.Context(), `UPDATE events SET json = $1 WHERE room_nid = (SELECT room_nid FROM rooms WHERE room_id = $2)`, []byte("{"), bad)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.log.Close(), r.db.Close()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r.start("store.db")
		if v := r.post(bad, message(alice, "x")); v.Status != api.StatusRefused || v.HTTPStatus != 503 {
			t.Fatalf("%+v", v)
		}
		if v := r.post(good, message(alice, "x")); v.Status != api.StatusAccepted {
			t.Fatalf("%+v", v)
		}
		r.end()
	}
	r.start("store.db")
	r.accepted(&api.InputRecord{RoomID: bad, Kind: api.KindPurge})
}

func TestHeaderText(t *testing.T) {
	for _, txn := range []string{"plain", `quo"te`, `back\slash`, `,"hv":"joined"`, "\u00e9\u2028\x01", `ends with \`} {
		header, err := (&api.OutputRecord{Type: `,"txn_id":"x"`, Device: "D", TxnID: txn, HistoryVisibility: "shared"}).Encode()
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{"txn_id": txn, "hv": "shared", "device": "D", "hv_before": ""} {
			if got, err := headerText(header, `,"`+name+`":"`); err != nil || got != want {
				t.Errorf("%s of %s: %q, %v", name, header, got, err)
			}
		}
	}
	if _, err := headerText([]byte(`{"v":1,"hv":"sha`), `,"hv":"`); err == nil {
		t.Error("a header that is cut off can be read")
	}
}
