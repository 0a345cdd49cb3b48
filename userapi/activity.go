package userapi

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"golang.org/x/sync/errgroup"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
)

// activityBytes bounds what is read of user.activity at once.
const activityBytes = 256 << 10

// consumeActivity reads what is heard of devices. It is for now only: reading
// begins at the end, and what is lost is said again soon.
func (s *Server) consumeActivity(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for p := range s.activity.Partitions {
		group.Go(func() error { return s.readActivity(ctx, p) })
	}
	return group.Wait()
}

func (s *Server) readActivity(ctx context.Context, partition int) error {
	_, next, err := s.log.Bounds(ctx, api.TopicUserActivity, partition)
	for ctx.Err() == nil {
		var records []eventlog.Record
		if err == nil {
			records, err = s.log.Read(ctx, api.TopicUserActivity, partition, next, activityBytes)
		}
		if errors.Is(err, eventlog.ErrOffsetOutOfRange) {
			_, next, err = s.log.Bounds(ctx, api.TopicUserActivity, partition)
			continue
		}
		if err == nil {
			next = records[len(records)-1].Offset + 1
			err = s.applyActivity(ctx, records)
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		if errors.Is(err, eventlog.ErrClosed) {
			return err
		}
		s.logger.WithError(err).Warn("Activity cannot be taken in now")
		select {
		case <-ctx.Done():
		case <-time.After(publishRetry):
		}
		err = nil
	}
	return nil
}

const (
	// settleEvery is how long what was heard of devices waits for more.
	settleEvery = 50 * time.Millisecond
	// maxHeard bounds what waits: what comes while nothing can be stored is lost.
	maxHeard = 50_000
)

// heard is what was heard of devices and is not settled yet.
type heard struct {
	turn sync.Mutex // of who settles: in the order of the log
	mu   sync.Mutex
	list []api.Activity
	news chan struct{}
}

func newHeard() *heard { return &heard{news: make(chan struct{}, 1)} }

func (h *heard) add(a api.Activity) {
	h.mu.Lock()
	if len(h.list) < maxHeard {
		h.list = append(h.list, a)
	}
	h.mu.Unlock()
	select {
	case h.news <- struct{}{}:
	default: // it will be looked for
	}
}

func (h *heard) take() []api.Activity {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := h.list
	h.list = nil
	return list
}

// applyActivity takes in records. What users wait for takes effect at once; when
// a device was heard of is settled soon, with others.
func (s *Server) applyActivity(ctx context.Context, records []eventlog.Record) error {
	for _, r := range records {
		var a api.Activity
		if err := json.Unmarshal(r.Value, &a); err != nil {
			s.logger.WithError(err).Warn("A record of user.activity cannot be read")
			continue
		}
		switch {
		case a.Wake:
			s.hurry()
		case a.Typing != nil:
			if s.ours(a.Typing.RoomID) {
				if err := s.types(ctx, a.Typing); err != nil {
					s.logger.WithError(err).Warn("Typing cannot be told now")
				}
			}
		case !s.ours(a.UserID):
		case a.Set != nil:
			if err := s.setHere(ctx, &a); err != nil {
				return err
			}
		default:
			s.heard.add(a)
		}
	}
	return nil
}

// setHere sets a presence that another instance, or this one, was asked to set.
func (s *Server) setHere(ctx context.Context, a *api.Activity) error {
	if err := s.settle(ctx); err != nil { // that was before
		return err
	}
	err := s.here(ctx, a.UserID, func(l *live) { l.choose(a.Set.Presence, a.Set.StatusMsg, s.now(), a.TS) })
	if err != nil {
		return err
	}
	return s.confirmSet(ctx, a.UserID, a.SetID)
}

// settleHeard settles what is heard until ctx is done.
func (s *Server) settleHeard(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.heard.news:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(settleEvery):
		}
		if err := s.settle(ctx); err != nil && ctx.Err() == nil {
			s.logger.WithError(err).Warn("Activity cannot be taken in now")
		}
	}
}

// settle stores when devices were last heard of and what that makes of their
// users' presence, each by the instance that keeps the user, and tells others.
func (s *Server) settle(ctx context.Context) error {
	s.heard.turn.Lock()
	defer s.heard.turn.Unlock()
	list := s.heard.take()
	if len(list) == 0 {
		return nil
	}
	var news []api.Presence
	if !s.noPresence {
		var err error
		if news, err = s.hear(ctx, list); err != nil {
			return err
		}
	}
	err := s.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := s.db.Seen(ctx, tx, list); err != nil {
			return err
		}
		return s.db.PutPresences(ctx, tx, news)
	})
	if err != nil || len(news) == 0 {
		return err
	}
	messages := make([]eventlog.Message, len(news))
	for i := range news {
		if messages[i], err = ephemeral(news[i].UserID, api.Ephemeral{Presence: &news[i]}); err != nil {
			return err
		}
	}
	_, err = s.log.Append(ctx, messages...)
	return err
}

// hear changes what is known of users, and returns what others are to be told:
// one presence a user, the last.
func (s *Server) hear(ctx context.Context, list []api.Activity) ([]api.Presence, error) {
	stored := map[string]api.Presence{} // of whom nothing is known in memory
	for _, a := range list {
		if _, known := s.presence.current(a.UserID); !known {
			stored[a.UserID] = api.Presence{}
		}
	}
	if len(stored) > 0 {
		found, err := s.db.Presence(ctx, slices.Sorted(maps.Keys(stored)))
		if err != nil {
			return nil, err
		}
		for _, p := range found {
			stored[p.UserID] = p
		}
	}
	var news []api.Presence
	at := map[string]int{}
	for _, a := range list {
		before := stored[a.UserID]
		before.Presence = offline // until it is settled
		told := s.presence.update(a.UserID, before, s.now(), func(l *live) { l.hear(&a, s.now()) })
		if told == nil {
			continue
		}
		if i, ok := at[a.UserID]; ok {
			news[i] = *told
		} else {
			at[a.UserID] = len(news)
			news = append(news, *told)
		}
	}
	return news, nil
}
