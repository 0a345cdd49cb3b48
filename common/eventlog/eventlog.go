package eventlog

import (
	"context"
	"errors"
	"hash/fnv"
	"time"
)

// Durability says what an acknowledged append to a topic survives.
type Durability int

const (
	// Durable records survive loss of power: acknowledged after fsync
	// (embedded) or acks=all (Kafka). For what nothing else can restore.
	Durable Durability = iota
	// Derived records can be computed again from durable ones: written in
	// order at once, but synced with the next durable append or within a
	// second (embedded). After a loss of power the topic may end earlier.
	Derived
	// Ephemeral records are for who listens now: in memory only (embedded).
	// After a restart the topic starts anew, with a new identity.
	Ephemeral
)

// TopicSpec is what a component asks a topic to be.
type TopicSpec struct {
	Name       string
	Partitions int
	Durability Durability
	// Retention is how long records are kept at least; zero means until they
	// are trimmed. MaxBytes bounds an Ephemeral topic's partition in memory.
	Retention time.Duration
	MaxBytes  int64
}

// TopicInfo describes an existing topic.
type TopicInfo struct {
	Name string
	// ID changes when a topic is made anew; consumers store it beside their
	// offsets and stop when it differs (design rule 2).
	ID         string
	Partitions int
	Durability Durability
}

// Message is a record to be appended.
type Message struct {
	Topic     string
	Partition int
	Key       []byte
	Value     []byte
}

// Record is a record of a partition. Key and Value are shared: do not change them.
type Record struct {
	Offset int64
	Time   time.Time // of the append, by the log's clock; never for decisions that must replay
	Key    []byte
	Value  []byte
}

// MaxRecordBytes is the largest Value that a log takes: below Kafka's default
// of 1 MiB with room for headers (design rule 14).
const MaxRecordBytes = 1000 * 1000

var (
	// ErrTooLarge refuses a record over MaxRecordBytes.
	ErrTooLarge = errors.New("eventlog: record too large")
	// ErrOffsetOutOfRange says that a read starts before the first record kept
	// or behind the end of the partition.
	ErrOffsetOutOfRange = errors.New("eventlog: offset out of range")
	// ErrUnknownTopic says that a topic or partition was not ensured.
	ErrUnknownTopic = errors.New("eventlog: unknown topic or partition")
	// ErrUnavailable says that the log cannot take or give records now; the
	// caller answers 503 with Retry-After.
	ErrUnavailable = errors.New("eventlog: unavailable")
	// ErrCorrupt says that a stored record does not match its checksum.
	ErrCorrupt = errors.New("eventlog: corrupt record")
	// ErrClosed is returned by every method after Close.
	ErrClosed = errors.New("eventlog: closed")
)

// Log is an append-only log.
type Log interface {
	// EnsureTopic creates the topic, or checks that an existing one has the
	// partitions asked for. With zero Partitions it only describes a topic that
	// was ensured before, through the same Log.
	EnsureTopic(ctx context.Context, spec TopicSpec) (TopicInfo, error)
	// Append adds messages and returns their offsets once they are as durable
	// as their topics promise. Messages of one call to one partition get
	// ascending offsets in the order given. When it fails, any of them may
	// have been appended: whoever retries does so with the same request IDs.
	Append(ctx context.Context, messages ...Message) ([]int64, error)
	// Read returns the records from the offset on: at least one, at most
	// maxBytes of values (but always one). It waits for the first until ctx
	// is done.
	Read(ctx context.Context, topic string, partition int, from int64, maxBytes int) ([]Record, error)
	// ReadMany is Read for several partitions of a topic: from maps partition
	// to offset, and the answer holds those that have records.
	ReadMany(ctx context.Context, topic string, from map[int]int64, maxBytes int) (map[int][]Record, error)
	// Bounds returns the offset of the first record kept and the offset that
	// the next record will get.
	Bounds(ctx context.Context, topic string, partition int) (start, end int64, err error)
	// Trim allows the log to drop records before the offset, once they are
	// older than the topic's retention. Consumers call it for their safe point.
	Trim(ctx context.Context, topic string, partition int, before int64) error
	// Close stops the log after what was appended is durable.
	Close() error
}

// PartitionFor is the partition of a key: the same on every engine, for ever.
func PartitionFor(key string, partitions int) int {
	h := fnv.New64a()
	h.Write([]byte(key))
	return int(h.Sum64() % uint64(partitions))
}
