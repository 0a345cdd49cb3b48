package clientapi

import (
	"context"
	"time"

	"github.com/go-json-experiment/json"
	"golang.org/x/sync/errgroup"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/roomserver/api"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

const (
	// delayedEvery is how often delayed events are looked for that this instance
	// has not heard of.
	delayedEvery = 5 * time.Second
	// delayedBatch bounds those taken at once, delayedRooms the rooms that they are
	// sent to at once: an event waits for those before it in its room.
	delayedBatch = 100
	delayedRooms = 16
)

// hurryDelayed has the loop look when the next event is due.
func (s *Server) hurryDelayed() {
	select {
	case s.delayed <- struct{}{}:
	default: // it will
	}
}

// runDelayed sends delayed events when they are due, until ctx is done.
func (s *Server) runDelayed(ctx context.Context) {
	for {
		next, err := s.sendDue(ctx)
		if err != nil && ctx.Err() == nil {
			s.logger.WithError(err).Warn("Delayed events cannot be sent now; it is tried again later")
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-s.delayed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// sendDue sends what is due, and tells when to look again.
func (s *Server) sendDue(ctx context.Context) (time.Duration, error) {
	for {
		res, err := userapi.TakeDelayed.Call(ctx, s.caller, &userapi.TakeDelayedRequest{Owner: s.jobOwner, Limit: delayedBatch})
		if err != nil {
			return delayedEvery, err
		}
		if len(res.Events) == 0 {
			if res.NextMS < 0 {
				return delayedEvery, nil
			}
			return min(time.Duration(res.NextMS+1)*time.Millisecond, delayedEvery), nil
		}
		rooms := map[string][]*userapi.DelayedEvent{}
		for i := range res.Events {
			e := &res.Events[i]
			rooms[e.RoomID] = append(rooms[e.RoomID], e)
		}
		group, inner := errgroup.WithContext(ctx)
		group.SetLimit(delayedRooms)
		for _, events := range rooms {
			group.Go(func() error { return s.sendDelayedIn(inner, events) })
		}
		if err := group.Wait(); err != nil {
			return delayedEvery, err
		}
	}
}

// sendDelayedIn sends events of one room, in their order. One of which it is not
// known what became of it stays taken until its lease runs out.
func (s *Server) sendDelayedIn(ctx context.Context, events []*userapi.DelayedEvent) error {
	for _, e := range events {
		finish, err := s.sendDelayed(ctx, e)
		if finish == nil {
			if ctx.Err() == nil {
				s.logger.WithError(err).Warn("A delayed event is not sent; it is tried again later")
			}
			continue
		}
		if _, err := userapi.FinishDelayed.Call(ctx, s.caller, finish); err != nil {
			return err
		}
	}
	return nil
}

// sendDelayed sends an event that this instance has taken, and returns what is to
// be noted of it; nil where that is not known.
func (s *Server) sendDelayed(ctx context.Context, e *userapi.DelayedEvent) (*userapi.FinishDelayedRequest, error) {
	finish := &userapi.FinishDelayedRequest{Owner: s.jobOwner, ID: e.ID}
	proto, err := s.delayedProto(ctx, e)
	if err == nil {
		var sent *eventIDResponse
		if sent, err = s.appendOne(ctx, e.RoomID, delayedRequestID(e.ID), api.InputEvent{Proto: proto, DelayID: e.ID}); err == nil {
			finish.EventID = sent.EventID
			return finish, nil
		}
	}
	if passes(err) {
		return nil, err
	}
	text, e2 := json.Marshal(matrixerror.From(err))
	if e2 != nil {
		return nil, e2
	}
	finish.Error = string(text)
	return finish, err
}

// delayedProto makes the event and checks what send and state check before they
// log one, as of now. What was tried before may have been sent, so that it must
// not be taken for its own repetition.
func (s *Server) delayedProto(ctx context.Context, e *userapi.DelayedEvent) (*api.Proto, error) {
	account, err := userapi.QueryAccount.Call(ctx, s.caller, &userapi.AccountRequest{UserID: e.UserID})
	switch {
	case matrixerror.Is(err, "M_NOT_FOUND"):
		return nil, matrixerror.Forbidden("The account is deactivated")
	case err != nil:
		return nil, err
	case account.Locked:
		return nil, matrixerror.New(403, "M_USER_LOCKED", "This account is locked")
	}
	device := &httpapi.Device{UserID: e.UserID, IsGuest: account.Guest, Suspended: account.Suspended}
	if err := notSuspended(device); err != nil {
		return nil, err
	}
	proto := &api.Proto{Type: e.Type, StateKey: e.StateKey, Sender: e.UserID, Content: e.Content, TS: e.OriginTS}
	switch {
	case e.Type == typeRedaction && e.StateKey == nil:
		return proto, s.completeRedaction(ctx, device, e.RoomID, proto)
	case e.Type == typeCanonicalAlias && e.StateKey != nil && *e.StateKey == "":
		return proto, s.checkCanonicalAlias(ctx, e.RoomID, e.Content)
	case e.StateKey == nil && e.Tries == 1:
		if err := s.checkAnnotation(ctx, device, e.RoomID, e.Type, "", e.Content); err != nil {
			return nil, err
		}
		return proto, s.checkThread(ctx, device, e.RoomID, e.Content)
	}
	return proto, nil
}

// delayedRequestID is the same however often an event is tried.
func delayedRequestID(id string) string {
	return hashedID([]byte("delayed\x00" + id))
}
