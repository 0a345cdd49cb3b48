package userapi

import (
	"context"
	"errors"
	"time"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/userapi/api"
)

// publishedWithin bounds how long a change is waited for that is stored but not
// yet published: whoever publishes it may have died.
const publishedWithin = time.Second

// awaitPublished returns once users' changes up to these Seqs can be read from
// user.output, or they take too long: they are stored, so they will be there.
func (s *Server) awaitPublished(ctx context.Context, users []string, seqs []int64) {
	want := make([]int64, s.output.Partitions)
	for i, user := range users {
		partition := eventlog.PartitionFor(user, s.output.Partitions)
		if s.leases.Valid(partition) || s.following.Load() { // else nothing is known of it
			want[partition] = max(want[partition], seqs[i])
		}
	}
	waiting, cancel := context.WithTimeout(ctx, publishedWithin)
	defer cancel()
	_ = s.published.Await(waiting, want) // else it is too long, or nobody waits any more
}

// followOutput notes what other instances publish, until ctx is done.
func (s *Server) followOutput(ctx context.Context) {
	for ctx.Err() == nil {
		err := s.followFromEnd(ctx)
		s.following.Store(false)
		if errors.Is(err, eventlog.ErrClosed) {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(publishRetry):
		}
	}
}

// followFromEnd does so until it fails.
func (s *Server) followFromEnd(ctx context.Context) error {
	next := map[int]int64{}
	for p := range s.output.Partitions {
		_, end, err := s.log.Bounds(ctx, api.TopicUserOutput, p)
		if err != nil {
			return err
		}
		next[p] = end
	}
	s.following.Store(true)
	for {
		read, err := s.log.ReadMany(ctx, api.TopicUserOutput, next, activityBytes)
		if err != nil {
			return err
		}
		for p, records := range read {
			if len(records) == 0 {
				continue
			}
			last := records[len(records)-1] // they ascend, but for what is published again
			if seq, err := api.ChangeSeq(last.Value); err == nil {
				s.published.Advance(map[int]int64{p: seq})
			}
			next[p] = last.Offset + 1
		}
	}
}
