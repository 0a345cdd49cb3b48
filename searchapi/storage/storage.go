package storage

import (
	"context"
	"embed"
	"fmt"

	"github.com/matrix-org/dendrite/common/sqldb"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Database is the search-server's.
type Database struct{ db *sqldb.DB }

// New brings the schema up to date.
func New(ctx context.Context, db *sqldb.DB) (*Database, error) {
	if err := db.Migrate(ctx, "search", migrations); err != nil {
		return nil, fmt.Errorf("searchapi/storage: %w", err)
	}
	return &Database{db: db}, nil
}

// Write runs a transaction for the methods that take a Tx.
func (d *Database) Write(ctx context.Context, f func(*sqldb.Tx) error) error {
	return d.db.Write(ctx, f)
}

// Lock has whoever else changes what is known of these partitions wait for the
// transaction.
func (d *Database) Lock(ctx context.Context, tx *sqldb.Tx, partitions []int) error {
	rows := make([][]any, len(partitions))
	for i, p := range partitions {
		rows[i] = []any{p}
	}
	_, err := tx.ExecMany(ctx, `INSERT INTO positions (partition_id, seq) VALUES ($1, 0) ON CONFLICT (partition_id) DO UPDATE SET seq = positions.seq`, []int{1}, rows)
	return err
}

// Positions returns the last Seq that is indexed of each partition.
func (d *Database) Positions(ctx context.Context) (out map[int]int64, err error) {
	err = d.db.ReadOne(ctx, func(tx *sqldb.Tx) error {
		out = map[int]int64{}
		return tx.Each(ctx, func(scan func(...any) error) error {
			var partition int
			var seq int64
			err := scan(&partition, &seq)
			out[partition] = seq
			return err
		}, `SELECT partition_id, seq FROM positions`)
	})
	return out, err
}

const setPosition = `INSERT INTO positions (partition_id, seq) VALUES ($1, $2) ON CONFLICT (partition_id) DO UPDATE SET seq = excluded.seq`

// PutPositions writes how far partitions are indexed. Like Lock, it has others wait.
func (d *Database) PutPositions(ctx context.Context, tx *sqldb.Tx, seqs map[int]int64) error {
	rows := make([][]any, 0, len(seqs))
	for partition, seq := range seqs {
		rows = append(rows, []any{partition, seq})
	}
	_, err := tx.ExecMany(ctx, setPosition, []int{1}, rows)
	return err
}

// Clear forgets all.
func Clear(ctx context.Context, tx *sqldb.Tx) error {
	for _, table := range []string{"positions", "rooms", "events", "terms", "edits", "stale", "purged", "histories", "gone"} {
		if _, err := tx.Exec(ctx, `DELETE FROM `+table); err != nil {
			return err
		}
	}
	return nil
}
