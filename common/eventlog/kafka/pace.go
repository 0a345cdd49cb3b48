package kafka

import (
	"context"
	"time"
)

// pace keeps the requests of a busy loop apart (Options.Gather), so that each
// carries more: a request costs what some twenty records do. Who comes alone
// never waits, nor who comes once the last request is that long ago.
type pace struct {
	last time.Time // when a request had carried something
	busy bool      // they come one upon the other
}

// did notes that a request has carried something.
func (p *pace) did(gather time.Duration, now time.Time) {
	p.busy, p.last = now.Sub(p.last) < 2*gather, now
}

// left is the pause before the next request.
func (p *pace) left(gather time.Duration, now time.Time) time.Duration {
	if !p.busy {
		return 0
	}
	return max(p.last.Add(gather).Sub(now), 0)
}

// wait pauses before the next request; it ends early with ctx.
func (p *pace) wait(ctx context.Context, gather time.Duration) {
	if left := p.left(gather, time.Now()); left > 0 {
		_ = pause(ctx, left) // the loop looks at ctx
	}
}
