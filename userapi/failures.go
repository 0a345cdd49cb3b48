package userapi

import (
	"context"
	"time"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/userapi/storage"
)

// maxFailures bounds the buckets that are kept: those that are not full.
const maxFailures = 100_000

// failures counts wrong passwords in buckets, which are rows: they hold for all
// instances together, and over restarts.
type failures struct {
	db    *storage.Database
	every time.Duration // in which one attempt comes back; 0: nothing is counted
	burst int
}

func newFailures(db *storage.Database, rate config.Rate) *failures {
	f := &failures{db: db, burst: max(rate.Burst, 1)}
	if rate.PerSecond > 0 {
		f.every = max(time.Duration(float64(time.Second)/rate.PerSecond), time.Millisecond)
	}
	return f
}

// take takes one attempt, before it is known how it ends: many at once get no
// more than one after the other. It fails with 429 when there is none.
func (f *failures) take(ctx context.Context, key string, now time.Time) error {
	if f.every == 0 {
		return nil
	}
	wait, err := f.db.TakeAttempt(ctx, key, now.UnixMilli(), f.every.Milliseconds(), int64(f.burst))
	if err == nil && wait > 0 {
		err = matrixerror.LimitExceeded(time.Duration(wait) * time.Millisecond)
	}
	return err
}

// giveBack returns an attempt that did not fail.
func (f *failures) giveBack(ctx context.Context, key string) error {
	if f.every == 0 {
		return nil
	}
	return f.db.GiveAttempt(ctx, key, f.every.Milliseconds())
}

// sweep forgets the buckets that are full, and of too many the fullest.
func (f *failures) sweep(ctx context.Context, now time.Time) error {
	if f.every == 0 {
		return nil
	}
	return f.db.DropAttempts(ctx, now.UnixMilli(), maxFailures)
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
			return ip + "\n" + userID
		}
	}
	return userID
}
