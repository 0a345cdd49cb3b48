package storage

import (
	"context"
	"embed"
	"fmt"

	"github.com/matrix-org/dendrite/common/sqldb"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Database is the user-api's database.
type Database struct {
	*sqldb.DB
	partitions int
}

// New brings the schema up to date. Partitions are those of user.output.
func New(ctx context.Context, db *sqldb.DB, partitions int) (*Database, error) {
	if err := db.Migrate(ctx, "userapi", migrations); err != nil {
		return nil, fmt.Errorf("userapi: %w", err)
	}
	d := &Database{DB: db, partitions: partitions}
	err := db.Write(ctx, func(tx *sqldb.Tx) error {
		rows := make([][]any, partitions)
		for p := range rows {
			rows[p] = []any{p}
		}
		_, err := tx.ExecMany(ctx, "INSERT INTO output_heads (partition_id, seq) VALUES ($1, 0) ON CONFLICT DO NOTHING", []int{1}, rows)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("userapi: heads: %w", err)
	}
	return d, nil
}
