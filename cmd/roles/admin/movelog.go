package admin

import (
	"bytes"
	"context"
	"fmt"

	"github.com/matrix-org/dendrite/common/eventlog"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

// copyBytes bounds what is read and appended at once.
const copyBytes = 1 << 20

// stretch is what is copied of a partition: the records [from, end) of the
// source become [0, end-from) of the target.
type stretch struct{ from, end int64 }

// stretches finds what is needed of each topic. Of room.input that is what the
// room server has not read: what it has is in its store. Of topics with views,
// all that is kept: readers may have to go back.
func (i *Installation) stretches(ctx context.Context) (map[string][]stretch, error) {
	places, err := i.places(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string][]stretch{}
	for name, topic := range i.topics {
		for p := range topic.Partitions {
			start, end, err := i.Log.Bounds(ctx, name, p)
			if err != nil {
				return nil, err
			}
			out[name] = append(out[name], stretch{start, end})
		}
	}
	for _, p := range places {
		if p.Wrong != "" {
			return nil, fmt.Errorf("%s cannot go on in partition %d of %s: %s; see dendrite-admin log reset", p.Consumer, p.Partition, p.Topic, p.Wrong)
		}
		if p.Topic == roomapi.TopicInput && p.TopicID != "" {
			s := &out[p.Topic][p.Partition]
			s.from = min(max(p.Next, s.from), s.end)
		}
	}
	return out, nil
}

// moved is where a consumer goes on at the target.
func (p Place) moved(s stretch, topicID string) Place {
	if p.TopicID != "" {
		p.TopicID, p.Next = topicID, min(max(p.Next, s.from), s.end)-s.from
	}
	return p
}

// copyPartition appends what the target lacks of a partition. The target held
// nothing when the first call began, so what it has are the first records.
func copyPartition(ctx context.Context, from, to eventlog.Log, topic string, partition int, s stretch) error {
	start, end, err := to.Bounds(ctx, topic, partition)
	if err != nil {
		return err
	}
	if start != 0 || end > s.end-s.from {
		return fmt.Errorf("%w: the target holds offsets %d to %d, want none, or those of an earlier try: remove the topic there and try again", errDiffers, start, end)
	}
	if end > 0 { // compareLog looks at all of them later
		if err := sameRecord(ctx, from, to, topic, partition, s.from+end-1, end-1); err != nil {
			return err
		}
	}
	for next := s.from + end; next < s.end; {
		records, err := from.Read(ctx, topic, partition, next, copyBytes)
		if err != nil {
			return err
		}
		messages := make([]eventlog.Message, 0, len(records))
		for _, r := range records {
			messages = append(messages, eventlog.Message{Topic: topic, Partition: partition, Key: r.Key, Value: r.Value})
		}
		if _, err := to.Append(ctx, messages...); err != nil {
			return err
		}
		next = records[len(records)-1].Offset + 1
	}
	return nil
}

func sameRecord(ctx context.Context, from, to eventlog.Log, topic string, partition int, at, there int64) error {
	a, err := from.Read(ctx, topic, partition, at, 1)
	if err != nil {
		return err
	}
	b, err := to.Read(ctx, topic, partition, there, 1)
	if err != nil {
		return err
	}
	return equalRecords(a[0], b[0])
}

func equalRecords(a, b eventlog.Record) error {
	if !bytes.Equal(a.Key, b.Key) || !bytes.Equal(a.Value, b.Value) {
		return fmt.Errorf("%w: the record at offset %d is not the one at %d of the target", errDiffers, a.Offset, b.Offset)
	}
	return nil
}

// comparePartition fails unless the target holds exactly the stretch.
func comparePartition(ctx context.Context, from, to eventlog.Log, topic string, partition int, s stretch) error {
	_, end, err := to.Bounds(ctx, topic, partition)
	if err != nil {
		return err
	}
	if end != s.end-s.from {
		return fmt.Errorf("%w: %d records, at the target %d", errDiffers, s.end-s.from, end)
	}
	var a, b []eventlog.Record
	for n := int64(0); n < end; n++ {
		if len(a) == 0 {
			if a, err = from.Read(ctx, topic, partition, s.from+n, copyBytes); err != nil {
				return err
			}
		}
		if len(b) == 0 {
			if b, err = to.Read(ctx, topic, partition, n, copyBytes); err != nil {
				return err
			}
		}
		if err := equalRecords(a[0], b[0]); err != nil {
			return err
		}
		a, b = a[1:], b[1:]
	}
	return nil
}
