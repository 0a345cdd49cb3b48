package roomserver

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// TestBatch: questions of a batch have the answers that they have alone.
func TestBatch(t *testing.T) { sqldbtest.Each(t, testBatch) }

func testBatch(t *testing.T) {
	r := newRig(t)
	a, b := r.room("10"), r.room("12")
	said := r.post(a, message(alice, "hello")).EventIDs[0]
	states := []*api.StateRequest{{RoomID: a}, {RoomID: "!nowhere:test"}, nil, {RoomID: b, Keys: []gomatrixserverlib.StateKey{{Type: "m.room.create"}}}}
	histories := []*api.HistoryRequest{{RoomID: b, Backwards: true, Limit: 3}, {RoomID: a, Backwards: true, Limit: 2, Viewer: carol}}
	events := []*api.EventsRequest{{RoomID: a, EventIDs: []string{said}}, {RoomID: b, EventIDs: []string{said}}}
	out, err := r.s.queryBatch(t.Context(), &api.BatchRequest{States: states, Histories: histories, Events: events})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.States) != len(states) || out.States[1] != nil || out.States[2] != nil {
		t.Fatalf("%+v", out.States)
	}
	for _, i := range []int{0, 3} {
		alone, err := r.s.queryState(t.Context(), states[i])
		if err != nil || !slices.Equal(sortedIDs(out.States[i].Events), sortedIDs(alone.Events)) || out.States[i].At != alone.At || len(alone.Events) == 0 {
			t.Errorf("state %d: %+v, alone %+v, %v", i, out.States[i], alone, err)
		}
	}
	for i, q := range histories {
		if alone, err := r.s.queryHistory(t.Context(), q); err != nil || !reflect.DeepEqual(out.Histories[i], alone) {
			t.Errorf("history %d: %+v, alone %+v, %v", i, out.Histories[i], alone, err)
		}
	}
	for i, q := range events {
		if alone, err := r.s.queryEvents(t.Context(), q); err != nil || !slices.Equal(sortedIDs(out.Events[i].Events), sortedIDs(alone.Events)) {
			t.Errorf("events %d: %+v, alone %+v, %v", i, out.Events[i], alone, err)
		}
	}
	if _, err := r.s.queryBatch(t.Context(), &api.BatchRequest{States: make([]*api.StateRequest, api.MaxBatch+1)}); err == nil {
		t.Error("any number of questions is answered")
	}
	batchIsBounded(t, r, a)
}

func sortedIDs(events []*api.StoredEvent) (ids []string) {
	for _, e := range events {
		ids = append(ids, e.EventID())
	}
	slices.Sort(ids)
	return ids
}

// batchIsBounded: what would be too large together has no answer.
func batchIsBounded(t *testing.T, r *rig, room string) {
	for range 10 {
		r.post(room, message(alice, strings.Repeat("x", 50_000)))
	}
	req := &api.BatchRequest{}
	for range 50 {
		req.Histories = append(req.Histories, &api.HistoryRequest{RoomID: room, Backwards: true, Limit: 10})
	}
	out, err := r.s.queryBatch(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	answered, size := 0, int64(0)
	for _, h := range out.Histories {
		if h != nil {
			answered, size = answered+1, size+bytesOf(h.Events)
		}
	}
	if answered < 2 || size > maxBatchBytes {
		t.Errorf("%d answers of %d bytes", answered, size)
	}
}
