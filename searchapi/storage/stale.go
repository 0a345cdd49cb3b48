package storage

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// Stale is an event whose newest text is to be read from the room server: that of
// the event TextID, which may be itself.
type Stale struct{ EventID, RoomID, TextID string }

// Reverted returns the events whose newest text is that of one of these events, and
// what it is without these.
func (d *Database) Reverted(ctx context.Context, gone []string) (out []Stale, err error) {
	err = d.db.Read(ctx, func(tx *sqldb.Tx) error {
		parents, err := tx.Texts(ctx, `SELECT parent_id FROM edits WHERE edit_id `+d.db.Any("$1"), sqldb.List(gone))
		if err != nil {
			return err
		}
		out, err = d.textsOf(ctx, tx, parents, gone)
		return err
	})
	return out, err
}

// Stale lists some events of partitions that are without their texts.
func (d *Database) Stale(ctx context.Context, partitions []int64, limit int) (out []Stale, err error) {
	err = d.db.Read(ctx, func(tx *sqldb.Tx) error {
		ids, err := tx.Texts(ctx, `SELECT event_id FROM stale WHERE partition_id `+d.db.Any("$1")+` ORDER BY event_id LIMIT $2`, sqldb.List(partitions), limit)
		if err != nil {
			return err
		}
		out, err = d.textsOf(ctx, tx, ids, nil)
		for _, id := range ids { // redacted since
			if !slices.ContainsFunc(out, func(s Stale) bool { return s.EventID == id }) {
				out = append(out, Stale{EventID: id})
			}
		}
		return err
	})
	return out, err
}

func (d *Database) textsOf(ctx context.Context, tx *sqldb.Tx, ids, but []string) (out []Stale, err error) {
	rows := map[string]*row{}
	if err := d.addStored(ctx, tx, rows, ids); err != nil || len(rows) == 0 {
		return nil, err
	}
	edits, err := d.newest(ctx, tx, rows, but)
	for _, id := range slices.Sorted(maps.Keys(rows)) {
		out = append(out, Stale{EventID: id, RoomID: rows[id].RoomID, TextID: cmp.Or(edits[id], id)})
	}
	return out, err
}

// Refresh gives events of partitions their texts, as far as these are known; others
// have been edited meanwhile.
func (d *Database) Refresh(ctx context.Context, partitions []int, list []Stale, texts map[string][]string, partition func(string) int) error {
	ids := make([]string, len(list))
	for i, s := range list {
		ids[i] = s.EventID
	}
	return d.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := d.Lock(ctx, tx, partitions); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `DELETE FROM stale WHERE event_id `+d.db.Any("$1"), sqldb.List(ids)); err != nil {
			return err
		}
		rows := map[string]*row{}
		if err := d.addStored(ctx, tx, rows, ids); err != nil {
			return err
		}
		for _, r := range rows {
			r.stale = true
		}
		return d.writeNewest(ctx, tx, rows, texts, partition)
	})
}
