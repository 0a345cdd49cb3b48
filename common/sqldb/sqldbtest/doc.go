// Package sqldbtest runs tests on both engines of sqldb, each test with
// databases of its own.
//
// PostgreSQL is real: the server at the URL in DENDRITE_TEST_POSTGRES (a
// superuser's; `make test` starts one for all packages), or one that
// scripts/postgres starts for this test binary and that cannot outlive it, since
// it ends with a pipe that the binary holds. A database there is a schema, which
// is dropped when the test ends. Where there is no PostgreSQL the tests fail and
// say what to install; they are never skipped.
//
// It is for tests only, asks nobody and is safe for concurrent use.
package sqldbtest
