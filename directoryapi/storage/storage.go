package storage

import (
	"context"
	"embed"
	"fmt"
	"strings"

	"github.com/matrix-org/dendrite/common/sqldb"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Database is the directory-api's.
type Database struct{ db *sqldb.DB }

// New brings the schema up to date.
func New(ctx context.Context, db *sqldb.DB) (*Database, error) {
	if err := db.Migrate(ctx, "directory", migrations); err != nil {
		return nil, fmt.Errorf("directoryapi/storage: %w", err)
	}
	return &Database{db: db}, nil
}

// Write runs a transaction for the methods that take a Tx.
func (d *Database) Write(ctx context.Context, f func(*sqldb.Tx) error) error {
	return d.db.Write(ctx, f)
}

// texts reads the only column of a query in a transaction of its own.
func (d *Database) texts(ctx context.Context, text string, args ...any) (out []string, err error) {
	err = d.db.Read(ctx, func(tx *sqldb.Tx) (err error) {
		out, err = tx.Texts(ctx, text, args...)
		return err
	})
	return out, err
}

// clean makes text storable: PostgreSQL takes no NUL, which content may hold.
func clean(s string) string {
	if strings.IndexByte(s, 0) < 0 {
		return s
	}
	return strings.ReplaceAll(s, "\x00", "\uFFFD")
}

func number(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
