// Package e2e holds the end-to-end tests: they start real binaries, speak to
// them over HTTP alone, with clients of their own and with a real client
// library (clients/), kill them, and judge what they answered with package
// history, which import nothing of the server.
//
// Where a copy of the specification is at hand, every answer is judged by its
// OpenAPI files (openapi/, watch_test.go); and by the end of a whole run each
// operation of docs/endpoints.txt must have been seen to succeed and to be refused
// (walk_test.go).
//
// They run all in one (embedded log, SQLite) and as a cluster (Kafka, PostgreSQL,
// two instances of every role); oneColumn in columns_test.go lists those that
// do not, and why.
//
// -e2e.soak makes the tests of faults run for that long each, in rounds of some
// minutes whose histories are judged one by one, so that memory is bounded.
package e2e
