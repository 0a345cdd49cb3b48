package storage

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
)

// The store of the test: room 1 with 100,000 events, of which 20,000 are members,
// 1,000 rooms with 20 each, and others with nothing.
const fill = `
INSERT INTO rooms SELECT n, '!r' || n, '12', 0, 1, 1, 1, 1, 0, 1, 0, '[]', '' FROM generate_series(1, 30000) n;
INSERT INTO events SELECT n, 1, '$e' || n, n, 0, n, 0, 0, 0, '', '{}', '{}' FROM generate_series(1, 100000) n;
INSERT INTO events SELECT 200000 + n, 2 + n / 20, '$f' || n, 200000 + n, 0, n, 0, 0, 0, '', '{}', '{}' FROM generate_series(0, 19999) n;
INSERT INTO events SELECT CAST(1 AS BIGINT) << 60 | n, 1 + n % 3, '$o' || n, 0, 0, n, 4, 0, 0, '', NULL, '{}' FROM generate_series(1, 3000) n;
INSERT INTO state_changes SELECT 1, 'm.room.member', '@u' || n || ':test', n * 5, n * 5 FROM generate_series(1, 20000) n;
INSERT INTO state_changes SELECT 1, t, '', s, s FROM unnest(ARRAY['m.room.create', 'm.room.name', 'm.room.power_levels', 'm.room.topic']) t, generate_series(1, 10) s;
INSERT INTO state_changes SELECT r, t, '', 200000 + (r - 2) * 20, 200000 + (r - 2) * 20 FROM unnest(ARRAY['m.room.create', 'm.room.power_levels']) t, generate_series(2, 1001) r;
INSERT INTO requests SELECT 'q' || n, n, '{}' FROM generate_series(1, 100000) n;
INSERT INTO outputs SELECT 300000 + n, 1, 0, '{}' FROM generate_series(1, 20000) n;
INSERT INTO gaps SELECT 1, n * 10, 0, '[]' FROM generate_series(1, 1000) n;
`

const analyse = `VACUUM ANALYZE rooms, events, state_changes, requests, outputs, gaps`

// TestPlans: on PostgreSQL the statements of every day read about as many rows
// as they return, out of 100,000s, with the plan for the values and with the one
// for any values, which prepared statements may come to.
func TestPlans(t *testing.T) { t.Run(string(sqldbtest.PostgreSQL), testPlans) }

