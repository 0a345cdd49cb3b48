package mediaapi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/matrix-org/dendrite/mediaapi/api"
	"github.com/matrix-org/dendrite/mediaapi/blobs"
	"github.com/matrix-org/dendrite/mediaapi/storage"

	directory "github.com/matrix-org/dendrite/directoryapi/api"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

const (
	// sweepEvery is how often it is looked for bytes that nothing needs, and whether
	// housekeeping is due.
	sweepEvery = 10 * time.Second
	// sweepLease is how long what one instance has taken to remove is left to it.
	sweepLease = time.Minute
	// houseEvery is how often housekeeping is done, by one instance at a time, which
	// has houseLease for each of its batches.
	houseEvery = 10 * time.Minute
	houseLease = 2 * time.Minute
	houseJob   = "housekeeping"
	// batch is how many media or files are removed at a time.
	batch = 100
)

// wakeJanitor has it looked at once for what is not needed.
func (s *Server) wakeJanitor() {
	select {
	case s.clean <- struct{}{}:
	default:
	}
}

// janitor removes what is not needed, until ctx is done.
func (s *Server) janitor(ctx context.Context) {
	every := time.NewTicker(sweepEvery)
	defer every.Stop()
	for {
		if err := errors.Join(s.housekeeping(ctx), s.sweep(ctx)); err != nil && ctx.Err() == nil {
			s.logger.WithError(err).Warn("Media that are not needed cannot be removed now")
		}
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		case <-s.clean:
		}
	}
}

// sweep removes files that nothing needs: the row is marked, the file is removed,
// the row is deleted. Whoever finds a marked row after a crash goes on from there.
func (s *Server) sweep(ctx context.Context) error {
	for {
		hashes, err := s.db.TakeChecks(ctx, batch, sweepLease.Milliseconds())
		if err != nil || len(hashes) == 0 {
			return err
		}
		for _, hash := range hashes {
			b, doomed, err := s.db.Doom(ctx, hash)
			if err != nil {
				return err
			}
			if !doomed {
				continue
			}
			if err := s.store.Remove(ctx, blobs.Key(b.Hash, b.Generation)); err != nil {
				return err
			}
			if err := s.db.Forget(ctx, b); err != nil {
				return err
			}
			s.metrics.removed.Inc()
		}
	}
}

// housekeeping removes what has expired or has not been used for long, if it is time
// for that and no other instance does it.
func (s *Server) housekeeping(ctx context.Context) error {
	ok, err := s.db.TakeJob(ctx, houseJob, s.owner, houseLease.Milliseconds())
	if err != nil || !ok {
		return err
	}
	if err := s.keepHouse(ctx); err != nil {
		return err // the lease ends by itself
	}
	return s.db.FinishJob(ctx, houseJob, s.owner, houseEvery.Milliseconds())
}

func (s *Server) keepHouse(ctx context.Context) error {
	now := s.now()
	if err := s.db.DropPreviews(ctx, now.UnixMilli()); err != nil {
		return err
	}
	for {
		list, err := s.db.Expired(ctx, now.UnixMilli(), batch)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			break
		}
		if _, err := s.db.DeleteExpired(ctx, refsOf(list), now.UnixMilli()); err != nil {
			return err
		}
	}
	r := &s.config.Retention
	for kind, age := range map[string]time.Duration{storage.Upload: r.Local, storage.Remote: r.Remote} {
		if age <= 0 {
			continue
		}
		pictures := s.pictures
		if r.Avatars {
			pictures = nil
		}
		n, err := Purge(ctx, s.db, kind, now.Add(-age), func(ctx context.Context, uris []string) (map[string]bool, error) {
			if _, err := s.db.TakeJob(ctx, houseJob, s.owner, houseLease.Milliseconds()); err != nil || pictures == nil {
				return nil, err
			}
			return pictures(ctx, uris)
		})
		if err != nil {
			return err
		}
		if n > 0 {
			s.logger.WithField("kind", kind).Infof("%d media that nobody had got for %v were removed", n, age)
		}
	}
	return blobs.SweepSpools(s.spools, now)
}

// pictures tells which media are pictures of users or rooms.
func (s *Server) pictures(ctx context.Context, uris []string) (map[string]bool, error) {
	ofUsers, err := userapi.QueryAvatars.Call(ctx, s.caller, &userapi.AvatarsRequest{URIs: uris})
	if err != nil {
		return nil, err
	}
	ofRooms, err := directory.QueryAvatars.Call(ctx, s.caller, &directory.AvatarsRequest{URIs: uris})
	if err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for _, uri := range append(ofUsers.Used, ofRooms.Used...) {
		out[uri] = true
	}
	return out, nil
}

// Purge deletes media of a kind that nobody has got since a time, but those that are
// protected or quarantined, and those that keep names. It returns how many.
func Purge(ctx context.Context, db *storage.Database, kind string, since time.Time, keep func(context.Context, []string) (map[string]bool, error)) (n int, err error) {
	var after storage.Media
	for {
		list, err := db.Idle(ctx, kind, since.UnixMilli(), after, batch)
		if err != nil || len(list) == 0 {
			return n, err
		}
		after = list[len(list)-1]
		uris := make([]string, len(list))
		for i := range list {
			uris[i] = api.URI(list[i].Server, list[i].ID)
		}
		kept, err := keep(ctx, uris)
		if err != nil {
			return n, fmt.Errorf("mediaapi: which media are pictures: %w", err)
		}
		var refs []storage.Ref
		for i, m := range list {
			if !kept[uris[i]] {
				refs = append(refs, m.Ref)
			}
		}
		deleted, err := db.DeleteIdle(ctx, refs, since.UnixMilli())
		if err != nil {
			return n, err
		}
		n += deleted
	}
}
