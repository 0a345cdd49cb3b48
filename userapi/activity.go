package userapi

import (
	"context"
	"errors"
	"slices"
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

func (s *Server) applyActivity(ctx context.Context, records []eventlog.Record) error {
	list := make([]api.Activity, 0, len(records))
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
		case s.ours(a.UserID):
			list = append(list, a)
		}
	}
	if err := s.seen(ctx, list); err != nil {
		return err
	}
	for _, a := range list {
		err := s.here(ctx, a.UserID, func(l *live) {
			if a.Syncing {
				l.sync(a.DeviceID, a.Presence, s.now())
			}
			if a.Active {
				l.act(s.now())
			}
			if a.Set != nil {
				l.choose(a.Set.Presence, a.Set.StatusMsg, s.now())
			}
		})
		if err == nil && a.Set != nil {
			err = s.confirmSet(ctx, a.UserID, a.SetID)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// seen stores when devices were last heard of, each by the instance that keeps
// its user.
func (s *Server) seen(ctx context.Context, list []api.Activity) error {
	if !slices.ContainsFunc(list, func(a api.Activity) bool { return a.DeviceID != "" }) {
		return nil
	}
	return s.db.Write(ctx, func(tx *sqldb.Tx) error { return s.db.Seen(ctx, tx, list) })
}
