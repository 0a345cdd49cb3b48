package directoryapi

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/matrix-org/dendrite/common/matrixerror"
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

// wait returns once the view has applied what is wanted; 503 if that takes
// longer than configured.
func (s *Server) wait(ctx context.Context, want []int64) error {
	if s.progress.Reached(want) {
		return nil
	}
	s.consumer.Hurry()
	waiting, cancel := context.WithTimeout(ctx, s.config.WaitTimeout)
	defer cancel()
	err := s.progress.Await(waiting, want)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return matrixerror.Unavailable(time.Second, "The room directory has not caught up yet")
	}
	return err
}
