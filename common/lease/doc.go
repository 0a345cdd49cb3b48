// Package lease decides which instance of a component consumes which partition
// (design rule 3). The state is rows in the component's own database, tables
// lease_partitions and lease_members; expiry goes by the database's clock.
//
// Every owner of a partition has an epoch, one more than the one before. Commit
// compares it within the transaction that stores a record's effects, so who lost
// a lease unnoticed cannot commit: safety rests on that alone, never on clocks.
// Clocks decide when a dead owner is replaced, and until when an owner may
// answer from memory (Valid): from before the renewal, by its own monotonic
// clock, less a margin.
//
// A database may lose commits when its server crashes (sqldb.Options.Durable).
// Who has a lease notices at the next beat that less is stored than it committed,
// and begins anew with that.
//
// Partitions are shared evenly by rank among the members. Who has more than its
// share gives the surplus back between two batches; a free partition is taken
// at the next beat of who has less. It reads and writes no topic and asks nobody.
//
// A Manager is safe for concurrent use. Its lock is never held during SQL.
package lease
