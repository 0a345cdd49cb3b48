// Package sqldb opens a component's database, SQLite or PostgreSQL, so that one
// SQL text serves both: placeholders $1, $2, … in ascending order, ON CONFLICT,
// RETURNING, JSON functions; lists by DB.Any and List, rows by DB.From and
// Records, many rows of one statement by Tx.ExecMany, several such by Tx.ExecAll. Column
// types are those of PostgreSQL (BIGINT, TEXT, BYTEA, BOOLEAN), whose names SQLite takes
// too; numbers of rows are given by the components, never by the engine. Rows are found
// by terms of texts as fulltext.go says. What only migrations say differently is in dialect.go.
//
// What holds on both engines, whatever they would do by themselves:
//
//   - Text may hold anything (text.go), and is sorted by its bytes: a PostgreSQL
//     database of another order or encoding is refused.
//   - A statement that failed ends its transaction.
//   - What fails for a reason that passes is ErrUnavailable: a full disk, a server
//     that is away, starting or out of connections, a lock or a statement that
//     took too long. Connections are opened anew for as long as it takes.
//   - The time is the database's: DB.Now.
//
// On PostgreSQL (15 or later; a pooler between must keep sessions, since
// statements are prepared) a transaction is READ COMMITTED: what it reads and
// then changes it locks first, by an UPDATE, and many rows in one order (ExecMany,
// DB.Lock). One that meets another in a deadlock runs again, a second later. A
// statement is a round trip, and once it has begun runs to its end whatever happens
// to the caller; each connection has limits of its own there (postgres.go), which
// the URL may change. Which row is found how is decided by the planner, once for
// all values: statements are written so that there is one sensible way, by an index
// (enable_seqscan is off: a small table grows), and roomserver/storage tests that it is
// taken.
//
// It decides nothing about what is stored and owns no table but the ones in which
// goose counts versions: goose_<component>, under an advisory lock when several
// processes migrate at once, and maintenance_mark while a tool keeps servers away
// (Mark). A DB is safe for concurrent use, a Tx is not. Write
// transactions on SQLite queue for the one writing connection; a transaction
// never needs a second connection, on either engine.
package sqldb
