package syncapi

import (
	"context"
	"fmt"
)

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
