package syncapi

import (
	"context"
	"testing"
	"time"
)

// TestAudience: nobody's rest is ended by who comes, and while somebody waits there
// is none.
func TestAudience(t *testing.T) {
	var a audience
	rested := make(chan struct{}, 3)
	for range 3 {
		go func() { a.rest(t.Context(), time.Hour); rested <- struct{}{} }()
	}
	a.enter() // before them or after
	for range 3 {
		<-rested
	}
	a.enter()
	a.leave()
	a.rest(t.Context(), time.Hour) // one is still there
	a.leave()
	a.rest(t.Context(), time.Nanosecond)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a.rest(ctx, time.Hour)
}
