package sqldbtest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// Engine names an engine: the name of the subtest that runs on it.
type Engine string

// The engines.
const (
	SQLite     Engine = "SQLite"
	PostgreSQL Engine = "PostgreSQL"
)

// Each runs a test on each engine, as a subtest. Options tells from its name
// which one it is on.
func Each(t *testing.T, test func(t *testing.T)) {
	for _, engine := range []Engine{SQLite, PostgreSQL} {
		t.Run(string(engine), test)
	}
}

// EngineOf returns the engine of a test: PostgreSQL within Each's subtest of
// that name, else SQLite.
func EngineOf(t testing.TB) Engine {
	if strings.Contains(t.Name()+"/", "/"+string(PostgreSQL)+"/") {
		return PostgreSQL
	}
	return SQLite
}

// connections are how many a database gets: several servers' stores are open at
// once, in several packages.
const connections = 6

// Options say which database to open for the path of a file, in a folder of the
// test's own: that file on SQLite, on PostgreSQL a schema named after it. The
// same path is the same database, until the end of the test that named it first.
func Options(t testing.TB, path string) sqldb.Options {
	t.Helper()
	if EngineOf(t) == SQLite {
		return sqldb.Options{URL: "file:" + path}
	}
	s := Server(t)
	sum := sha256.Sum256(fmt.Append(nil, os.Getpid(), path))
	o := sqldb.Options{URL: s.URL, Schema: "test_" + hex.EncodeToString(sum[:12]), Connections: connections}
	made, err := s.schema(o.Schema)
	if err != nil {
		t.Fatal(err)
	}
	if made {
		t.Cleanup(func() {
			if err := s.drop(o.Schema); err != nil {
				t.Error(err)
			}
		})
	}
	return o
}

// Open opens the database of Options, until the test ends.
func Open(t testing.TB, path string) *sqldb.DB {
	t.Helper()
	return OpenWith(t, Options(t, path))
}

// OpenWith opens a database until the test ends.
func OpenWith(t testing.TB, o sqldb.Options) *sqldb.DB {
	t.Helper()
	db, err := sqldb.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}
