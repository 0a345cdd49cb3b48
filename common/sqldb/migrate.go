package sqldb

import (
	"context"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

// Migrate brings the schema up to date with the SQL files (00001_name.sql, in
// goose's format) at the root of fsys; component names it in errors. One text
// serves both engines. A migration only adds (design, "Scale"): the previous
// release runs beside it.
func (db *DB) Migrate(ctx context.Context, component string, fsys fs.FS) error {
	dialect := database.DialectSQLite3
	if db.engine == enginePostgres {
		dialect = database.DialectPostgres
	}
	p, err := goose.NewProvider(dialect, db.sql, fsys)
	if err != nil {
		return fmt.Errorf("sqldb: migrations of %s: %w", component, err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("sqldb: migrate %s: %w", component, err)
	}
	return nil
}
