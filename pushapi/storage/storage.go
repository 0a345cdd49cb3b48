package storage

import (
	"context"
	"embed"
	"fmt"

	"github.com/matrix-org/dendrite/common/sqldb"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Database is the push-server's.
type Database struct{ db *sqldb.DB }

// New brings the schema up to date.
func New(ctx context.Context, db *sqldb.DB) (*Database, error) {
	if err := db.Migrate(ctx, "push", migrations); err != nil {
		return nil, fmt.Errorf("pushapi/storage: %w", err)
	}
	return &Database{db: db}, nil
}

// Write runs a transaction for the methods that take a Tx.
func (d *Database) Write(ctx context.Context, f func(*sqldb.Tx) error) error {
	return d.db.Write(ctx, f)
}

const upsertPosition = `INSERT INTO positions (partition_id, seq) VALUES ($1, $2)
ON CONFLICT (partition_id) DO UPDATE SET seq = excluded.seq WHERE excluded.seq > positions.seq`

// Position returns the last Seq of a partition that was judged; 0 for none.
func (d *Database) Position(ctx context.Context, partition int) (seq int64, err error) {
	err = d.db.ReadOne(ctx, func(tx *sqldb.Tx) error {
		_, err := sqldb.Found(tx.QueryRow(ctx, `SELECT seq FROM positions WHERE partition_id = $1`, partition).Scan(&seq))
		return err
	})
	return seq, err
}

// PutPositions writes partitions' positions, where they are higher than those there.
func (d *Database) PutPositions(ctx context.Context, tx *sqldb.Tx, seqs map[int]int64) error {
	rows := make([][]any, 0, len(seqs))
	for partition, seq := range seqs {
		rows = append(rows, []any{partition, seq})
	}
	_, err := tx.ExecMany(ctx, upsertPosition, []int{1}, rows)
	return err
}

// Repartition makes the positions those of so many partitions, all of which have
// been judged up to a Seq.
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
