package syncapi

import (
	"context"
	"errors"
	"fmt"

	feeds "github.com/matrix-org/dendrite/common/consumer"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// Ready fails if the view is of a past that is not there any more: if the
// stores of the writers and the log were put back to an earlier copy, and the
// view was not. Nothing is to be answered from it then: what comes next has
// positions that the view takes for known.
func (s *Server) Ready(ctx context.Context) error {
	if s.checked.Load() {
		return nil
	}
	at := s.view.applied.Load()
	var ahead error
	err := s.view.retry(ctx, "Cannot compare the view with the writers", func() error {
		err := s.checkAhead(ctx, at)
		if errors.Is(err, feeds.ErrAhead) {
			ahead = err // for an operator: trying again is of no use
			return nil
		}
		return err
	})
	s.checked.Store(err == nil && ahead == nil)
	return errors.Join(err, ahead)
}

func (s *Server) checkAhead(ctx context.Context, at *vector) error {
	rooms, err := roomapi.Heads(ctx, s.caller, true)
	if err != nil {
		return fmt.Errorf("syncapi: heads: %w", err)
	}
	users, err := userapi.QueryHeads.Call(ctx, s.caller, &userapi.HeadsRequest{})
	if err != nil {
		return fmt.Errorf("syncapi: heads: %w", err)
	}
	log := s.feed.log
	if err := feeds.CheckAhead(ctx, log, roomapi.TopicOutput, at.rooms, rooms, roomapi.OutputSeq); err != nil {
		return err
	}
	return feeds.CheckAhead(ctx, log, userapi.TopicUserOutput, at.users, users.Seqs, userapi.ChangeSeq)
}

// CaughtUp waits until the view holds all that the writers had committed when it
// was asked, or ctx is done.
func (s *Server) CaughtUp(ctx context.Context) error {
	want, err := s.view.heads(ctx)
	if err != nil {
		return fmt.Errorf("syncapi: heads: %w", err)
	}
	if !s.view.reach(ctx, want) {
		return fmt.Errorf("syncapi: the view is behind: %w", ctx.Err())
	}
	return nil
}
