package userapi

import (
	"context"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/userapi/api"
)

const (
	// publishBatch bounds the rows published at once.
	publishBatch = 500
	// keepRows is how many rows of each partition are kept, and keepFor how
	// long: well over the second in which the log makes them safe.
	keepRows = 1000
	keepFor  = 10 * time.Minute
	// dropEvery is the time between deletions of old rows.
	dropEvery = time.Minute
	// publishRetry is the time after which a failed batch is tried again.
	publishRetry = time.Second
)

// publish publishes the outbox, in order, until ctx is done.
func (s *Server) publish(ctx context.Context) error {
	done := make([]int64, s.output.Partitions)
	for p := range done {
		last, err := s.lastPublished(ctx, p)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		done[p] = last
	}
	drop := time.NewTicker(dropEvery)
	defer drop.Stop()
	retry := time.NewTicker(publishRetry)
	defer retry.Stop()
	for {
		if err := s.publishAll(ctx, done); err != nil && ctx.Err() == nil {
			s.logger.WithError(err).Warn("Changes cannot be published now")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-retry.C:
		case <-drop.C:
			before := s.now().Add(-keepFor).UnixMilli()
			for p, seq := range done {
				if err := s.db.DropOutbox(ctx, p, seq-keepRows, before); err != nil && ctx.Err() == nil {
					s.logger.WithError(err).Warn("Old rows of the outbox cannot be deleted")
				}
			}
		}
	}
}

// publishAll publishes what is missing in each partition.
func (s *Server) publishAll(ctx context.Context, done []int64) error {
	heads, err := s.db.Heads(ctx)
	if err != nil {
		return err
	}
	for p := range done {
		for done[p] < heads[p] {
			rows, err := s.db.Outbox(ctx, p, done[p], publishBatch)
			if err != nil {
				return err
			}
			if len(rows) == 0 || rows[0].Seq != done[p]+1 {
				return fmt.Errorf("userapi: the outbox lacks change %d of partition %d", done[p]+1, p)
			}
			messages := make([]eventlog.Message, len(rows))
			for i, r := range rows {
				messages[i] = eventlog.Message{Topic: api.TopicUserOutput, Partition: p, Key: []byte(r.UserID), Value: []byte(r.Value)}
			}
			if _, err := s.log.Append(ctx, messages...); err != nil {
				// Some may be there all the same; readers drop what they know.
				return fmt.Errorf("userapi: publishing: %w", err)
			}
			done[p] = rows[len(rows)-1].Seq
		}
	}
	return nil
}

// lastPublished reads from the topic up to where it is published.
func (s *Server) lastPublished(ctx context.Context, partition int) (int64, error) {
	start, end, err := s.log.Bounds(ctx, api.TopicUserOutput, partition)
	if err != nil {
		return 0, fmt.Errorf("userapi: %s: %w", api.TopicUserOutput, err)
	}
	if end == start {
		return 0, nil
	}
	records, err := s.log.Read(ctx, api.TopicUserOutput, partition, end-1, 1)
	if err != nil {
		return 0, fmt.Errorf("userapi: %s: %w", api.TopicUserOutput, err)
	}
	var last api.UserChange
	if err := json.Unmarshal(records[0].Value, &last); err != nil {
		return 0, fmt.Errorf("userapi: the last record of partition %d of %s: %w", partition, api.TopicUserOutput, err)
	}
	return last.Seq, nil
}
