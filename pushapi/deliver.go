package pushapi

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"net/url"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/property"
	"github.com/matrix-org/dendrite/pushapi/storage"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

const (
	// pollEvery is the time between looks for what other instances have judged;
	// pollAlone where there are none, for gateways whose time has come.
	pollEvery = 200 * time.Millisecond
	pollAlone = time.Second
	// duePage bounds the pushers that are read together, duePages how many pages one
	// look takes, newsPage the news of one pusher.
	duePage  = 500
	duePages = 4
	newsPage = 20
	// Bounds of the wait after a gateway failed, which doubles each time.
	minBackoff = time.Second
	maxBackoff = 10 * time.Minute
)

// desk is who is being served.
type desk struct {
	mu       sync.Mutex
	pushers  map[string]struct{}
	gateways map[string]int
	slots    chan struct{}
	seen     storage.Due // up to which one they were looked at; the loop's alone
	group    sync.WaitGroup
}

// begin tells whether a pusher can be served now; end belongs to it.
func (d *desk) begin(pusherID, gateway string, most int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, busy := d.pushers[pusherID]; busy || d.gateways[gateway] >= most {
		return false
	}
	d.pushers[pusherID] = struct{}{}
	d.gateways[gateway]++
	return true
}

func (d *desk) end(pusherID, gateway string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.pushers, pusherID)
	if d.gateways[gateway]--; d.gateways[gateway] == 0 {
		delete(d.gateways, gateway)
	}
}

// deliver serves the pushers that are due until ctx is done.
func (s *Server) deliver(ctx context.Context) {
	d := &desk{pushers: map[string]struct{}{}, gateways: map[string]int{}, slots: make(chan struct{}, s.config.MaxAtOnce)}
	defer d.group.Wait()
	poll := time.NewTicker(s.pollEvery)
	defer poll.Stop()
	for {
		if err := s.deliverDue(ctx, d); err != nil && ctx.Err() == nil {
			s.logger.WithError(err).Warn("What is due cannot be looked for now")
		}
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-poll.C:
		}
	}
}

// deliverDue begins to serve the pushers that are due, as far as there is room. Where
// they are many it goes on where it ended, so that those whose gateway takes its time
// hold up no others.
func (s *Server) deliverDue(ctx context.Context, d *desk) error {
	var mine []int64
	for p := range s.partitions {
		if s.changes.Valid(p) {
			mine = append(mine, int64(p))
		}
	}
	if len(mine) == 0 {
		return nil
	}
	for range duePages {
		due, err := s.db.Due(ctx, mine, s.now().UnixMilli(), d.seen, s.duePage)
		if err != nil {
			return err
		}
		for _, one := range due {
			if !s.begin(ctx, d, one) {
				return nil
			}
			d.seen = one
		}
		if len(due) < s.duePage {
			d.seen = storage.Due{}
			return nil
		}
	}
	return nil
}

// begin begins to serve a pusher, unless it or its gateway has enough to do: then its
// turn comes. It returns false when ctx is done.
func (s *Server) begin(ctx context.Context, d *desk, one storage.Due) bool {
	gateway := s.gatewayOf(one)
	if !d.begin(one.PusherID, gateway, s.config.MaxPerGateway) {
		return true
	}
	select {
	case d.slots <- struct{}{}:
	case <-ctx.Done():
		d.end(one.PusherID, gateway)
		return false
	}
	d.group.Go(func() {
		if err := s.serve(ctx, one); err != nil && ctx.Err() == nil {
			s.logger.WithError(err).WithField("user_id", one.UserID).Warn("A pusher cannot be served now")
		}
		d.end(one.PusherID, gateway)
		<-d.slots
		s.hurry()
	})
	return true
}

func (s *Server) partitionOf(userID string) int { return eventlog.PartitionFor(userID, s.partitions) }

// pusher finds a pusher in memory; nil where it is not there.
func (s *Server) pusher(one storage.Due) *userapi.Pusher {
	if u := s.people.get(one.UserID); u != nil {
		for i := range u.pushers {
			if u.pushers[i].ID == one.PusherID {
				return &u.pushers[i]
			}
		}
	}
	return nil
}

// gatewayOf is the host of a pusher's gateway; "" where that is not known.
func (s *Server) gatewayOf(one storage.Due) string {
	p := s.pusher(one)
	if p == nil {
		return ""
	}
	u, err := url.Parse(urlOf(p))
	if err != nil {
		return ""
	}
	return u.Host
}

// urlOf is where a pusher's gateway is.
func urlOf(p *userapi.Pusher) string { return property.TextOf(p.Data, "url") }

// errGateway says that a gateway did not take what it was told.
var errGateway = errors.New("the push gateway failed")

// errEnded says that a gateway rejected the pushkey: the pusher is gone.
var errEnded = errors.New("the push gateway rejected the pushkey")

// serve tells a pusher's gateway all that is new, until it fails or nothing is left.
func (s *Server) serve(ctx context.Context, one storage.Due) error {
	v := &visit{s: s, userID: one.UserID, pusher: s.pusher(one)}
	err := v.serve(ctx, one)
	if errors.Is(err, errEnded) {
		err = s.end(ctx, one.UserID, v.pusher)
	}
	if err == nil || ctx.Err() != nil {
		return nil
	}
	s.metrics.failed.Inc()
	level := logrus.WarnLevel // a question of ours failed
	if errors.Is(err, errGateway) {
		level = logrus.DebugLevel
	}
	s.logger.WithError(err).WithField("user_id", one.UserID).Log(level, "A push gateway is to be asked again")
	return s.db.Failed(ctx, one.PusherID, s.now().Add(s.backoff(v.tries)).UnixMilli())
}

