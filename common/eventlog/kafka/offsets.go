package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/IBM/sarama"

	"github.com/matrix-org/dendrite/common/eventlog"
)

// Bounds implements eventlog.Log.
func (l *Log) Bounds(ctx context.Context, name string, number int) (start, end int64, err error) {
	p, err := l.partition(name, number)
	if err != nil {
		return 0, 0, err
	}
	type bounds struct{ start, end int64 }
	found, err := request(ctx, l, fmt.Sprintf("bounds of %s/%d", name, number), func() (b bounds, err error) {
		if b.start, err = l.offset(p, sarama.OffsetOldest); err == nil {
			b.end, err = l.offset(p, sarama.OffsetNewest)
		}
		if err == nil { // last, so that both are of the topic that was ensured
			err = l.verify(p.topic)
		}
		return b, err
	})
	return found.start, found.end, err
}

// offset is the one of a time, or of sarama's two special times; -1 if all
// records are older.
func (l *Log) offset(p *partition, at int64) (int64, error) {
	if p.topic.gone.Load() {
		return 0, fmt.Errorf("%w: %s", eventlog.ErrUnknownTopic, p.topic.info.Name)
	}
	return l.client.GetOffset(p.topic.name, p.number, at)
}

// Trim implements eventlog.Log: at once, but for what retention holds, which a
// later call drops.
func (l *Log) Trim(ctx context.Context, name string, number int, before int64) error {
	p, err := l.partition(name, number)
	if err != nil || p.topic.info.Durability == eventlog.Ephemeral { // there Kafka's retention does it
		return err
	}
	_, err = request(ctx, l, fmt.Sprintf("trim of %s/%d", name, number), func() (struct{}, error) { return struct{}{}, l.trim(p, before) })
	return err
}

func (l *Log) trim(p *partition, before int64) error {
	start, err := l.offset(p, sarama.OffsetOldest)
	if err != nil || before <= start {
		return err
	}
	end, err := l.offset(p, sarama.OffsetNewest)
	if err != nil {
		return err
	}
	before = min(before, end)
	if p.topic.retention > 0 {
		young, err := l.offset(p, time.Now().Add(-p.topic.retention).UnixMilli())
		if err != nil {
			return err
		}
		if young >= 0 {
			before = min(before, young)
		}
	}
	if before <= start {
		return nil
	}
	leader, err := l.client.Leader(p.topic.name, p.number)
	if err != nil {
		return err
	}
	answer, err := leader.DeleteRecords(&sarama.DeleteRecordsRequest{Version: 1, Timeout: l.config.Admin.Timeout,
		Topics: map[string]*sarama.DeleteRecordsRequestTopic{p.topic.name: {PartitionOffsets: map[int32]int64{p.number: before}}}})
	if err != nil {
		_ = leader.Close() // the next use opens it again
		return err
	}
	if t := answer.Topics[p.topic.name]; t != nil && t.Partitions[p.number] != nil {
		if err := t.Partitions[p.number].Err; !errors.Is(err, sarama.ErrNoError) {
			return err
		}
		return nil
	}
	return sarama.ErrIncompleteResponse
}

// ReportOffset implements eventlog.OffsetReporter. The group has no members;
// tools show it, and its lag, as any other.
func (l *Log) ReportOffset(ctx context.Context, group, name string, number int, next int64) error {
	p, err := l.partition(name, number)
	if err != nil {
		return err
	}
	group = l.o.TopicPrefix + group
	_, err = request(ctx, l, "offset of group "+group, func() (struct{}, error) { return struct{}{}, l.commit(p, group, next) })
	return err
}

func (l *Log) commit(p *partition, group string, next int64) error {
	coordinator, err := l.client.Coordinator(group)
	if err != nil {
		return err
	}
	request := sarama.NewOffsetCommitRequest(l.config, group)
	request.AddBlockWithLeaderEpoch(p.topic.name, p.number, next, -1, 0, "")
	answer, err := coordinator.CommitOffset(request)
	if err != nil {
		_ = coordinator.Close() // the next use opens it again
		return errors.Join(err, l.client.RefreshCoordinator(group))
	}
	for _, partitions := range answer.Errors {
		for _, err := range partitions {
			if !errors.Is(err, sarama.ErrNoError) {
				return errors.Join(err, l.client.RefreshCoordinator(group))
			}
		}
	}
	return nil
}
