package userapi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
)

// What instances tell each other. None of it is done where there can be one only.

const (
	// knownFor is how long after a look at whose sessions have ended tokens that are
	// known in memory are taken. Who ends a session waits as long before that is
	// acknowledged.
	knownFor = 400 * time.Millisecond
	// keepEnds is how long session_ends keeps its rows.
	keepEnds = 10 * time.Minute
	// keepSent is how long a request that sent messages to devices is known for
	// its retries, keepClaimed how long one-time keys that were given out are.
	keepSent    = 7 * 24 * time.Hour
	keepClaimed = 24 * time.Hour
	// hintEvery bounds how often the publishers are told of new rows.
	hintEvery = 3 * time.Millisecond
)

// noteEnd notes in a transaction that tokens of a user end with it, as its last
// statement: instances that know them in memory look for that.
func (s *Server) noteEnd(ctx context.Context, tx *sqldb.Tx, userID string) error {
	if s.sole {
		return nil
	}
	return s.db.EndSession(ctx, tx, userID, s.now().UnixMilli())
}

// ended is called once a transaction with noteEnd is over, with its error: when
// it returns, no instance takes what has ended any more.
func (s *Server) ended(ctx context.Context, userID string, err error) error {
	s.tokens.forget(userID)
	if err != nil || s.sole {
		return err
	}
	timer := time.NewTimer(knownFor)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// queryEnds looks whose sessions have ended, on whichever instance.
func (s *Server) queryEnds(ctx context.Context, r *api.EndsRequest) (*api.EndsResponse, error) {
	last, users, whole, err := s.db.SessionEnds(ctx, r.After)
	if err != nil {
		return nil, fmt.Errorf("userapi: session ends: %w", err)
	}
	return &api.EndsResponse{At: last, Users: users, All: !whole, KnownFor: knownFor.Milliseconds()}, nil
}

// hurry has the outbox published now.
func (s *Server) hurry() {
	select {
	case s.wake <- struct{}{}:
	default: // it is awake already
	}
}

// hint has who publishes other partitions told of new rows, until ctx is done.
// What it does not get told is found when it looks by itself.
func (s *Server) hint(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.hints:
		}
		if err := s.reporter.Wake(ctx); err != nil && ctx.Err() == nil {
			s.logger.WithError(err).Debug("The publishers of other partitions cannot be told of new rows")
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(hintEvery):
		}
	}
}

// followTyping reads who types where, as whoever keeps a room has told it, until
// ctx is done: for the rooms that this instance takes over.
func (s *Server) followTyping(ctx context.Context, partition int) {
	next, err := int64(-1), error(nil)
	for ctx.Err() == nil {
		if next < 0 || errors.Is(err, eventlog.ErrOffsetOutOfRange) {
			next, _, err = s.log.Bounds(ctx, api.TopicEphemeral, partition)
		}
		var records []eventlog.Record
		if err == nil {
			records, err = s.log.Read(ctx, api.TopicEphemeral, partition, next, activityBytes)
		}
		for _, r := range records {
			var e api.Ephemeral
			if json.Unmarshal(r.Value, &e) == nil && e.Typing != nil {
				s.typing.hear(e.Typing, r.Offset, s.ours(e.Typing.RoomID))
			}
			next = r.Offset + 1
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		if errors.Is(err, eventlog.ErrClosed) {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(publishRetry):
		}
		if !errors.Is(err, eventlog.ErrOffsetOutOfRange) {
			err = nil
		}
	}
}

// sweep deletes rows that tell nobody anything any more.
func (s *Server) sweep(ctx context.Context) error {
	now := s.now()
	err := errors.Join(s.failures.sweep(ctx, now), s.db.DropDelayed(ctx, api.DelayedRetention.Milliseconds()),
		s.db.DropPurges(ctx, api.PurgesKept.Milliseconds()),
		s.db.DropSent(ctx, now.Add(-keepSent).UnixMilli()), s.db.DropClaimed(ctx, now.Add(-keepClaimed).UnixMilli()))
	if s.sole {
		return err
	}
	return errors.Join(err, s.db.DropSessionEnds(ctx, s.now().Add(-keepEnds).UnixMilli()))
}
