package storage

import (
	"context"

	"github.com/matrix-org/dendrite/common/sqldb"
)

const (
	selectPositions = `SELECT partition_id, seq FROM positions`
	upsertPosition  = `INSERT INTO positions (partition_id, seq) VALUES ($1, $2)
ON CONFLICT (partition_id) DO UPDATE SET seq = excluded.seq`
)

// Positions returns the last Seq that was applied of each partition.
func (d *Database) Positions(ctx context.Context) (out map[int]int64, err error) {
	err = d.db.Read(ctx, func(tx *sqldb.Tx) error {
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

// PutPosition writes a partition's position within a transaction.
func (d *Database) PutPosition(ctx context.Context, tx *sqldb.Tx, partition int, seq int64) error {
	_, err := tx.Exec(ctx, upsertPosition, partition, seq)
	return err
}
