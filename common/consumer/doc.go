// Package consumer reads a topic into a component's database: each record takes
// effect exactly once, whatever crashes when (design rules 2 and 3).
//
// One loop reads all partitions that this instance holds a lease of and hands
// the handler one Batch at a time. The handler commits effects and offsets in
// one transaction (Batch.Commit), then publishes. If it fails, it is called
// again from the offsets that are stored by then: first for each partition by
// itself, so that one that cannot go on does not hold up the others, then after
// growing waits.
//
// With each offset the topic's identity is kept. What does not fit stops the
// consumer with an error until an operator decides: another topic (ErrTopicChanged),
// an end below the offset (ErrTopicShorter), a start above it (ErrRecordsGone,
// unless the component can make its view anew without the records: Rebuild).
// A Derived topic may have lost its end with the power: there the consumer goes
// on from the new end, since what was lost is published again and readers know
// by its seq what they have seen. An Ephemeral topic is read from its start when
// its identity is another, and from its new start when records were dropped.
//
// At safe points it tells a log that has tools of its own how far it is
// (eventlog.OffsetReporter), under its name as the group; that is for people only.
//
// It owns lease's tables in the component's database, reads the one topic and
// asks nobody. A Consumer runs once; the handler is never called concurrently.
package consumer
