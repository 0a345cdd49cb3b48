package clientapi

import (
	"context"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/roomserver/api"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

const msc4306 = "io.element.msc4306"

// threadEndpoints list what users say of threads, which is not in the
// specification yet: those who have begun to are notified of threads that they are
// subscribed to, and of no others.
// spec: MSC4306 §new-endpoints
func (s *Server) threadEndpoints() []httpapi.Endpoint {
	if s.config.ThreadSubscriptions.Disabled {
		return nil
	}
	const path = unstable + "/" + msc4306 + "/rooms/{roomId}/thread/{threadRootId}/subscription"
	e := func(method string, h httpapi.Handler) httpapi.Endpoint {
		return httpapi.Endpoint{Method: method, Path: path, Access: httpapi.User, Limit: httpapi.LimitRequest, Handler: h}
	}
	return []httpapi.Endpoint{e("GET", s.getThreadSubscription), e("PUT", s.putThreadSubscription), e("DELETE", s.deleteThreadSubscription)}
}

func errNoThread() error { return matrixerror.NotFound("There is no such thread") }

// pathThread reads the thread of the path, whose root the user must be able to see.
// It need not hold anything yet: who begins a thread subscribes to it meanwhile.
func (s *Server) pathThread(r *httpapi.Request) (roomID, root string, err error) {
	if roomID, err = pathRoomID(r); err != nil {
		return "", "", err
	}
	root = r.PathValue("threadRootId")
	if checkEventID(root) != nil {
		return "", "", errNoThread()
	}
	ev, err := s.eventFor(r.Context(), r.Device.UserID, roomID, root)
	if err != nil {
		return "", "", err
	}
	if ev == nil || relationTo(ev.Content()).RelatesTo.RelType != "" {
		return "", "", errNoThread()
	}
	return roomID, root, nil
}

// eventFor finds an event of a room as far as the user may see it; nil for none.
func (s *Server) eventFor(ctx context.Context, userID, roomID, eventID string) (*api.StoredEvent, error) {
	res, err := api.QueryEvents.Call(ctx, s.caller, &api.EventsRequest{RoomID: roomID, EventIDs: []string{eventID}, Viewer: userID})
	if matrixerror.Is(err, "M_NOT_FOUND") {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(res.Events) == 0 {
		return nil, nil
	}
	return res.Events[0], nil
}

// getThreadSubscription serves GET of a subscription.
func (s *Server) getThreadSubscription(r *httpapi.Request) (any, error) {
	roomID, root, err := s.pathThread(r)
	if err != nil {
		return nil, err
	}
	res, err := userapi.QueryThreadSubscriptions.Call(r.Context(), s.caller, &userapi.ThreadSubscriptionsRequest{UserID: r.Device.UserID, RoomID: roomID, ThreadID: root})
	if err != nil {
		return nil, err
	}
	if len(res.Subscriptions) == 0 || !res.Subscriptions[0].Subscribed {
		return nil, matrixerror.NotFound("You are not subscribed to that thread")
	}
	return map[string]bool{"automatic": res.Subscriptions[0].Automatic}, nil
}

// putThreadSubscription serves PUT of a subscription: of the user's own will, or by
// the client itself, because of an event in the thread.
func (s *Server) putThreadSubscription(r *httpapi.Request) (any, error) {
	var body struct {
		Automatic *string `json:"automatic"`
	}
	if err := r.DecodeOptional(&body); err != nil {
		return nil, err
	}
	roomID, root, err := s.pathThread(r)
	if err != nil {
		return nil, err
	}
	put := &userapi.PutThreadSubscriptionRequest{UserID: r.Device.UserID, RoomID: roomID, ThreadID: root, ThreadState: userapi.ThreadState{Subscribed: true}}
	if body.Automatic != nil {
		put.Automatic = true
		if put.At, err = s.causeIn(r.Context(), r.Device.UserID, roomID, root, *body.Automatic); err != nil {
			return nil, err
		}
	}
	_, err = userapi.PutThreadSubscription.Call(r.Context(), s.caller, put)
	return nil, err
}

// causeIn is the Seq of an event in a thread, be it by what it relates to.
func (s *Server) causeIn(ctx context.Context, userID, roomID, root, eventID string) (int64, error) {
	id, seq := eventID, int64(0)
	for range 1 + maxThreadHops {
		if checkEventID(id) != nil {
			break
		}
		ev, err := s.eventFor(ctx, userID, roomID, id)
		if err != nil {
			return 0, err
		}
		if ev == nil {
			break
		}
		if id == eventID {
			seq = ev.Position.Seq
		}
		is := relationTo(ev.Content()).RelatesTo
		if is.RelType == relThread && is.EventID == root {
			return seq, nil
		}
		id = is.EventID
	}
	return 0, matrixerror.New(400, "IO.ELEMENT.MSC4306.M_NOT_IN_THREAD", "The event is not in that thread")
}

// deleteThreadSubscription serves DELETE of a subscription. What is in the room by
// then is no reason to begin it again, other than the user's will.
func (s *Server) deleteThreadSubscription(r *httpapi.Request) (any, error) {
	roomID, root, err := s.pathThread(r)
	if err != nil {
		return nil, err
	}
	room, err := api.QueryRoom.Call(r.Context(), s.caller, &api.RoomRequest{RoomID: roomID})
	if err != nil {
		return nil, hideUnknown(err)
	}
	_, err = userapi.PutThreadSubscription.Call(r.Context(), s.caller, &userapi.PutThreadSubscriptionRequest{
		UserID: r.Device.UserID, RoomID: roomID, ThreadID: root, At: room.Latest.Seq})
	return nil, err
}
