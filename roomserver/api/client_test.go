package api

import (
	"fmt"
	"testing"

	"github.com/matrix-org/dendrite/gomatrixserverlib"
)

// memberEvent is the stored event of a member.
func memberEvent(t *testing.T, membership string) *StoredEvent {
	t.Helper()
	text := `{"auth_events":[],"content":{"membership":"` + membership + `"},"depth":1,"hashes":{"sha256":"x"},"origin_server_ts":5,"prev_events":[],` +
		`"room_id":"!r:d","sender":"@a:d","signatures":{},"state_key":"@a:d","type":"m.room.member","unsigned":{"forged":true}}`
	e, err := gomatrixserverlib.ParseStoredEvent([]byte(text), gomatrixserverlib.RoomVersionV10, "$"+membership)
	if err != nil {
		t.Fatal(err)
	}
	return &StoredEvent{Event: e}
}

func TestRenderMembers(t *testing.T) {
	tests := []struct {
		membership, only, not string
		want                  bool
	}{
		{"join", "", "", true},
		{"join", "join", "", true},
		{"leave", "join", "", false},
		{"leave", "", "leave", false},
		{"join", "", "leave", true},
		{"join", "join", "join", true},    // is join, or is not join
		{"invite", "join", "leave", true}, // is not leave
		{"leave", "join", "leave", false},
	}
	for _, tt := range tests {
		f := ClientForm{Membership: tt.only, NotMembership: tt.not}
		got := f.Render([]*StoredEvent{memberEvent(t, tt.membership)}, nil)
		if (string(got) != "[]") != tt.want || !got.IsValid() {
			t.Errorf("%+v: %s", tt, got)
		}
	}
}

func TestRender(t *testing.T) {
	plain, whole := memberEvent(t, "join"), memberEvent(t, "leave")
	whole.ReplacesState, whole.RedactedBy, whole.Device, whole.TxnID, whole.DelayID = "$join", "$by", "D", "t1", "later"
	redaction := memberEvent(t, "ban")
	show := func(id, membership, unsigned string) string {
		return fmt.Sprintf(`{"content":{"membership":%q},"event_id":%q,"origin_server_ts":5,"room_id":"!r:d","sender":"@a:d","state_key":"@a:d","type":"m.room.member"%s}`,
			membership, id, unsigned)
	}
	because := show("$ban", "ban", "")
	for name, test := range map[string]struct {
		form ClientForm
		want string // unsigned of whole, behind its age
	}{
		"the sender's device": {ClientForm{UserID: "@a:d", DeviceID: "D", Now: 7}, `{"age":2,"replaces_state":"$join","redacted_because":` + because + `,"transaction_id":"t1","org.matrix.msc4140.delay_id":"later"}`},
		"another device":      {ClientForm{UserID: "@a:d", DeviceID: "E", Now: 7}, `{"age":2,"replaces_state":"$join","redacted_because":` + because + `,"org.matrix.msc4140.delay_id":"later"}`},
		"another user":        {ClientForm{UserID: "@b:d", DeviceID: "D", Now: 7}, `{"age":2,"replaces_state":"$join","redacted_because":` + because + `}`},
		"a clock set back":    {ClientForm{Now: 1}, `{"age":0,"replaces_state":"$join","redacted_because":` + because + `}`},
	} {
		got := string(test.form.Render([]*StoredEvent{plain, whole}, map[string]*StoredEvent{"$by": redaction}))
		age := fmt.Sprintf(`,"unsigned":{"age":%d}`, max(0, test.form.Now-5))
		if want := "[" + show("$join", "join", age) + "," + show("$leave", "leave", `,"unsigned":`+test.want) + "]"; got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, want)
		}
	}
}
