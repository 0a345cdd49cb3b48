package roomserver

import (
	"testing"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/storage"
)

// TestAnyText: an event may have any text in its type, state key and content, also
// what PostgreSQL takes for no text; it is stored and found as it is.
func TestAnyText(t *testing.T) { sqldbtest.Each(t, testAnyText) }

func testAnyText(t *testing.T) {
	r := newRig(t)
	room := r.room("12")
	typ, k := "org.example.a\x00b", "\x00k\x01"
	first := r.post(room, proto(alice, typ, &k, `{"a":"\u0000"}`)).EventIDs[0]
	second := r.post(room, proto(alice, typ, &k, `{"a":"\u0001"}`)).EventIDs[0]
	r.forgetRooms()
	now, err := r.s.loadRoom(t.Context(), room)
	if err != nil || now == nil {
		t.Fatal(now, err)
	}
	e, err := r.s.loadEntry(t.Context(), now, gomatrixserverlib.StateKey{Type: typ, StateKey: k})
	if err != nil || e.event == nil || e.event.EventID() != second || e.event.Type() != typ || *e.event.StateKey() != k {
		t.Errorf("the entry is %+v, %v", e.event, err)
	}
	var history []storage.StateChange
	if err := r.s.store.ReadOne(t.Context(), func(tx *sqldb.Tx) (err error) {
		history, err = r.s.store.StateEntryHistory(t.Context(), tx, now.row.NID, typ, k)
		return err
	}); err != nil || len(history) != 2 || history[0].Type != typ || history[1].StateKey != k {
		t.Errorf("history %+v, %v", history, err)
	}
	old, err := r.s.loadEvents(t.Context(), []string{first})
	if err != nil || len(old) != 1 || string(old[0].Content()) != `{"a":"\u0000"}` {
		t.Errorf("the first event is %v, %v", old, err)
	}
}
