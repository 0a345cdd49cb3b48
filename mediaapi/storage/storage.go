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
