package storage

import (
	"context"
	"errors"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// History is a partition's history that is being read.
type History struct {
	Partition int
	ToSeq     int64
	// AfterRoom is the last room that is done; RoomID the one that is not, up to
	// AtSeq and AtSub, or "".
	AfterRoom, RoomID string
	AtSeq, AtSub      int64
}

// Begin has the history of a partition read up to a Seq, from the beginning, and
// what comes after that indexed as it comes. What is there is forgotten: it may have
// been redacted or purged since.
func (d *Database) Begin(ctx context.Context, partition int, toSeq int64) error {
	return d.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := d.PutPositions(ctx, tx, map[int]int64{partition: toSeq}); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO histories (partition_id, to_seq, after_room, room_id, at_seq, at_sub) VALUES ($1, $2, '', '', 0, 0)
ON CONFLICT (partition_id) DO UPDATE SET to_seq = excluded.to_seq, after_room = '', room_id = '', at_seq = 0, at_sub = 0`, partition, toSeq)
		if err != nil {
			return err
		}
		return d.forget(ctx, tx, "partition_id", partition)
	})
}

// Histories lists what is being read of partitions.
func (d *Database) Histories(ctx context.Context, partitions []int64) (out []History, err error) {
	err = d.db.ReadOne(ctx, func(tx *sqldb.Tx) error {
		out = nil
		return tx.Each(ctx, func(scan func(...any) error) error {
			var h History
			err := scan(&h.Partition, &h.ToSeq, &h.AfterRoom, &h.RoomID, &h.AtSeq, &h.AtSub)
			out = append(out, h)
			return err
		}, `SELECT partition_id, to_seq, after_room, room_id, at_seq, at_sub FROM histories WHERE partition_id `+d.db.Any("$1")+` ORDER BY partition_id`,
			sqldb.List(partitions))
	})
	return out, err
}

// ErrMoved says that somebody else has gone on with a history.
var ErrMoved = errors.New("searchapi/storage: another instance reads this history")

// Advance indexes what was read of a history, but for what is gone meanwhile, and
// notes how far it has come. What was found to have no text is not indexed any more.
func (d *Database) Advance(ctx context.Context, from, to History, roomID string, c *Changes) error {
	return d.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := d.Lock(ctx, tx, []int{from.Partition}); err != nil {
			return err
		}
		moved, err := sqldb.Affected(tx.Exec(ctx, `UPDATE histories SET after_room = $1, room_id = $2, at_seq = $3, at_sub = $4
WHERE partition_id = $5 AND to_seq = $6 AND after_room = $7 AND room_id = $8 AND at_seq = $9 AND at_sub = $10`,
			to.AfterRoom, to.RoomID, to.AtSeq, to.AtSub, from.Partition, from.ToSeq, from.AfterRoom, from.RoomID, from.AtSeq, from.AtSub))
		if err == nil && !moved {
			err = ErrMoved
		}
		if err != nil || c.Empty() {
			return err
		}
		kept, err := d.stillThere(ctx, tx, c, roomID)
		if err != nil {
			return err
		}
		return d.Apply(ctx, tx, kept)
	})
}

// stillThere leaves out what was redacted or purged since it was read.
func (d *Database) stillThere(ctx context.Context, tx *sqldb.Tx, c *Changes, roomID string) (*Changes, error) {
	ids := []string{roomID}
	for id := range c.Events {
		ids = append(ids, id)
	}
	for id := range c.Edits {
		ids = append(ids, id)
	}
	gone, err := tx.Texts(ctx, `SELECT id FROM gone WHERE id `+d.db.Any("$1"), sqldb.List(ids))
	if err != nil || len(gone) == 0 {
		return c, err
	}
	kept := NewChanges(c.Partition) // a transaction may run again
	out := map[string]bool{}
	for _, id := range gone {
		out[id] = true
	}
	if out[roomID] {
		return kept, nil
	}
	kept.Gone, kept.Texts = c.Gone, c.Texts
	for id, e := range c.Events {
		if !out[id] {
			kept.Events[id] = e
		}
	}
	for id, e := range c.Edits {
		if !out[id] {
			kept.Edits[id] = e
		}
	}
	return kept, nil
}

// Finish ends a history that has been read.
func (d *Database) Finish(ctx context.Context, h History) error {
	return d.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := d.Lock(ctx, tx, []int{h.Partition}); err != nil {
			return err
		}
		done, err := sqldb.Affected(tx.Exec(ctx, `DELETE FROM histories WHERE partition_id = $1 AND to_seq = $2 AND after_room = $3 AND room_id = $4`,
			h.Partition, h.ToSeq, h.AfterRoom, h.RoomID))
		if err != nil || !done {
			return err
		}
		_, err = tx.Exec(ctx, `DELETE FROM gone WHERE partition_id = $1`, h.Partition)
		return err
	})
}
