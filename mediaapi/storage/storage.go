package storage

import (
	"context"
	"embed"
	"fmt"

	"github.com/matrix-org/dendrite/common/sqldb"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Database is the media-api's.
type Database struct{ db *sqldb.DB }

// New brings the schema up to date.
func New(ctx context.Context, db *sqldb.DB) (*Database, error) {
	if err := db.Migrate(ctx, "media", migrations); err != nil {
		return nil, fmt.Errorf("mediaapi/storage: %w", err)
	}
	return &Database{db: db}, nil
}
