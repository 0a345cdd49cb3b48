package userapi

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/userapi/api"
)

// publishedWithin bounds how long a change is waited for that is stored but not
// yet published: whoever publishes it may have died.
const publishedWithin = time.Second

// marks tell how far each partition of user.output is published.
type marks struct {
	mu      sync.Mutex
	seqs    []int64
	changed chan struct{} // closed, and replaced, when one moves
}

func newMarks(partitions int) *marks {
	return &marks{seqs: make([]int64, partitions), changed: make(chan struct{})}
}

// advance notes that a partition is published up to a Seq.
func (m *marks) advance(partition int, seq int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if seq <= m.seqs[partition] {
		return
	}
	m.seqs[partition] = seq
	close(m.changed)
	m.changed = make(chan struct{})
}

// reached tells whether the partitions are published up to these Seqs, and if not
// what to wait for.
func (m *marks) reached(want map[int]int64) (bool, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for partition, seq := range want {
		if m.seqs[partition] < seq {
			return false, m.changed
		}
	}
	return true, nil
}

// awaitPublished returns once users' changes up to these Seqs can be read from
// user.output, or they take too long: they are stored, so they will be there.
func (s *Server) awaitPublished(ctx context.Context, users []string, seqs []int64) {
	want := map[int]int64{}
	for i, user := range users {
		partition := eventlog.PartitionFor(user, s.output.Partitions)
		if s.leases.Valid(partition) || s.following.Load() { // else nothing is known of it
			want[partition] = max(want[partition], seqs[i])
		}
	}
	timeout := time.NewTimer(publishedWithin)
	defer timeout.Stop()
	for {
		ok, changed := s.published.reached(want)
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timeout.C:
			return
		case <-ctx.Done():
			return
		}
	}
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
			for _, r := range records {
				if seq, err := api.ChangeSeq(r.Value); err == nil {
					s.published.advance(p, seq)
				}
				next[p] = r.Offset + 1
			}
		}
	}
}
