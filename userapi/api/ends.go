package api

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/matrix-org/dendrite/common/rpc"
)

// QueryEnds tells whose sessions have ended, to who knows tokens in memory.
var QueryEnds = rpc.NewMethod[EndsRequest, EndsResponse](Service, "session_ends").Harmless()

// EndsRequest asks for what came after an earlier answer.
type EndsRequest struct{ After int64 } // its At; -1 for none

// EndsResponse tells what ended up to At.
type EndsResponse struct {
	At int64
	// Users had sessions that ended; All says that any user may have had.
	Users []string `json:",omitempty"`
	All   bool     `json:",omitempty"`
	// KnownFor is for how many milliseconds from the request on that is all there
	// is to know: who ends a session within that time is answered after it.
	KnownFor int64
}

// Ends is how far somebody who knows tokens in memory knows which have ended. It
// asks only when a token is used after what it knew has run out. It is safe for
// concurrent use.
type Ends struct {
	look   func(context.Context, *EndsRequest) (*EndsResponse, error)
	forget func(at int64, users []string, all bool)
	flight singleflight.Group

	mu    sync.Mutex // guards the rest
	at    int64
	until time.Time
}

// NewEnds knows nothing yet. look is QueryEnds; forget forgets the tokens of users, or
// all, and learns up to which answer that is: before Current returns what came of it,
// and not concurrently.
func NewEnds(look func(context.Context, *EndsRequest) (*EndsResponse, error), forget func(at int64, users []string, all bool)) *Ends {
	return &Ends{look: look, forget: forget, at: -1}
}

// Current returns up to which answer it is known who has ended sessions, and until
// when that is all: later than when it was called.
func (e *Ends) Current(ctx context.Context) (at int64, until time.Time, err error) {
	for called := time.Now(); ; {
		if at, until = e.last(); called.Before(until) {
			return at, until, nil
		}
		// Another's question may be too old to say so.
		done := e.flight.DoChan("", func() (any, error) { return nil, e.ask(context.WithoutCancel(ctx)) })
		select {
		case r := <-done:
			err = r.Err
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err != nil {
			return at, until, err
		}
	}
}

// askTimeout bounds a question, which goes on for others when who began it has gone.
const askTimeout = 5 * time.Second

func (e *Ends) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	before, until := e.last()
	asked := time.Now()
	if asked.Before(until) {
		return nil // by now
	}
	res, err := e.look(ctx, &EndsRequest{After: before})
	if err != nil {
		return err
	}
	if res.At != before { // of a database that was put back nothing is known
		e.forget(res.At, res.Users, res.All || before < 0 || res.At < before)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.at, e.until = res.At, asked.Add(time.Duration(res.KnownFor)*time.Millisecond)
	return nil
}

func (e *Ends) last() (int64, time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.at, e.until
}
