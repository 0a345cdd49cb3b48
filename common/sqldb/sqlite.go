package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	_ "modernc.org/sqlite" // the driver
)

// A write-ahead log of this many pages of 4 KiB is written back at a commit.
const checkpointPages = 2000

func openSQLite(ctx context.Context, o Options) (*DB, error) {
	synchronous := "NORMAL"
	if o.Durable {
		synchronous = "FULL"
	}
	cache := o.CacheBytes
	if cache == 0 {
		cache = 8 << 20
	}
	q := url.Values{"_pragma": {
		"busy_timeout(10000)",
		"journal_mode(WAL)",
		"synchronous(" + synchronous + ")",
		"foreign_keys(ON)",
		fmt.Sprintf("cache_size(-%d)", cache>>10),
		fmt.Sprintf("wal_autocheckpoint(%d)", checkpointPages),
		fmt.Sprintf("journal_size_limit(%d)", 2*checkpointPages*4096),
		"temp_store(MEMORY)",
	}}
	path := strings.TrimPrefix(o.URL, "file:")
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+q.Encode())
	if err != nil {
		return nil, fmt.Errorf("sqldb: %w", err)
	}
	readers := o.Connections
	if readers == 0 {
		readers = 4
	}
	db.SetMaxOpenConns(readers + 2) // the writer, and migrations
	db.SetMaxIdleConns(readers + 2)
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("sqldb: open %s: %w", o.URL, err), db.Close())
	}
	statements := new(atomic.Int64)
	return &DB{engine: engineSQLite, sql: db, path: path, statements: statements, writers: newPool(db, 1, statements), readers: newPool(db, readers, statements)}, nil
}

// syncSQLite puts on disk what was committed. What is in the write-ahead log
// only is synced here, whatever descriptor wrote it; what was copied from there
// into the database was synced by that checkpoint. A checkpoint would not do: it
// gives up, and says so in a row only, when a reader is in its way. The folder
// is synced for the names of new files.
func syncSQLite(path string) error {
	for _, name := range []string{path + "-wal", filepath.Dir(path)} {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // nothing was written since the log was removed, synced
		}
		if err != nil {
			return err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return err
		}
	}
	return nil
}
