package storage

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
)

// Some events of room 1: a few at one time, some that are not of its timeline,
// one backfilled; and one of another room.
const momentRows = `
INSERT INTO rooms (room_nid, room_id, version, partition_id, depth, latest_seq, state_seq, joined, invited, local_joined, gaps, extremities, parked)
	VALUES (1, '!r', '12', 0, 1, 1, 1, 1, 0, 1, 0, '[]', ''), (2, '!s', '12', 0, 1, 1, 1, 1, 0, 1, 0, '[]', '');
INSERT INTO events (event_nid, room_nid, event_id, seq, sub, ts, flags, state_seq, fork_nid, redacted_by, output, json) VALUES
	(1, 1, '$a', 1, 0, 10, 0, 0, 0, '', NULL, '{}'), (2, 1, '$b', 2, 0, 20, 0, 0, 0, '', NULL, '{}'), (3, 1, '$old', 2, -1, 20, 0, 0, 0, '', NULL, '{}'),
	(4, 1, '$c', 3, 0, 20, 0, 0, 0, '', NULL, '{}'), (5, 1, '$softfailed', 4, 0, 20, 2, 0, 0, '', NULL, '{}'), (6, 1, '$outlier', 0, 0, 20, 4, 0, 0, '', NULL, '{}'),
	(7, 1, '$early', 5, 0, 15, 0, 0, 0, '', NULL, '{}'), (8, 2, '$other', 6, 0, 20, 0, 0, 0, '', NULL, '{}');
`

// TestClosestEvent goes through a room's events by time, from a time on.
func TestClosestEvent(t *testing.T) { sqldbtest.Each(t, testClosestEvent) }

func testClosestEvent(t *testing.T) {
	ctx := t.Context()
	s, err := New(ctx, sqldbtest.Open(t, filepath.Join(t.TempDir(), "t.db")))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Script(ctx, momentRows)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		ts        int64
		backwards bool
		want      []string
	}{
		{0, false, []string{"$a", "$early", "$old", "$b", "$c"}},
		{20, false, []string{"$old", "$b", "$c"}},
		{21, false, nil},
		{20, true, []string{"$c", "$b", "$old", "$early", "$a"}},
		{19, true, []string{"$early", "$a"}},
		{9, true, nil},
	} {
		var got []string
		err := s.ReadOne(ctx, func(tx *sqldb.Tx) error {
			for from := At(c.ts, c.backwards); ; {
				e, err := s.ClosestEvent(ctx, tx, 1, from, c.backwards)
				if err != nil || e == nil {
					return err
				}
				got = append(got, e.EventID)
				from = Moment{TS: e.TS, Seq: e.Seq, Sub: e.Sub}
			}
		})
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("from %d, backwards %v: %v, %v", c.ts, c.backwards, got, err)
		}
	}
}
