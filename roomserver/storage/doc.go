// Package storage is the room server's database: rooms, events, the history of
// their state, verdicts and positions. The tables are described in
// migrations, next to the queries of each in a file of its own; what a batch of
// records writes is collected in a Batch.
//
// Functions take the transaction that they are part of. A Store is safe for
// concurrent use.
package storage
