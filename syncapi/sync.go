package syncapi

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// retryLater is what clients are told when the view lags too far behind.
const retryLater = 2 * time.Second

// syncRequest is a GET /sync as asked for.
type syncRequest struct {
	filter     *filter
	since      *vector // nil: initial
	timeout    time.Duration
	full       bool
	stateAfter bool
}

// sync answers GET /sync.
// spec: client-server-api §syncing
func (s *Server) sync(r *httpapi.Request) (any, error) {
	ctx := r.Context()
	req, err := s.parseSync(r)
	if err != nil {
		return nil, err
	}
	s.active(r, true, r.Query().Get("set_presence"))
	if err := s.catchUp(ctx, req.since); err != nil {
		return nil, err
	}
	u, err := s.view.user(ctx, r.Device.UserID)
	if err != nil {
		return nil, err
	}
	defer s.view.release(u)
	var body []byte
	stopped, err := s.poll(ctx, u, req.timeout, func() (bool, error) {
		a := newAnswer(s, req, u, r.Device.DeviceID)
		var err error
		body, err = s.limited(ctx, a.build)
		return a.something || req.since == nil || req.full, err
	})
	if err != nil {
		return nil, err
	}
	if stopped {
		body = newAnswer(s, req, u, r.Device.DeviceID).nothing(req.since)
	}
	return jsontext.Value(body), nil
}

func (s *Server) parseSync(r *httpapi.Request) (*syncRequest, error) {
	q := r.Query()
	req := &syncRequest{filter: s.unfiltered}
	var err error
	if text := q.Get("filter"); text != "" {
		if req.filter, err = s.filterOf(r.Context(), r.Device.UserID, text); err != nil {
			return nil, err
		}
	}
	if token := q.Get("since"); token != "" {
		if req.since, err = parseVector(token, s.view.shape); err != nil {
			return nil, err
		}
	}
	if text := q.Get("timeout"); text != "" {
		ms, err := strconv.ParseInt(text, 10, 64)
		if err != nil || ms < 0 {
			return nil, matrixerror.InvalidParam("timeout is not a number of milliseconds")
		}
		req.timeout = min(time.Duration(min(ms, 1<<40))*time.Millisecond, s.maxTimeout)
	}
	if req.full, err = r.QueryBool("full_state", false); err != nil {
		return nil, err
	}
	if req.stateAfter, err = r.QueryBool("use_state_after", false); err != nil {
		return nil, err
	}
	// The state_after of clients that ask before the spec had it.
	if !req.stateAfter {
		if req.stateAfter, err = r.QueryBool("org.matrix.msc4222.use_state_after", false); err != nil {
			return nil, err
		}
	}
	return req, checkPresence(q.Get("set_presence"))
}

func checkPresence(set string) error {
	switch set {
	case "", "online", "offline", "unavailable":
		return nil
	}
	return matrixerror.InvalidParam("Unknown set_presence")
}

// filterOf reads an inline filter, or finds a stored one.
func (s *Server) filterOf(ctx context.Context, userID, text string) (*filter, error) {
	if strings.HasPrefix(text, "{") {
		return parseFilter([]byte(text))
	}
	if f := s.filters.get(userID, text); f != nil {
		return f, nil
	}
	res, err := userapi.QueryFilter.Call(ctx, s.caller, &userapi.FilterRequest{UserID: userID, FilterID: text})
	if matrixerror.Is(err, "M_NOT_FOUND") {
		return nil, matrixerror.InvalidParam("Unknown filter")
	}
	if err != nil {
		return nil, err
	}
	f, err := parseFilter(res.Filter)
	if err != nil {
		return nil, err
	}
	s.filters.put(userID, text, f)
	return f, nil
}

// catchUp waits, bounded, until the view has reached what the request must
// see: its token, or everything that was committed when it arrived.
func (s *Server) catchUp(ctx context.Context, since *vector) error {
	want := since
	if want == nil {
		heads, err := s.view.heads(ctx)
		if err != nil {
			return err
		}
		want = heads
	}
	if since != nil {
		if err := s.forgetLost(ctx, since); err != nil {
			return err
		}
	}
	if there, err := s.await(ctx, want); there || err != nil {
		return err
	}
	if since != nil {
		heads, err := s.view.heads(ctx)
		if err != nil {
			return err
		}
		if !coversRooms(heads.rooms, since.rooms) || !covers(heads.users, since.users) {
			return errToken() // from the future: not one of ours
		}
	}
	return matrixerror.Unavailable(retryLater, "The view of rooms lags behind")
}

// lostAfter is how long the view may be behind a token in ephemeral before the log
// is asked whether it still has that much.
const lostAfter = time.Second

// forgetLost takes from a token what it has seen of ephemeral beyond the end of the
// log: that was put back to an earlier time, and nothing restores what was said by
// then of typing and presence.
func (s *Server) forgetLost(ctx context.Context, since *vector) error {
	shape := s.view.shape
	if since.ephID != shape.ephID || covers(s.view.applied.Load().eph, since.eph) {
		return nil
	}
	seen := &vector{eph: since.eph, ephID: since.ephID}
	waiting, cancel := context.WithTimeout(ctx, min(lostAfter, s.maxLag))
	defer cancel()
	if s.view.reach(waiting, seen) || ctx.Err() != nil {
		return ctx.Err()
	}
	for p := range min(len(since.eph), len(shape.eph)) {
		_, end, err := s.feed.log.Bounds(ctx, userapi.TopicEphemeral, p)
		if err != nil {
			return fmt.Errorf("syncapi: bounds of %s: %w", userapi.TopicEphemeral, err)
		}
		since.eph[p] = min(since.eph[p], end)
	}
	return nil
}

// await waits, bounded, until the view covers a vector, and tells whether it does.
func (s *Server) await(ctx context.Context, want *vector) (bool, error) {
	if s.view.applied.Load().covers(want) {
		return true, nil
	}
	waiting, cancel := context.WithTimeout(ctx, s.maxLag)
	defer cancel()
	if s.view.reach(waiting, want) {
		return true, nil
	}
	return false, ctx.Err()
}

// poll builds answers until one tells something, or the time is over. It tells
// whether the server stops before that: then the client is to be given the token
// that it came with, since nothing was said, and another instance goes on.
func (s *Server) poll(ctx context.Context, u *user, wait time.Duration, build func() (something bool, err error)) (stopped bool, err error) {
	var timeout <-chan time.Time
	for {
		woken := u.waiting()
		something, err := build()
		if err != nil || something || wait == 0 {
			return false, err
		}
		if timeout == nil {
			timer := time.NewTimer(wait)
			defer timer.Stop()
			timeout = timer.C
			s.waiting.Add(1)
			defer s.waiting.Add(-1)
			s.view.audience.enter()
			defer s.view.audience.leave()
		}
		select {
		case <-woken:
		case <-timeout:
			return false, nil
		case <-s.stopping:
			return true, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// limited builds an answer while not too many others are being built.
func (s *Server) limited(ctx context.Context, build func(context.Context) ([]byte, error)) ([]byte, error) {
	select {
	case s.building <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-s.building }()
	return build(ctx)
}
