// Package consumer reads a topic for a component: it hands over batches of
// records of all partitions, and stores in the component's own database, in the
// transaction that stores what the records did, how far it has read (design
// rule 2). After a crash, each record takes effect exactly once.
//
// It owns the table consumer_partitions in the component's database: a row per
// consumer and partition with topic identity, next offset and epoch. Starting a
// consumer raises the epochs, and a commit under an older one is refused, so
// that of two instances only the later can store anything. Sharing partitions
// among instances by leases that expire (rule 3) is to be added to this row.
//
// A Consumer runs one loop; the handler is called by that goroutine alone.
package consumer
