package userapi

import (
	"context"
	"sync"
	"time"

	"github.com/matrix-org/dendrite/common/config"
)

// maxFailures bounds the buckets that are not full: some 20 MB.
const maxFailures = 100_000

// failures counts wrong passwords in buckets. A bucket is known by the time at
// which it is full again; full ones are not kept.
type failures struct {
	every time.Duration // in which one attempt comes back; 0: nothing is counted
	burst int
	mu    sync.Mutex
	full  map[string]time.Time
}

func newFailures(rate config.Rate) *failures {
	f := &failures{burst: rate.Burst, full: map[string]time.Time{}}
	if rate.PerSecond > 0 {
		f.every = time.Duration(float64(time.Second) / rate.PerSecond)
	}
	return f
}

// take takes one attempt, before it is known how it ends: many at once get no
// more than one after the other. It returns how long to wait when there is none.
func (f *failures) take(key string, now time.Time) time.Duration {
	if f.every == 0 {
		return 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	full := f.full[key]
	if full.Before(now) {
		full = now
	}
	next := full.Add(f.every)
	if wait := next.Sub(now) - time.Duration(f.burst)*f.every; wait > 0 {
		return wait
	}
	if len(f.full) >= maxFailures {
		f.sweep(now)
	}
	f.full[key] = next
	return 0
}

// giveBack returns an attempt that did not fail.
func (f *failures) giveBack(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if full, ok := f.full[key]; ok {
		f.full[key] = full.Add(-f.every)
	}
}

// sweep forgets the buckets that are full, or any one if there is none; mu is
// held.
func (f *failures) sweep(now time.Time) {
	for key, full := range f.full {
		if !full.After(now) {
			delete(f.full, key)
		}
	}
	for key := range f.full {
		if len(f.full) < maxFailures {
			return
		}
		delete(f.full, key)
	}
}

// guessed is the bucket of who logs in to an account: all strangers share one,
// so that many addresses guess no faster than one; the addresses at which the
// account's devices were last seen have their own, so that strangers who use up
// theirs do not keep the owner out.
func (s *Server) guessed(ctx context.Context, userID, ip string) string {
	if ip != "" {
		if own, err := s.db.SeenAt(ctx, userID, ip); err != nil {
			s.logger.WithError(err).Warn("Devices cannot be looked up; the address counts as a stranger's")
		} else if own {
			return ip + "\x00" + userID
		}
	}
	return userID
}
