package storage

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// numberRooms returns the numbers of the rooms that changes are of; those that
// have none yet get one.
func (d *Database) numberRooms(ctx context.Context, tx *sqldb.Tx, c *Changes) (map[string]int64, error) {
	ids := map[string]struct{}{}
	for _, e := range c.Events {
		ids[e.RoomID] = struct{}{}
	}
	for _, e := range c.Edits {
		ids[e.RoomID] = struct{}{}
	}
	sorted := slices.Sorted(maps.Keys(ids))
	out, err := d.roomNumbers(ctx, tx, sorted)
	if err != nil || len(out) == len(ids) {
		return out, err
	}
	var rows [][]any
	for _, id := range sorted {
		if out[id] == 0 {
			out[id] = 1 + rand.Int64N(1<<62) // of so many that none is drawn twice
			rows = append(rows, []any{id, out[id], c.Partition(id)})
		}
	}
	_, err = tx.ExecMany(ctx, `INSERT INTO rooms (room_id, room_nid, partition_id) VALUES ($1, $2, $3)`, nil, rows)
	return out, err
}

func (d *Database) roomNumbers(ctx context.Context, tx *sqldb.Tx, ids []string) (map[string]int64, error) {
	out := map[string]int64{}
	if len(ids) == 0 {
		return out, nil
	}
	return out, tx.Each(ctx, func(scan func(...any) error) error {
		var id string
		var nid int64
		err := scan(&id, &nid)
		out[id] = nid
		return err
	}, `SELECT room_id, room_nid FROM rooms WHERE room_id `+d.db.Any("$1"), sqldb.List(ids))
}

// RoomNumbers returns the numbers of those rooms that have any events here.
func (d *Database) RoomNumbers(ctx context.Context, ids []string) (out map[string]int64, err error) {
	err = d.db.ReadOne(ctx, func(tx *sqldb.Tx) error {
		out, err = d.roomNumbers(ctx, tx, ids)
		return err
	})
	return out, err
}

// Purge forgets a room of a partition: nothing of it is found from now on. Its events
// are removed by Sweep.
func (d *Database) Purge(ctx context.Context, tx *sqldb.Tx, partition int, id string) error {
	if err := d.forget(ctx, tx, "room_id", id); err != nil {
		return err
	}
	return d.Bury(ctx, tx, map[string]int{id: partition})
}

// forget forgets the rooms with this in a column: their events are not found, and are
// removed by Sweep.
func (d *Database) forget(ctx context.Context, tx *sqldb.Tx, column string, value any) error {
	where := " WHERE " + column + " = $1"
	for _, text := range []string{
		"INSERT INTO purged (room_nid, partition_id) SELECT room_nid, partition_id FROM rooms" + where,
		"DELETE FROM edits WHERE room_nid IN (SELECT room_nid FROM rooms" + where + ")",
		"DELETE FROM stale" + where,
		"DELETE FROM rooms" + where,
	} {
		if _, err := tx.Exec(ctx, text, value); err != nil {
			return err
		}
	}
	return nil
}

// Sweep removes some events of a room that was purged, of one of these partitions;
// it tells whether there was anything to do.
func (d *Database) Sweep(ctx context.Context, partitions []int64, limit int) (some bool, err error) {
	err = d.db.Write(ctx, func(tx *sqldb.Tx) error {
		var room int64
		var partition int
		some, err = sqldb.Found(tx.QueryRow(ctx, `SELECT room_nid, partition_id FROM purged WHERE partition_id `+d.db.Any("$1")+` ORDER BY room_nid LIMIT 1`,
			sqldb.List(partitions)).Scan(&room, &partition))
		if err != nil || !some {
			return err
		}
		if err := d.Lock(ctx, tx, []int{partition}); err != nil {
			return err
		}
		query := d.db.TermQuery([][]sqldb.Term{{{Text: roomTerm(room)}}})
		nids, err := numbers(ctx, tx, d.db.FindTerms("terms", "words", "$1", "$2", "$3"), query, int64(First), limit)
		if err != nil {
			return err
		}
		if len(nids) == 0 {
			_, err := tx.Exec(ctx, `DELETE FROM purged WHERE room_nid = $1`, room)
			return err
		}
		slices.Sort(nids)
		return remove(ctx, tx, nids)
	})
	return some, err
}
