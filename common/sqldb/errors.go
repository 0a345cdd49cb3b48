package sqldb

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/lib/pq"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// ErrUnavailable says that the database cannot do now what it could at another
// time: the disk is full or fails, somebody else holds it, the server is away.
// Errors that wrap it also wrap the engine's.
var ErrUnavailable = errors.New("sqldb: unavailable")

// explain marks an error with ErrUnavailable where it is one.
func explain(err error) error {
	if err == nil || errors.Is(err, ErrUnavailable) || !unavailable(err) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// unavailable tells whether an error is one of the disk, of a lock or of the
// way to the server, not of what was asked.
func unavailable(err error) bool {
	var e *sqlite.Error
	if errors.As(err, &e) {
		switch e.Code() & 0xff { // the rest says more precisely what happened
		case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY:
			return true
		}
		return false
	}
	if code := state(err); code != "" {
		return unavailableState(code)
	}
	return lost(err)
}

// state is PostgreSQL's SQLSTATE of an error; "" if it has none.
func state(err error) string {
	var e *pq.Error
	if errors.As(err, &e) {
		return string(e.Code)
	}
	return ""
}

func unavailableState(code string) bool {
	switch code {
	case "57014", // canceled: by statement_timeout, or an operator
		"55P03",                   // lock_timeout
		"25P03", "25P04", "57P05", // ended for being idle or too long
		"57P01", "57P02", "57P03", // shutting down, crashed, starting
		"25006": // a standby by now
		return true
	}
	// Connections; resources; the system itself, as its disk.
	return strings.HasPrefix(code, "08") || strings.HasPrefix(code, "53") || strings.HasPrefix(code, "58")
}

// lost tells whether an error says that the connection is gone.
func lost(err error) bool {
	var network *net.OpError // not net.Error: a context's end is one too
	return errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.As(err, &network)
}

// IsConflict tells whether a transaction failed because of another one, and
// may succeed when it runs again (SQLSTATE 40001 and 40P01).
func IsConflict(err error) bool {
	code := state(err)
	return code == "40001" || code == "40P01"
}

// IsUniqueViolation tells whether a row was refused because its key is taken.
func IsUniqueViolation(err error) bool {
	if state(err) == "23505" {
		return true
	}
	var s *sqlite.Error
	return errors.As(err, &s) &&
		(s.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE || s.Code() == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
}

// rolledBack tells whether a ROLLBACK failed because SQLite had rolled back by
// itself, as it does when the disk is full.
func rolledBack(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code() == sqlite3.SQLITE_ERROR && strings.Contains(e.Error(), "no transaction is active")
}
