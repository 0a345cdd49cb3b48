package storage

import (
	"context"
	"maps"
	"slices"

	"github.com/matrix-org/dendrite/common/sqldb"
)

const (
	selectPositions = `SELECT partition_id, seq FROM positions`
	// Positions only grow: who lost a partition unnoticed may still tell what it
	// has passed over.
	upsertPosition = `INSERT INTO positions (partition_id, seq) VALUES ($1, $2)
ON CONFLICT (partition_id) DO UPDATE SET seq = excluded.seq WHERE excluded.seq > positions.seq`
)

// Positions returns the last Seq that was applied of each partition.
func (d *Database) Positions(ctx context.Context) (out map[int]int64, err error) {
	err = d.db.ReadOne(ctx, func(tx *sqldb.Tx) error {
		out, err = d.PositionsTx(ctx, tx)
		return err
	})
	return out, err
}

// PositionsTx is Positions within a transaction.
func (d *Database) PositionsTx(ctx context.Context, tx *sqldb.Tx) (map[int]int64, error) {
	rows, err := tx.Query(ctx, selectPositions)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[int]int64{}
	for rows.Next() {
		var partition int
		var seq int64
		if err := rows.Scan(&partition, &seq); err != nil {
			return nil, err
		}
		out[partition] = seq
	}
	return out, rows.Err()
}

// PutPositions writes the positions of partitions.
func (d *Database) PutPositions(ctx context.Context, seqs map[int]int64) error {
	if len(seqs) == 0 {
		return nil
	}
	return d.db.WriteOne(ctx, func(tx *sqldb.Tx) error { return d.PutPositionsTx(ctx, tx, seqs) })
}

// PutPositionsTx is PutPositions within a transaction.
func (d *Database) PutPositionsTx(ctx context.Context, tx *sqldb.Tx, seqs map[int]int64) error {
	var rows [][]any
	for _, partition := range slices.Sorted(maps.Keys(seqs)) {
		rows = append(rows, []any{partition, seqs[partition]})
	}
	_, err := tx.ExecMany(ctx, upsertPosition, []int{1}, rows)
	return err
}

// ResetPosition sets a partition's position, to a lower one too.
func (d *Database) ResetPosition(ctx context.Context, tx *sqldb.Tx, partition int, seq int64) error {
	if _, err := tx.Exec(ctx, `DELETE FROM positions WHERE partition_id = $1`, partition); err != nil {
		return err
	}
	return d.PutPosition(ctx, tx, partition, seq)
}

// PutPosition writes a partition's position within a transaction, if it is
// higher than the one there.
func (d *Database) PutPosition(ctx context.Context, tx *sqldb.Tx, partition int, seq int64) error {
	_, err := tx.Exec(ctx, upsertPosition, partition, seq)
	return err
}

// ClearView forgets all that is made of room.output; what no log can restore
// stays.
func ClearView(ctx context.Context, tx *sqldb.Tx) error {
	for _, table := range []string{"rooms", "memberships", "annotations", "positions"} {
		if _, err := tx.Exec(ctx, `DELETE FROM `+table); err != nil {
			return err
		}
	}
	return nil
}

// Repartition makes the view one of so many partitions that all of them have
// been applied up to a Seq.
func Repartition(ctx context.Context, tx *sqldb.Tx, partitions int, seq int64) error {
	if _, err := tx.Exec(ctx, `DELETE FROM positions`); err != nil {
		return err
	}
	for p := range partitions {
		if _, err := tx.Exec(ctx, upsertPosition, p, seq); err != nil {
			return err
		}
	}
	return nil
}