func testPlans(t *testing.T) {
	ctx := t.Context()
	s, err := New(ctx, sqldbtest.Open(t, filepath.Join(t.TempDir(), "t.db")))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.fill(ctx); err != nil {
		t.Fatal(err)
	}
	var ids, requests, rooms []string
	var nids []int64
	var entries []Entry
	for n := int64(1); n <= 40; n++ {
		ids, requests = append(ids, fmt.Sprint("$e", n*1000)), append(requests, fmt.Sprint("q", n*1000))
		rooms, nids = append(rooms, fmt.Sprint("!r", n*20)), append(nids, n*1000)
		entries = append(entries, Entry{RoomNID: 1, Type: "m.room.member", StateKey: fmt.Sprintf("@u%d:test", n*100), Seq: 100000},
			Entry{RoomNID: n * 20, Type: "m.room.power_levels", Seq: 400000})
	}
	for name, q := range map[string]struct {
		run  func(tx *sqldb.Tx) (any, error)
		most int64 // rows read
	}{
		"timeline back": {func(tx *sqldb.Tx) (any, error) {
			return s.Timeline(ctx, tx, Range{RoomNID: 1, ToSeq: 99000, Backwards: true, Limit: 50})
		}, 60},
		"timeline": {func(tx *sqldb.Tx) (any, error) {
			return s.Timeline(ctx, tx, Range{RoomNID: 1, AfterSeq: 99000, ToSeq: 100000, Limit: 50})
		}, 60},
		"timeline of a small room": {func(tx *sqldb.Tx) (any, error) {
			return s.Timeline(ctx, tx, Range{RoomNID: 7, ToSeq: 400000, Backwards: true, Limit: 50})
		}, 60},
		"state of a small room": {func(tx *sqldb.Tx) (any, error) { return s.StateAt(ctx, tx, 7, 400000) }, 10},
		"state but members":     {func(tx *sqldb.Tx) (any, error) { return s.StateWithoutMembersAt(ctx, tx, 1, 100000) }, 200},
		"state of types":        {func(tx *sqldb.Tx) (any, error) { return s.StateOfTypesAt(ctx, tx, 1, 100000, []string{"m.room.name"}) }, 60},
		"state IDs": {func(tx *sqldb.Tx) (any, error) {
			return nil, s.StateIDsAt(ctx, tx, 7, 400000, func(StateChange, string) {})
		}, 20},
		"entry": {func(tx *sqldb.Tx) (any, error) {
			return s.StateEntryAt(ctx, tx, 1, 100000, "m.room.member", "@u7:test")
		}, 5},
		"history of an entry": {func(tx *sqldb.Tx) (any, error) { return s.StateEntryHistory(ctx, tx, 1, "m.room.topic", "") }, 20},
		"entries with events": {func(tx *sqldb.Tx) (any, error) { return s.StateEvents(ctx, tx, entries) }, 500},
		"changes":             {func(tx *sqldb.Tx) (any, error) { return s.StateChangesIn(ctx, tx, 1, 99900, 100000) }, 60},
		"last change":         {func(tx *sqldb.Tx) (any, error) { return s.LastStateChange(ctx, tx, 1, 50000) }, 5},
		"events by ID":        {func(tx *sqldb.Tx) (any, error) { return s.EventsByID(ctx, tx, ids) }, 100},
		"events by number":    {func(tx *sqldb.Tx) (any, error) { return s.EventsByNID(ctx, tx, nids) }, 100},
		"rooms":               {func(tx *sqldb.Tx) (any, error) { return s.Rooms(ctx, tx, rooms) }, 50},
		"requests":            {func(tx *sqldb.Tx) (any, error) { return s.Requests(ctx, tx, requests) }, 100},
		"outputs":             {func(tx *sqldb.Tx) (any, error) { return s.Outputs(ctx, tx, 0, 90000, 200) }, 1000},
		"gap":                 {func(tx *sqldb.Tx) (any, error) { return s.GapBefore(ctx, tx, 1, 5000, 0) }, 10},
		"members page":        {func(tx *sqldb.Tx) (any, error) { return s.MemberChanges(ctx, tx, 1, "@u5", 0, 100000, 100) }, 300},
		"closest event":       {func(tx *sqldb.Tx) (any, error) { return s.ClosestEvent(ctx, tx, 1, At(50000, false), false) }, 5},
		"closest before":      {func(tx *sqldb.Tx) (any, error) { return s.ClosestEvent(ctx, tx, 1, At(50000, true), true) }, 5},
		"older than": {func(tx *sqldb.Tx) (any, error) {
			return s.OlderThan(ctx, tx, 1, 90000, Moment{TS: 40000, Seq: 40000}, 50)
		}, 60},
		"others older than":              {func(tx *sqldb.Tx) (any, error) { return s.OthersOlderThan(ctx, tx, 1, 90000, 0, 50) }, 60},
		"others of a room that has none": {func(tx *sqldb.Tx) (any, error) { return s.OthersOlderThan(ctx, tx, 7, 90000, 0, 50) }, 5},
		"standing before": {func(tx *sqldb.Tx) (any, error) {
			return s.StandingBefore(ctx, tx, 1, 90000, 0, 40000, 0, 50)
		}, 60},
		"archive page": {func(tx *sqldb.Tx) (any, error) { return s.Archive(ctx, tx, 1, false, Event{Seq: 50000}, 100) }, 400},
	} {
		for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
			read, err := s.rowsRead(ctx, mode, q.run)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if read > q.most {
				t.Errorf("%s with %s read %d rows, more than %d", name, mode, read, q.most)
			}
		}
	}
}

func (s *Store) fill(ctx context.Context) error {
	return s.ReadOne(ctx, func(tx *sqldb.Tx) error {
		for _, text := range []string{fill, analyse} {
			if _, err := tx.Script(ctx, text); err != nil {
				return err
			}
		}
		return nil
	})
}

// rowsRead counts the rows of tables that PostgreSQL reads for f.
func (s *Store) rowsRead(ctx context.Context, mode string, f func(*sqldb.Tx) (any, error)) (read int64, err error) {
	const touched = `SELECT CAST(coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0) AS BIGINT) FROM pg_stat_xact_user_tables WHERE schemaname = current_schema()`
	err = s.Write(ctx, func(tx *sqldb.Tx) error {
		if _, err := tx.Script(ctx, "SET LOCAL plan_cache_mode = "+mode); err != nil {
			return err
		}
		var before int64
		if err := tx.QueryRow(ctx, touched).Scan(&before); err != nil {
			return err
		}
		if _, err := f(tx); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, touched).Scan(&read); err != nil {
			return err
		}
		read -= before
		return nil
	})
	return read, err
}

// TestClosestEventPlan: on SQLite too the event closest to a time is found by the
// index, which has the order, in both directions.
func TestClosestEventPlan(t *testing.T) {
	ctx := t.Context()
	db, err := sqldb.Open(ctx, sqldb.Options{URL: "file:" + filepath.Join(t.TempDir(), "t.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	s, err := New(ctx, db)
	if err != nil {
		t.Fatal(err)
	}
	for _, backwards := range []bool{false, true} {
		err := s.ReadOne(ctx, func(tx *sqldb.Tx) error {
			steps, err := collect(ctx, tx, func(r scanner) (step string, err error) { return step, r.Scan(new(int), new(int), new(int), &step) },
				"EXPLAIN QUERY PLAN "+closestEvent(backwards), 1, 50000, 0, 0)
			if plan := strings.Join(steps, "; "); err == nil && (!strings.Contains(plan, "USING INDEX events_time (room_nid=? AND") || strings.Contains(plan, "TEMP")) {
				t.Errorf("backwards %v: %s", backwards, plan)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
