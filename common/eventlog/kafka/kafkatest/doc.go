// Package kafkatest gives tests a real Kafka, run by scripts/kafka: one node for
// all tests of a process (Start), or a cluster of a test's own, whose nodes it
// may stop and kill (StartCluster). A process that has DENDRITE_TEST_KAFKA set
// uses the brokers named there for Start. Where Kafka cannot be started the
// test fails, with what the script says is missing.
//
// Brokers end with the process that started them, however that ends: their
// script waits for the end of a pipe that only this process holds.
//
// Everything in it is safe for concurrent use.
package kafkatest
