package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
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
	path := (&url.URL{Path: strings.TrimPrefix(o.URL, "file:")}).EscapedPath()
	db, err := sql.Open("sqlite", "file:"+path+"?"+q.Encode())
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
	return &DB{engine: engineSQLite, sql: db, writers: newPool(db, 1), readers: newPool(db, readers)}, nil
}

// rolledBack tells whether a ROLLBACK failed because SQLite had rolled back by
// itself, as it does when the disk is full.
func rolledBack(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code() == sqlite3.SQLITE_ERROR && strings.Contains(e.Error(), "no transaction is active")
}
