package directoryapi

import (
	"slices"
	"testing"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/directoryapi/api"
)

// TestJoined: rooms of many users are told by partition, as of a position.
func TestJoined(t *testing.T) { sqldbtest.Each(t, testJoined) }

func testJoined(t *testing.T) {
	w := newWorld(t)
	rooms := []string{"!a:test", "!b:test", "!c:test", "!d:test"}
	want := map[int][]string{}
	for _, id := range rooms {
		p := eventlog.PartitionFor(id, 2)
		want[p] = append(want[p], id)
		w.state(p, id, "m.room.member", "@alice:test", `{"membership":"join"}`, 1)
		w.state(p, id, "m.room.member", "@bob:test", `{"membership":"invite"}`, 1)
	}
	for p := range 2 {
		res, err := api.QueryJoined.Call(t.Context(), w.caller, &api.JoinedRequest{UserIDs: []string{"@alice:test", "@bob:test"}, Partition: p, AtLeast: w.seqs[p]})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(res.Rooms["@alice:test"], want[p]) || len(res.Rooms["@bob:test"]) > 0 {
			t.Errorf("partition %d: %v, not %v", p, res.Rooms, want[p])
		}
	}
	if _, err := api.QueryJoined.Call(t.Context(), w.caller, &api.JoinedRequest{Partition: 2}); err == nil {
		t.Error("there is no such partition")
	}
}
