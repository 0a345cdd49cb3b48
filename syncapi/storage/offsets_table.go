package storage

import (
	"context"

	"github.com/matrix-org/dendrite/common/sqldb"
)

// LeaseGroup is the format of the name of the leases of who writes rows: of so
// many partitions of room.output, and behind them of so many of user.output.
const LeaseGroup = "syncapi/rows/%d+%d"

// Offset says how far a partition of a topic has been applied.
type Offset struct {
	Topic     string
	Partition int
	// TopicID is the identity of the topic that the offset belongs to.
	TopicID string
	// Next is the offset to read next, Seq the last position before it.
	Next, Seq int64
}

// putOffsets stores offsets, unless another instance was further already.
func putOffsets(ctx context.Context, tx *sqldb.Tx, list []Offset) error {
	return putMany(ctx, tx, list, []int{1, 2}, `INSERT INTO offsets (topic, part, topic_id, next_offset, seq) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (topic, part) DO UPDATE SET topic_id = excluded.topic_id, next_offset = excluded.next_offset, seq = excluded.seq
		WHERE excluded.topic_id <> offsets.topic_id OR excluded.next_offset > offsets.next_offset`,
		func(o *Offset) []any { return []any{o.Topic, o.Partition, o.TopicID, o.Next, o.Seq} })
}

// Replace stores an offset whatever was there: for tools.
func (o *Offset) Replace(ctx context.Context, tx *sqldb.Tx) error {
	if _, err := tx.Exec(ctx, `DELETE FROM offsets WHERE topic = $1 AND part = $2`, o.Topic, o.Partition); err != nil {
		return err
	}
	return putOffsets(ctx, tx, []Offset{*o})
}

// Offsets returns all offsets of a topic.
func (s *Store) Offsets(ctx context.Context, topic string) ([]Offset, error) {
	return query(ctx, s, "offsets", `SELECT part, topic_id, next_offset, seq FROM offsets WHERE topic = $1`, []any{topic},
		func(r scanner) (Offset, error) {
			o := Offset{Topic: topic}
			return o, r.Scan(&o.Partition, &o.TopicID, &o.Next, &o.Seq)
		})
}
