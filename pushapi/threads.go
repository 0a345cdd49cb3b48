package pushapi

import (
	"context"
	"errors"
	"hash/maphash"
	"sync"

	"github.com/matrix-org/dendrite/common/pushrules"
	"github.com/matrix-org/dendrite/common/rpc"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// threadsPage is of how many threads it is asked at once what people said.
const threadsPage = 5000

// threads is what a person has said of threads: of few or of thousands, so they are
// named by hashes.
type threads struct {
	mu         sync.RWMutex
	subscribed map[uint64]bool
	// last is the Seq up to which all is in it.
	last int64
}

// of is what the person has to do with a thread.
func (t *threads) of(name uint64) pushrules.Subscription {
	t.mu.RLock()
	defer t.mu.RUnlock()
	switch {
	case len(t.subscribed) == 0:
		return pushrules.NoSubscriptions
	case t.subscribed[name]:
		return pushrules.Subscribed
	}
	return pushrules.Unsubscribed
}

// nameOf names a thread.
func (p *people) nameOf(roomID, root string) uint64 {
	return maphash.String(p.seed, roomID+"\x00"+root)
}

// threadsOf takes up what a person has said.
func (p *people) threadsOf(said []userapi.ThreadOf) *threads {
	out := &threads{}
	if len(said) > 0 {
		out.subscribed = make(map[uint64]bool, len(said))
	}
	for _, t := range said {
		out.subscribed[p.nameOf(t.RoomID, t.ThreadID)] = t.Subscribed
		out.last = max(out.last, t.Seq)
	}
	return out
}

// sayOf takes over what somebody says of a thread, if it is known, and was not told
// so with what came later.
func (p *people) sayOf(c *userapi.UserChange, subscribed bool) {
	u := p.get(c.UserID)
	if u == nil {
		return
	}
	u.threads.mu.Lock()
	defer u.threads.mu.Unlock()
	if c.Seq > u.threads.last {
		if u.threads.subscribed == nil {
			u.threads.subscribed = map[uint64]bool{}
		}
		u.threads.subscribed[p.nameOf(c.RoomID, c.EventID)] = subscribed
		u.threads.last = c.Seq
	}
}

// askThreads asks what people have said of threads, by user.
func (s *Server) askThreads(ctx context.Context, users []userapi.PushedUser) (map[string][]userapi.ThreadOf, error) {
	req := &userapi.ThreadsOfRequest{Limit: threadsPage}
	for i := range users {
		req.UserIDs = append(req.UserIDs, users[i].UserID)
	}
	out := map[string][]userapi.ThreadOf{}
	for {
		res, err := userapi.QueryThreadsOf.Call(ctx, s.caller, req)
		if errors.Is(err, rpc.ErrNoMethod) { // of a release that keeps no subscriptions
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		for _, t := range res.Threads {
			out[t.UserID] = append(out[t.UserID], t)
		}
		if len(res.Threads) < req.Limit {
			return out, nil
		}
		req.After = res.Threads[len(res.Threads)-1]
	}
}
