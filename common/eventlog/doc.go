// Package eventlog is the append-only log that Dendrite is built around: topics
// of ordered partitions of records, either Apache Kafka or the embedded log of
// this package, behind one interface and one conformance suite (eventlogtest).
//
// A log decides nothing about records but their order and their durability.
// Who consumes a partition is decided by common/lease, how far it has read is
// stored by the consumer in its own database beside the effects of what it read.
//
// Every method is safe for concurrent use.
package eventlog
