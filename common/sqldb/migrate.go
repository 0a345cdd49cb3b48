package sqldb

import (
	"context"
	"fmt"
	"io/fs"
	"strings"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
)

// Migrate brings the schema up to date with the SQL files (00001_name.sql, in
// goose's format) in the folder migrations of fsys. One text serves both engines. Each
// component counts its versions in a table of its own, goose_<component>, so
// several may share a database. A migration only adds (design, "Scale"): the
// previous release runs beside it. A database that is marked is refused.
func (db *DB) Migrate(ctx context.Context, component string, fsys fs.FS) error {
	if component == "" || strings.Trim(component, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
		return fmt.Errorf("sqldb: %q does not name a component: a-z, 0-9 and _ do", component)
	}
	if err := db.refuseMarked(ctx); err != nil {
		return err
	}
	fsys, err := fs.Sub(fsys, "migrations")
	if err != nil {
		return fmt.Errorf("sqldb: migrations of %s: %w", component, err)
	}
	dialect, options := database.DialectSQLite3, []goose.ProviderOption{}
	if db.engine == engineSQLite {
		fsys = sqliteFS{fsys}
	}
	if db.engine == enginePostgres {
		dialect = database.DialectPostgres
		options = append(options, goose.WithSessionLocker(sessionLock{"/" + component})) // instances that start together take turns
	}
	store, err := database.NewStore(dialect, "goose_"+component)
	if err != nil {
		return fmt.Errorf("sqldb: migrations of %s: %w", component, err)
	}
	p, err := goose.NewProvider("", db.sql, fsys, append(options, goose.WithStore(store))...)
	if err != nil {
		return fmt.Errorf("sqldb: migrations of %s: %w", component, err)
	}
	if _, err := p.Up(ctx); err != nil {
		return explain(fmt.Errorf("sqldb: migrate %s: %w", component, err))
	}
	return nil
}
