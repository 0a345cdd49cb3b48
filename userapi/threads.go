package userapi

import (
	"context"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
	"github.com/matrix-org/dendrite/userapi/storage"
)

const (
	// maxThreads bounds the threads of which it is kept what a user has said.
	maxThreads = 5000
	// maxThreadChanges bounds what is kept of how that has changed.
	maxThreadChanges = 10
	// maxThreadsOf bounds a page of what many users have said.
	maxThreadsOf = 5000
)

func (s *Server) registerThreads(srv *rpc.Server) {
	api.PutThreadSubscription.Serve(srv, s.putThreadSubscription)
	api.QueryThreadSubscriptions.Serve(srv, s.queryThreadSubscriptions)
	api.QueryThreadsOf.Serve(srv, s.queryThreadsOf)
}

// putThreadSubscription stores a subscription, or the end of one, with the change
// that tells of it. What is so already stays as it is.
// spec: MSC4306 §new-endpoints
func (s *Server) putThreadSubscription(ctx context.Context, r *api.PutThreadSubscriptionRequest) (*api.WriteResponse, error) {
	res := &api.WriteResponse{Partition: eventlog.PartitionFor(r.UserID, s.output.Partitions)}
	err := s.write(ctx, func(tx *sqldb.Tx) error {
		if _, _, err := s.db.LockAccount(ctx, tx, r.UserID); err != nil {
			return err
		}
		row, err := s.db.ThreadSubscription(ctx, tx, r.UserID, r.RoomID, r.ThreadID)
		if err != nil {
			return err
		}
		next, err := s.nextThread(ctx, tx, row, r)
		if err != nil || next == nil {
			return err
		}
		change, err := api.ChangeOfThread(r.UserID, r.RoomID, r.ThreadID, next.ThreadState)
		if err != nil {
			return err
		}
		if *res, err = s.db.Change(ctx, tx, change); err != nil {
			return err
		}
		next.Seq = res.Seq
		return s.db.PutThreadSubscription(ctx, tx, r.UserID, next)
	})
	return res, err
}

// nextThread is what becomes of a row, nil for none; it is nil where nothing does.
func (s *Server) nextThread(ctx context.Context, tx *sqldb.Tx, row *storage.ThreadRow, r *api.PutThreadSubscriptionRequest) (*storage.ThreadRow, error) {
	was := storage.ThreadRow{ThreadSubscription: api.ThreadSubscription{RoomID: r.RoomID, ThreadID: r.ThreadID}}
	if row != nil {
		was = *row
	}
	switch {
	case !r.Subscribed && !was.Subscribed:
		return nil, nil
	case r.Subscribed && was.Subscribed && (r.Automatic || !was.Automatic): // what the user chose stays chosen
		return nil, nil
	case r.Automatic && r.At <= was.LeftAt:
		// spec: MSC4306 §server-side-automatic-subscription-ordering
		return nil, matrixerror.New(409, "IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION", "The user has ended the subscription after that event")
	}
	if row == nil {
		if n, err := s.db.CountThreadSubscriptions(ctx, tx, r.UserID); err != nil {
			return nil, err
		} else if n >= maxThreads {
			return nil, matrixerror.UserLimit(403, "A user may have subscribed to at most %d threads", maxThreads)
		}
	}
	next := was
	next.ThreadState = api.ThreadState{Subscribed: r.Subscribed, Automatic: r.Subscribed && r.Automatic}
	if !r.Subscribed {
		next.LeftAt = r.At
	}
	if r.Subscribed != was.Subscribed {
		next.Past = append(next.Past[:len(next.Past):len(next.Past)], api.ThreadChange{TS: s.now().UnixMilli(), Subscribed: r.Subscribed})
		next.Past = next.Past[max(0, len(next.Past)-maxThreadChanges):]
	}
	return &next, nil
}

func (s *Server) queryThreadSubscriptions(ctx context.Context, r *api.ThreadSubscriptionsRequest) (*api.ThreadSubscriptionsResponse, error) {
	list, err := s.db.ThreadSubscriptions(ctx, r)
	return &api.ThreadSubscriptionsResponse{Subscriptions: list}, err
}

func (s *Server) queryThreadsOf(ctx context.Context, r *api.ThreadsOfRequest) (*api.ThreadsOfResponse, error) {
	page := *r
	page.Limit = min(page.Limit, maxThreadsOf)
	list, err := s.db.ThreadsOf(ctx, &page)
	return &api.ThreadsOfResponse{Threads: list}, err
}
