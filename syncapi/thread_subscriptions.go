package syncapi

import (
	"context"
	"errors"

	"github.com/matrix-org/dendrite/common/pushrules"
	"github.com/matrix-org/dendrite/common/rpc"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// subscriptions is what a user has said of threads: as it was asked for, together
// with what has come since.
type subscriptions struct {
	all map[threadKey]subscription
	// last is the highest Seq.
	last int64
}

// threadKey names a thread by its root.
type threadKey struct{ roomID, root string }

type subscription struct {
	userapi.ThreadState
	seq int64 // of the last change
}

func (t *subscriptions) put(key threadKey, is subscription) {
	if t.all[key].seq < is.seq {
		t.all[key] = is
	}
	t.last = max(t.last, is.seq)
}

// thread adds what a user has said of a thread. Rows may have told it before; what a
// resync tells again is known, unless it was missed.
func (a *application) thread(c *userapi.UserChange) error {
	is, err := userapi.ThreadStateOf(c)
	if err != nil {
		return err
	}
	a.withUser(c.UserID, func(u *user) {
		key := threadKey{c.RoomID, c.EventID}
		if u.threads == nil || c.Again && u.threads.all[key].ThreadState == is {
			return
		}
		u.threads.put(key, subscription{is, c.Seq})
	})
	return nil
}

// threadsOf brings what a user has said of threads into memory. What changes
// meanwhile is applied to what is there already.
func (s *Server) threadsOf(ctx context.Context, u *user) error {
	u.loadingThreads.Lock()
	defer u.loadingThreads.Unlock()
	u.mu.Lock()
	known := u.threads != nil
	if !known {
		u.threads = &subscriptions{all: map[threadKey]subscription{}}
	}
	u.mu.Unlock()
	if known {
		return nil
	}
	list, err := s.askThreads(ctx, &userapi.ThreadSubscriptionsRequest{UserID: u.id})
	u.mu.Lock()
	defer u.mu.Unlock()
	if err != nil {
		u.threads = nil
		return err
	}
	for i := range list {
		t := &list[i]
		u.threads.put(threadKey{t.RoomID, t.ThreadID}, subscription{t.ThreadState, t.Seq})
	}
	return nil
}

// askThreads asks the user-api, be it of a release that keeps no subscriptions.
func (s *Server) askThreads(ctx context.Context, r *userapi.ThreadSubscriptionsRequest) ([]userapi.ThreadSubscription, error) {
	res, err := userapi.QueryThreadSubscriptions.Call(ctx, s.caller, r)
	if errors.Is(err, rpc.ErrNoMethod) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return res.Subscriptions, nil
}

// subscription is what a user has to do with a thread, for push rules.
func (s *Server) subscription(ctx context.Context, u *user, key threadKey) (pushrules.Subscription, error) {
	if err := s.threadsOf(ctx, u); err != nil {
		return 0, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case len(u.threads.all) == 0:
		return pushrules.NoSubscriptions, nil
	case u.threads.all[key].Subscribed:
		return pushrules.Subscribed, nil
	}
	return pushrules.Unsubscribed, nil
}
