package userapi

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
)

func errNoDelayed() error { return matrixerror.NotFound("There is no such delayed event") }

func (s *Server) scheduleDelayed(ctx context.Context, r *api.ScheduleDelayedRequest) (*api.ScheduleDelayedResponse, error) {
	res := &api.ScheduleDelayedResponse{}
	err := s.db.Write(ctx, func(tx *sqldb.Tx) error {
		// One after the other, so that none slips past the limit.
		_, ok, err := s.db.LockAccount(ctx, tx, r.Event.UserID)
		if err != nil {
			return err
		}
		if !ok {
			return errNoAccount()
		}
		if res.ID, err = s.db.DelayedByRequest(ctx, tx, r.Event.UserID, r.Event.Request); err != nil || res.ID != "" {
			return err
		}
		n, next, err := s.db.CountDelayed(ctx, tx, r.Event.UserID)
		if err != nil {
			return err
		}
		if n >= r.Max {
			return matrixerror.LimitExceeded(max(time.Duration(next)*time.Millisecond, time.Second))
		}
		event := r.Event
		event.ID = newToken()
		res.ID = event.ID
		return s.db.InsertDelayed(ctx, tx, &event)
	})
	return res, err
}

func (s *Server) queryDelayed(ctx context.Context, r *api.DelayedRequest) (*api.DelayedResponse, error) {
	res := &api.DelayedResponse{}
	err := s.db.Read(ctx, func(tx *sqldb.Tx) (err error) {
		res.Events, err = s.db.Delayed(ctx, tx, r.UserID, r.ID)
		return err
	})
	if err == nil && r.ID != "" && len(res.Events) == 0 {
		err = errNoDelayed()
	}
	return res, err
}

// updateDelayed does what a user wants, unless something else happened first.
// What is as wanted already is fine.
func (s *Server) updateDelayed(ctx context.Context, r *api.UpdateDelayedRequest) (*api.UpdateDelayedResponse, error) {
	res := &api.UpdateDelayedResponse{}
	if r.ID == "" {
		return nil, errNoDelayed()
	}
	err := s.db.Write(ctx, func(tx *sqldb.Tx) error {
		var done bool
		var err error
		switch r.Action {
		case api.DelayedRestart:
			done, err = s.db.RestartDelayed(ctx, tx, r.UserID, r.ID)
		case api.DelayedCancel:
			done, err = s.db.CancelDelayed(ctx, tx, r.UserID, r.ID)
		case api.DelayedSend:
			done, err = s.db.SendDelayed(ctx, tx, r.UserID, r.ID, r.Owner, api.JobLease.Milliseconds())
			res.Taken = done
		default:
			err = matrixerror.InvalidParam("There is no such action")
		}
		if err != nil {
			return err
		}
		list, err := s.db.Delayed(ctx, tx, r.UserID, r.ID)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return errNoDelayed()
		}
		res.Event = list[0]
		if done || asWanted(r.Action, res.Event.State) {
			return nil
		}
		return matrixerror.New(409, "M_UNKNOWN", "The delayed event is %s already", res.Event.State)
	})
	return res, err
}

// asWanted tells whether an event is already as an action would make it.
func asWanted(action api.DelayedAction, state api.DelayedState) bool {
	switch action {
	case api.DelayedSend:
		return state == api.DelayedSent || state == api.DelayedSending
	case api.DelayedCancel:
		return state == api.DelayedCancelled || state == api.DelayedFailed
	}
	return false
}

func (s *Server) takeDelayed(ctx context.Context, r *api.TakeDelayedRequest) (*api.TakeDelayedResponse, error) {
	events, next, err := s.db.TakeDelayed(ctx, r.Owner, r.Limit, api.JobLease.Milliseconds())
	slices.SortFunc(events, func(a, b api.DelayedEvent) int {
		return cmp.Or(cmp.Compare(a.ScheduledTS+a.DelayMS, b.ScheduledTS+b.DelayMS), cmp.Compare(a.ID, b.ID))
	})
	return &api.TakeDelayedResponse{Events: events, NextMS: next}, err
}

func (s *Server) finishDelayed(ctx context.Context, r *api.FinishDelayedRequest) (*struct{}, error) {
	state := api.DelayedScheduled
	switch {
	case r.EventID != "":
		state = api.DelayedSent
	case r.Error != "":
		state = api.DelayedFailed
	}
	return &struct{}{}, s.db.FinishDelayed(ctx, r.ID, r.Owner, state, r.EventID, r.Error)
}
