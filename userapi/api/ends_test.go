package api

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestEnds: it is asked once for all who need to know at the same time, and what was
// asked too long ago says nothing to who comes later.
func TestEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []int64
		var fails error
		takes, at := time.Duration(0), int64(0)
		type forgotten struct {
			at    int64
			users []string
			all   bool
		}
		var forgot []forgotten
		e := NewEnds(func(_ context.Context, r *EndsRequest) (*EndsResponse, error) {
			asked = append(asked, r.After)
			res := &EndsResponse{At: at, KnownFor: 400}
			if at > r.After && r.After >= 0 {
				res.Users = []string{"@a:test"}
			}
			time.Sleep(takes)
			return res, fails
		}, func(at int64, users []string, all bool) { forgot = append(forgot, forgotten{at, users, all}) })
		current := func() int64 {
			t.Helper()
			called := time.Now()
			at, until, err := e.Current(t.Context())
			if err != nil || !called.Before(until) {
				t.Fatalf("%v, until %v of %v", err, until, called)
			}
			return at
		}
		current()
		current()
		time.Sleep(500 * time.Millisecond)
		at = 1
		if got := current(); got != 1 {
			t.Errorf("at %d", got)
		}
		time.Sleep(500 * time.Millisecond)
		at = 0 // the database was put back
		current()
		if want := []int64{-1, 0, 1}; !slices.Equal(asked, want) {
			t.Errorf("asked after %v, not %v", asked, want)
		}
		if len(forgot) != 3 || !forgot[0].all || forgot[1].all || forgot[1].at != 1 || len(forgot[1].users) != 1 || !forgot[2].all {
			t.Errorf("forgot %+v", forgot)
		}
		time.Sleep(500 * time.Millisecond)
		takes, asked = time.Second, nil
		go e.Current(context.Background())
		time.Sleep(100 * time.Millisecond)
		go e.Current(context.Background()) // what comes of the first is enough
		time.Sleep(600 * time.Millisecond)
		current() // but not for this one
		if len(asked) != 2 {
			t.Errorf("asked %d times", len(asked))
		}
		time.Sleep(500 * time.Millisecond)
		fails = errors.New("no")
		if _, _, err := e.Current(t.Context()); !errors.Is(err, fails) {
			t.Errorf("%v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, _, err := e.Current(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		time.Sleep(2 * time.Second)
	})
}
