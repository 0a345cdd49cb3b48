package clientapi

import (
	"strings"
	"testing"

	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// TestProfileJob: the member event keeps what clients put there, and not what
// was about the join alone.
func TestProfileJob(t *testing.T) { sqldbtest.Each(t, testProfileJob) }

func testProfileJob(t *testing.T) {
	w := newWorld(t)
	lobby := w.create("alice", `{"preset":"public_chat"}`)
	room := w.create("alice", `{"initial_state":[{"type":"m.room.join_rules","content":{"join_rule":"restricted","allow":[{"type":"m.room_membership","room_id":"`+lobby+`"}]}}]}`)
	w.must("bob", "POST", "/join/"+lobby, `{}`)
	w.must("bob", "POST", "/join/"+room, `{"reason":"hello"}`)
	path := "/rooms/" + room + "/state/m.room.member/@bob:test"
	if joined := w.must("bob", "GET", path, "").raw; !strings.Contains(joined, "join_authorised_via_users_server") {
		t.Fatal(joined)
	}
	// A second write by the client may leave that out, and adds what is its own.
	w.must("bob", "PUT", path, `{"membership":"join","displayname":"old","org.example.mood":"fine","reason":"because"}`)
	if err := w.server.doJob(t.Context(), userapi.Job{UserID: "@bob:test", Kind: userapi.JobProfile, ID: "j"}); err != nil {
		t.Fatal(err)
	}
	if got := w.must("bob", "GET", path, "").raw; got != `{"displayname":"B","membership":"join","org.example.mood":"fine"}` {
		t.Error(got)
	}
}
