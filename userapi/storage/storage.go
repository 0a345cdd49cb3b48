package storage

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

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
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, fmt.Errorf("userapi: migrations: %w", err)
	}
	if err := db.Migrate(ctx, "userapi", sub); err != nil {
		return nil, fmt.Errorf("userapi: %w", err)
	}
	d := &Database{DB: db, partitions: partitions}
	err = db.Write(ctx, func(tx *sqldb.Tx) error {
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

// found turns sql.ErrNoRows into false.
func found(err error) (bool, error) {
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// each calls f for every row, whose columns f scans.
func each(ctx context.Context, tx *sqldb.Tx, f func(scan func(...any) error) error, text string, args ...any) error {
	rows, err := tx.Query(ctx, text, args...)
	if err != nil {
		return err
	}
	for rows.Next() {
		if err := f(rows.Scan); err != nil {
			return errors.Join(err, rows.Close())
		}
	}
	return errors.Join(rows.Err(), rows.Close())
}

// affected tells whether a statement changed any row.
func affected(res sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n > 0, err
}
