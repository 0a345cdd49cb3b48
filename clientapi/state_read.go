package clientapi

import (
	"context"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// getState serves GET /rooms/{roomId}/state.
// spec: client-server-api §get_matrixclientv3roomsroomidstate
func (s *Server) getState(r *httpapi.Request) (any, error) {
	roomID, err := pathRoomID(r)
	if err != nil {
		return nil, err
	}
	form := clientForm(r.Device)
	res, err := s.stateSeen(r.Context(), r.Device.UserID, &api.StateRequest{RoomID: roomID, Client: form})
	if err != nil {
		return nil, err
	}
	return s.rendered(r.Context(), roomID, res, form)
}

// getStateEvent serves GET /rooms/{roomId}/state/{eventType}/{stateKey} and its
// forms without a state key: the content, or with ?format=event the event.
// spec: client-server-api §get_matrixclientv3roomsroomidstateeventtypestatekey
func (s *Server) getStateEvent(r *httpapi.Request) (any, error) {
	ctx := r.Context()
	roomID, err := pathRoomID(r)
	if err != nil {
		return nil, err
	}
	format := r.QueryString("format")
	if format != "" && format != "content" && format != "event" {
		return nil, matrixerror.InvalidParam("format is content or event")
	}
	form := clientForm(r.Device)
	req := &api.StateRequest{RoomID: roomID, Keys: []gomatrixserverlib.StateKey{{Type: r.PathValue("eventType"), StateKey: r.PathValue("stateKey")}}}
	if format == "event" {
		req.Client = form
	}
	res, err := s.stateSeen(ctx, r.Device.UserID, req)
	if err != nil {
		return nil, err
	}
	if format != "event" {
		if len(res.Events) == 0 {
			return nil, errNoSuchState()
		}
		return res.Events[0].Content(), nil
	}
	list, err := s.rendered(ctx, roomID, res, form)
	if err != nil {
		return nil, err
	}
	event := list[1 : len(list)-1] // the only one of the array
	if len(event) == 0 {
		return nil, errNoSuchState()
	}
	return event, nil
}

func errNoSuchState() error { return matrixerror.NotFound("The room has no such state") }

// stateSeen asks for state of a room as the user may see it. Members have it with
// one question.
func (s *Server) stateSeen(ctx context.Context, userID string, req *api.StateRequest) (*api.StateResponse, error) {
	current := *req
	current.IfJoined = userID
	res, err := api.QueryState.Call(ctx, s.caller, &current)
	if err != nil {
		return nil, hideUnknown(err)
	}
	if res.Joined {
		return res, nil
	}
	view, err := s.viewOf(ctx, req.RoomID, userID)
	if err != nil {
		return nil, err
	}
	if res, err = api.QueryState.Call(ctx, s.caller, view.of(req)); err != nil {
		return nil, hideUnknown(err)
	}
	return res, nil
}

func clientForm(d *httpapi.Device) *api.ClientForm {
	return &api.ClientForm{UserID: d.UserID, DeviceID: d.DeviceID, Now: time.Now().UnixMilli()}
}

// rendered is the JSON array of the events of an answer, of which a room server
// of v0.1.0 only has the events.
func (s *Server) rendered(ctx context.Context, roomID string, res *api.StateResponse, form *api.ClientForm) (jsontext.Value, error) {
	if res.Rendered != nil {
		return res.Rendered, nil
	}
	redactions := map[string]*api.StoredEvent{}
	if ids := api.RedactedBy(res.Events); ids != nil {
		found, err := api.QueryEvents.Call(ctx, s.caller, &api.EventsRequest{RoomID: roomID, EventIDs: ids})
		if err != nil {
			return nil, err
		}
		for _, e := range found.Events {
			redactions[e.EventID()] = e
		}
	}
	return form.Render(res.Events, redactions), nil
}
