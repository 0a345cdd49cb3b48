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

// Database is the media-api's.
type Database struct{ db *sqldb.DB }

// New brings the schema up to date.
func New(ctx context.Context, db *sqldb.DB) (*Database, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	if err := db.Migrate(ctx, "media", files); err != nil {
		return nil, fmt.Errorf("mediaapi/storage: %w", err)
	}
	return &Database{db: db}, nil
}

// found turns the error of a row that is not there into false.
func found(err error) (bool, error) {
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// affected tells whether a statement changed a row.
func affected(res sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

// each calls f for each row of a query.
func each(ctx context.Context, tx *sqldb.Tx, f func(scan func(...any) error) error, text string, args ...any) error {
	rows, err := tx.Query(ctx, text, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// texts reads the only column of a query.
func texts(ctx context.Context, tx *sqldb.Tx, text string, args ...any) (out []string, err error) {
	err = each(ctx, tx, func(scan func(...any) error) error {
		var s string
		err := scan(&s)
		out = append(out, s)
		return err
	}, text, args...)
	return out, err
}