// backoff is the wait after so many failures before.
func (s *Server) backoff(tries int64) time.Duration {
	wait := min(s.minBackoff<<min(tries, 20), maxBackoff)
	return wait/2 + rand.N(wait/2+1) // not all at once
}

// findPusher asks for a pusher that is not in memory.
func (s *Server) findPusher(ctx context.Context, one storage.Due) (*userapi.Pusher, error) {
	res, err := userapi.QueryPushers.Call(ctx, s.caller, &userapi.PushersRequest{UserID: one.UserID})
	if err != nil {
		return nil, err
	}
	for i := range res.Pushers {
		if res.Pushers[i].ID == one.PusherID {
			return &res.Pushers[i], nil
		}
	}
	return nil, nil
}

// end removes a pusher whose key is not good any more.
// spec: push-gateway-api §post_matrixpushv1notify (rejected)
func (s *Server) end(ctx context.Context, userID string, p *userapi.Pusher) error {
	_, err := userapi.DropPusher.Call(ctx, s.caller, &userapi.DropPusherRequest{UserID: userID, AppID: p.AppID, Pushkey: p.Pushkey, ID: p.ID})
	if err != nil {
		return err
	}
	s.metrics.rejected.Inc()
	s.logger.WithField("user_id", userID).WithField("app_id", p.AppID).Info("A push gateway rejected a pushkey; the pusher is removed")
	return s.db.Drop(ctx, p.ID)
}

// visit is one go at a pusher's gateway.
type visit struct {
	s      *Server
	userID string
	pusher *userapi.Pusher
	tries  int64
	badge  string // that the gateway was told last
}

// serve finds the pusher, where it is not in memory, and tells its gateway all.
func (v *visit) serve(ctx context.Context, one storage.Due) (err error) {
	if v.pusher == nil { // it is new, or gone
		if v.pusher, err = v.s.findPusher(ctx, one); err != nil {
			return err
		}
		if v.pusher == nil {
			return v.s.db.Drop(ctx, one.PusherID)
		}
	}
	return v.tellAll(ctx)
}

// tellAll tells the gateway what is new, oldest first, and then the counts, if the
// user has read something and they are others now.
func (v *visit) tellAll(ctx context.Context) error {
	s := v.s
	for ctx.Err() == nil && s.changes.Valid(s.partitionOf(v.userID)) {
		state, ok, err := s.db.State(ctx, v.pusher.ID, newsPage)
		if err != nil || !ok {
			return err
		}
		if dropped, err := s.trim(ctx, v.pusher.ID, &state); err != nil {
			return err
		} else if dropped {
			continue
		}
		v.tries, v.badge = state.Tries, state.Badge
		for i := range state.News {
			if err := v.tell(ctx, &state.News[i], state.ReadSeq); err != nil || ctx.Err() != nil {
				return err
			}
		}
		if len(state.News) == newsPage {
			continue // there may be more
		}
		if state.ReadSeq > 0 {
			if err := v.tellCounts(ctx, state.ReadSeq); err != nil {
				return err
			}
		}
		return s.db.Rest(ctx, v.pusher.ID, state.Changes, v.badge)
	}
	return nil
}

// trim drops what is too old of a pusher's news, or too much, where that may be so.
func (s *Server) trim(ctx context.Context, pusherID string, state *storage.State) (dropped bool, err error) {
	before := s.now().Add(-s.config.Lifetime).UnixMilli()
	if n := len(state.News); n == 0 || n < newsPage && n <= s.config.MaxWaiting && state.News[0].LoggedTS >= before {
		return false, nil
	}
	n, err := s.db.Trim(ctx, pusherID, before, s.config.MaxWaiting)
	s.metrics.dropped.Add(float64(n))
	return n > 0, err
}

// tell tells the gateway of one event, and stores that it has it.
func (v *visit) tell(ctx context.Context, n *storage.News, readSeq int64) error {
	note, counts, err := v.compose(ctx, n, readSeq)
	if err != nil {
		return err
	}
	if note == nil { // there is no event any more, or the user has seen it
		return v.s.db.Sent(ctx, v.pusher.ID, n.EventID, "")
	}
	ctx = context.WithoutCancel(ctx) // who stops finishes what it has begun
	if err := v.s.post(ctx, v.pusher, note); err != nil {
		return err
	}
	v.badge, v.tries = counts, 0
	v.s.metrics.sent.Inc()
	v.s.metrics.delay.Observe(v.s.now().Sub(time.UnixMilli(n.LoggedTS)).Seconds())
	return v.s.db.Sent(ctx, v.pusher.ID, n.EventID, counts)
}

// tellCounts tells the gateway what is unread, if that is not what it was told last.
func (v *visit) tellCounts(ctx context.Context, readSeq int64) error {
	unread, err := v.unread(ctx, nil, readSeq)
	if err != nil {
		return err
	}
	note := &notification{Counts: v.counts(unread), Prio: "low", Devices: []device{v.device("")}}
	badge, err := json.Marshal(note.Counts)
	if err != nil || string(badge) == cmp.Or(v.badge, "{}") || note.Counts == nil {
		return err
	}
	if err := v.s.post(ctx, v.pusher, note); err != nil {
		return err
	}
	v.badge = string(badge)
	v.s.metrics.badges.Inc()
	return nil
}
