package storage

import (
	"context"
	"embed"
	"fmt"
	"io/fs"

	"github.com/matrix-org/dendrite/common/sqldb"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Store is the room server's database.
type Store struct{ *sqldb.DB }

// New brings the schema up to date.
func New(ctx context.Context, db *sqldb.DB) (*Store, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, fmt.Errorf("roomserver/storage: %w", err)
	}
	if err := db.Migrate(ctx, "roomserver", files); err != nil {
		return nil, err
	}
	return &Store{db}, nil
}

// scanner is a row.
type scanner interface{ Scan(dest ...any) error }

// collect reads all rows of a query.
func collect[T any](ctx context.Context, tx *sqldb.Tx, scan func(scanner) (T, error), text string, args ...any) ([]T, error) {
	rows, err := tx.Query(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, rows.Err()
}

// Positions returns the last Seq of each partition.
func (s *Store) Positions(ctx context.Context, tx *sqldb.Tx, partitions int) ([]int64, error) {
	out := make([]int64, partitions)
	type row struct{ partition, seq int64 }
	rows, err := collect(ctx, tx, func(r scanner) (v row, err error) { return v, r.Scan(&v.partition, &v.seq) },
		`SELECT partition_id, seq FROM positions`)
	for _, r := range rows {
		if int(r.partition) < partitions {
			out[r.partition] = r.seq
		}
	}
	return out, err
}

// PutPosition stores the last Seq of a partition.
func (s *Store) PutPosition(ctx context.Context, tx *sqldb.Tx, partition int, seq int64) error {
	_, err := tx.Exec(ctx, `INSERT INTO positions (partition_id, seq) VALUES ($1, $2)
		ON CONFLICT (partition_id) DO UPDATE SET seq = excluded.seq`, partition, seq)
	return err
}
