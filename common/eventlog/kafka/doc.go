// Package kafka is eventlog.Log on Apache Kafka, through IBM/sarama. It stands
// beside the embedded log rather than in its package, so that who imports the
// interface does not take in a Kafka client.
//
// Of sarama it uses the protocol, connections (TLS, SASL) and metadata. Appends
// and reads are its own, because sarama's producer stops trying for ten seconds
// after a few failures and gives a batch up whose outcome it does not know, and
// its consumer allows one reader of a partition.
//
//   - Appends (append.go, outbox.go, send.go): each partition has an outbox, and
//     each broker one sender with one connection, which sends what has gathered in
//     the outboxes that it leads while the last request was under way: one request
//     at a time, acks=all. A batch that was sent is sent again,
//     the same bytes with the same sequence number, until its outcome is known;
//     what follows in its partition waits. So nothing is doubled, dropped or
//     reordered, whatever breaks. A caller waits for AppendTimeout or until its
//     context is done; what was not sent by then never is.
//   - Reads (read.go, tail.go, fetch.go): each broker has one fetcher with one
//     connection, which follows the ends of the partitions in use that it leads and
//     keeps their last records for all readers of this process. It fetches while one of
//     them waits, in a fetch session (session.go), so that only what is new is asked
//     for and answered. Who is further behind reads past it, over another connection. A tail that nobody has asked
//     for during IdleAfter is dropped.
//   - Neither lingers, but for a process that can wait (Options.Gather): there the
//     requests to a broker are kept apart while one follows the other (pace.go).
//   - Leaders (route.go): who lost a partition's leader looks for it with growing
//     waits of a second at most, for ever.
//
// While no broker answers, Append fails with eventlog.ErrUnavailable after
// AppendTimeout, as do the other methods after RequestTimeout; Read goes on
// trying until its context is done, so that consumers resume at once rather than
// after a growing back-off. Failed tells what readiness needs.
//
// Topics (topics.go) get their settings when they are made, and are checked
// afterwards; docs/formats.md lists them. Kafka's own retention never drops a
// record of a Durable or Derived topic, Trim does. A topic's identity is
// Kafka's: when a topic was deleted or made anew, which is looked for every few
// seconds and whenever an offset is asked for or out of range, the old one is
// ErrUnknownTopic until it is ensured again.
//
// Memory: appends hold at most BufferBytes until their outcome is known, tails
// TailBytes over all partitions or, if that is more, the last chunk of each (one
// fetch of one partition, 1 MiB, or one larger batch), and each broker's fetcher
// one answer of at most 16 MiB beside that; each reader that is behind, another.
//
// Every method is safe for concurrent use. Lock order: Log.mu, then topic.mu or
// producer.mu, which are never held together; none is held during I/O.
package kafka
