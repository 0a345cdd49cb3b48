package storage

import (
	"context"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
)

// Change takes the next Seq of the user's partition and writes the change's
// row of the outbox: in the transaction of what it tells of.
func (d *Database) Change(ctx context.Context, tx *sqldb.Tx, c api.UserChange) (api.WriteResponse, error) {
	return d.change(ctx, tx, eventlog.PartitionFor(c.UserID, d.partitions), c)
}

// change writes changes of a partition, in order, and returns the last's Seq.
func (d *Database) change(ctx context.Context, tx *sqldb.Tx, partition int, changes ...api.UserChange) (api.WriteResponse, error) {
	res := api.WriteResponse{Partition: partition}
	err := tx.QueryRow(ctx, "UPDATE output_heads SET seq = seq + $1 WHERE partition_id = $2 RETURNING seq", len(changes), res.Partition).Scan(&res.Seq)
	if err != nil {
		return res, fmt.Errorf("userapi: next seq: %w", err)
	}
	rows, now := make([][]any, len(changes)), time.Now().UnixMilli()
	for i, c := range changes {
		c.V, c.Seq = 1, res.Seq-int64(len(changes)-1-i)
		value, err := json.Marshal(&c)
		if err != nil {
			return res, fmt.Errorf("userapi: encoding a change: %w", err)
		}
		rows[i] = []any{res.Partition, c.Seq, c.UserID, string(value), now}
	}
	_, err = tx.ExecMany(ctx, "INSERT INTO outbox (partition_id, seq, user_id, value, created_ts) VALUES ($1, $2, $3, $4, $5)", nil, rows)
	return res, err
}

// Changes is Change for changes of any users, which keep their order in each
// partition. It returns their Seqs.
func (d *Database) Changes(ctx context.Context, tx *sqldb.Tx, changes []api.UserChange) ([]int64, error) {
	places := make([][]int, d.partitions) // of changes, by partition
	for i := range changes {
		p := eventlog.PartitionFor(changes[i].UserID, d.partitions)
		places[p] = append(places[p], i)
	}
	seqs := make([]int64, len(changes))
	for p, list := range places { // in one order, so that nobody waits in a circle
		if len(list) == 0 {
			continue
		}
		some := make([]api.UserChange, len(list))
		for n, i := range list {
			some[n] = changes[i]
		}
		res, err := d.change(ctx, tx, p, some...)
		if err != nil {
			return nil, err
		}
		for n, i := range list {
			seqs[i] = res.Seq - int64(len(list)-1-n)
		}
	}
	return seqs, nil
}

// OutboxRow is a change that waits to be published.
type OutboxRow struct {
	Seq           int64
	UserID, Value string
}

// Resync tells whether the change is one that may follow any other.
func (r *OutboxRow) Resync() bool {
	var c api.UserChange
	return json.Unmarshal([]byte(r.Value), &c) == nil && c.Kind == api.ChangeResync
}

// Outbox returns the rows of a partition after a Seq, at most limit.
func (d *Database) Outbox(ctx context.Context, partition int, after int64, limit int) (out []OutboxRow, err error) {
	err = d.ReadOne(ctx, func(tx *sqldb.Tx) error {
		out = nil
		return tx.Each(ctx, func(scan func(...any) error) error {
			var r OutboxRow
			err := scan(&r.Seq, &r.UserID, &r.Value)
			out = append(out, r)
			return err
		}, "SELECT seq, user_id, value FROM outbox WHERE partition_id = $1 AND seq > $2 ORDER BY seq LIMIT $3", partition, after, limit)
	})
	return out, err
}

// DropOutbox deletes the rows of a partition up to a Seq that are older than
// the time given in milliseconds.
func (d *Database) DropOutbox(ctx context.Context, tx *sqldb.Tx, partition int, upTo, olderThan int64) error {
	_, err := tx.Exec(ctx, "DELETE FROM outbox WHERE partition_id = $1 AND seq <= $2 AND created_ts < $3", partition, upTo, olderThan)
	return err
}

// Head returns the last Seq of a partition.
func (d *Database) Head(ctx context.Context, partition int) (seq int64, err error) {
	seqs, err := d.Heads(ctx)
	if err != nil {
		return 0, err
	}
	return seqs[partition], nil
}

// Heads returns the last Seq of each partition.
func (d *Database) Heads(ctx context.Context) ([]int64, error) {
	seqs := make([]int64, d.partitions)
	err := d.ReadOne(ctx, func(tx *sqldb.Tx) error {
		return tx.Each(ctx, func(scan func(...any) error) error {
			var p int
			var seq int64
			if err := scan(&p, &seq); err != nil {
				return err
			}
			if p < len(seqs) {
				seqs[p] = seq
			}
			return nil
		}, "SELECT partition_id, seq FROM output_heads")
	})
	return seqs, err
}

// HeadOf returns the last Seq of a user's partition, within a transaction.
func (d *Database) HeadOf(ctx context.Context, tx *sqldb.Tx, userID string) (seq int64, err error) {
	err = tx.QueryRow(ctx, "SELECT seq FROM output_heads WHERE partition_id = $1", eventlog.PartitionFor(userID, d.partitions)).Scan(&seq)
	return seq, err
}
