package storage

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
)

// The index of the test: 50,000 events of 100 of 20,000 rooms, with a term that all have, one
// that every thousandth has and one of their own, and 5,000 edits.
const fill = `
INSERT INTO rooms SELECT '!r' || n, n, 0 FROM generate_series(1, 20000) n;
INSERT INTO events SELECT n, '$e' || n, 1 + n % 100, n, '@u:test', 1, 1, 0, 3, '' FROM generate_series(1, 50000) n;
INSERT INTO terms SELECT n, array_to_tsvector(ARRAY[U&'\E000' || to_hex(1 + n % 100), 'all', 'some' || n % 1000, 'own' || n]) FROM generate_series(1, 50000) n;
INSERT INTO edits SELECT '$d' || n, '$e' || n, 1 + n % 100, '@u:test', n FROM generate_series(1, 5000) n;
`

const analyse = `VACUUM ANALYZE rooms, events, terms, edits`

// TestPlans: on PostgreSQL what is rare is found without reading much else, with the
// plan for the values and with the one for any values.
func TestPlans(t *testing.T) { t.Run(string(sqldbtest.PostgreSQL), testPlans) }

func testPlans(t *testing.T) {
	ctx := t.Context()
	d, err := New(ctx, sqldbtest.Open(t, filepath.Join(t.TempDir(), "t.db")))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.db.ReadOne(ctx, func(tx *sqldb.Tx) error {
		for _, text := range []string{fill, analyse} {
			if _, err := tx.Script(ctx, text); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	terms := func(texts ...string) (out [][]sqldb.Term) {
		for _, text := range texts {
			out = append(out, []sqldb.Term{{Text: text}})
		}
		return out
	}
	changes := NewChanges(func(string) int { return 0 })
	changes.Gone["$d7"] = 0
	changes.Edits["$new"] = Edit{EditID: "$new", ParentID: "$e9", RoomID: "!r10", Sender: "@u:test", TS: 9}
	changes.Events["$e77777"] = Event{EventID: "$e77777", RoomID: "!r1", Sender: "@u:test", TS: 5, Key: KeyBody}
	for name, q := range map[string]struct {
		run  func(tx *sqldb.Tx) error
		most int64 // rows read
	}{
		"a rare term":  {func(tx *sqldb.Tx) error { return d.found(ctx, tx, terms("own7"), nil, 1) }, 20},
		"two terms":    {func(tx *sqldb.Tx) error { return d.found(ctx, tx, terms("all", "some7"), nil, 50) }, 300},
		"a room":       {func(tx *sqldb.Tx) error { return d.found(ctx, tx, terms("some7"), []int64{8}, 50) }, 300},
		"what changes": {func(tx *sqldb.Tx) error { return d.Apply(ctx, tx, changes) }, 30},
	} {
		for _, mode := range []string{"force_custom_plan", "force_generic_plan"} {
			read, err := d.rowsRead(ctx, mode, q.run)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if read > q.most {
				t.Errorf("%s with %s read %d rows, more than %d", name, mode, read, q.most)
			}
		}
	}
}

// found fails unless as many events are found.
func (d *Database) found(ctx context.Context, tx *sqldb.Tx, terms [][]sqldb.Term, rooms []int64, want int) error {
	out, err := d.findTx(ctx, tx, terms, rooms, First, 5000)
	if err == nil && len(out) != want {
		err = fmt.Errorf("%d are found, not %d", len(out), want)
	}
	return err
}

// rowsRead counts the rows of tables that PostgreSQL reads for f.
func (d *Database) rowsRead(ctx context.Context, mode string, f func(*sqldb.Tx) error) (read int64, err error) {
	const touched = `SELECT CAST(coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0) AS BIGINT) FROM pg_stat_xact_user_tables WHERE schemaname = current_schema()`
	err = d.Write(ctx, func(tx *sqldb.Tx) error {
		if _, err := tx.Script(ctx, "SET LOCAL plan_cache_mode = "+mode); err != nil {
			return err
		}
		var before int64
		if err := tx.QueryRow(ctx, touched).Scan(&before); err != nil {
			return err
		}
		if err := f(tx); err != nil {
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
