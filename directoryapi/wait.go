package directoryapi

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/matrix-org/dendrite/common/consumer"
	"github.com/matrix-org/dendrite/common/matrixerror"
	roomserver "github.com/matrix-org/dendrite/roomserver/api"
)

// tellInterval bounds how often an instance that passes over records, which
// mean nothing to the view, tells the others by the database how far it is.
const tellInterval = 50 * time.Millisecond

// tellSkipped stores how far the view is without an effect, until ctx is done:
// the others wait for it, and no other batch may come soon. It is ahead of the
// offsets, which is harmless: what was passed over once means nothing again.
func (s *Server) tellSkipped(ctx context.Context) {
	told := map[int]int64{}
	for {
		var seqs map[int]int64
		select {
		case <-ctx.Done():
			return
		case seqs = <-s.skipped:
		}
		maps.DeleteFunc(seqs, func(partition int, seq int64) bool { return told[partition] == seq })
		if err := s.db.PutPositions(ctx, seqs); err != nil {
			if ctx.Err() == nil {
				s.logger.WithError(err).Warn("The positions of the view cannot be stored now")
			}
			select {
			case s.skipped <- seqs: // again, unless there is more to tell by now
			default:
			}
		} else {
			maps.Copy(told, seqs)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(tellInterval):
		}
	}
}

// retryHeads is the pause after the room server did not answer.
const retryHeads = time.Second

// Ready waits until the view holds all that was there when it was called. It
// fails if the view is of a past that is not there any more: if the store of the
// room server and the log were put back to an earlier copy, and the view was not.
func (s *Server) Ready(ctx context.Context) error {
	if s.checked.Load() {
		return nil
	}
	heads, err := s.heads(ctx, true)
	if err != nil {
		return err
	}
	if err := consumer.CheckAhead(ctx, s.log, roomserver.TopicOutput, s.progress.Seqs(), heads, roomserver.OutputSeq); err != nil {
		return fmt.Errorf("directoryapi: %w", err)
	}
	if err := s.CaughtUp(ctx); err != nil {
		return err
	}
	s.checked.Store(true)
	return nil
}

// heads asks the room server how far it has come until it answers, or ctx is done.
func (s *Server) heads(ctx context.Context, settled bool) ([]int64, error) {
	for {
		heads, err := roomserver.QueryHeads.Call(ctx, s.caller, &roomserver.HeadsRequest{Settled: settled})
		if err == nil {
			return heads.Seqs, nil
		}
		s.logger.WithError(err).Warn("The room server does not say how far it has come")
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("directoryapi: heads: %w", err)
		case <-time.After(retryHeads):
		}
	}
}

// CaughtUp waits until the view holds all that the room server had committed
// when it was asked, or ctx is done.
func (s *Server) CaughtUp(ctx context.Context) error {
	want, err := s.heads(ctx, false)
	if err != nil {
		return err
	}
	if err := s.progress.Await(ctx, want); err != nil {
		return fmt.Errorf("directoryapi: the view is behind: %w", err)
	}
	return nil
}

// wait returns once the view has applied what is wanted; 503 if that takes
// longer than configured.
func (s *Server) wait(ctx context.Context, want []int64) error {
	waiting, cancel := context.WithTimeout(ctx, s.config.WaitTimeout)
	defer cancel()
	err := s.progress.Await(waiting, want)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return matrixerror.Unavailable(time.Second, "The room directory has not caught up yet")
	}
	return err
}
