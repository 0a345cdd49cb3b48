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

// Positions are the last Seq of each partition, and the last number given to an
// event without one.
type Positions struct{ Seqs, Others []int64 }

// Positions returns those of the first partitions.
func (s *Store) Positions(ctx context.Context, tx *sqldb.Tx, partitions int) (Positions, error) {
	out := Positions{make([]int64, partitions), make([]int64, partitions)}
	type row struct{ partition, seq, others int64 }
	rows, err := collect(ctx, tx, func(r scanner) (v row, err error) { return v, r.Scan(&v.partition, &v.seq, &v.others) },
		`SELECT partition_id, seq, others FROM positions`)
	for _, r := range rows {
		if int(r.partition) < partitions {
			out.Seqs[r.partition], out.Others[r.partition] = r.seq, r.others
		}
	}
	return out, err
}
