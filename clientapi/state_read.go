package clientapi

import (
	"context"
	"strconv"
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
	ctx := r.Context()
	roomID, err := pathRoomID(r)
	if err != nil {
		return nil, err
	}
	view, err := s.viewOf(ctx, roomID, r.Device.UserID)
	if err != nil {
		return nil, err
	}
	res, err := api.QueryState.Call(ctx, s.caller, view.request(roomID))
	if err != nil {
		return nil, hideUnknown(err)
	}
	return s.clientEvents(ctx, r.Device, roomID, nil, res.Events)
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
	view, err := s.viewOf(ctx, roomID, r.Device.UserID)
	if err != nil {
		return nil, err
	}
	req := view.request(roomID)
	req.Keys = []gomatrixserverlib.StateKey{{Type: r.PathValue("eventType"), StateKey: r.PathValue("stateKey")}}
	res, err := api.QueryState.Call(ctx, s.caller, req)
	if err != nil {
		return nil, hideUnknown(err)
	}
	if len(res.Events) == 0 {
		return nil, matrixerror.NotFound("The room has no such state")
	}
	if format != "event" {
		return res.Events[0].Content(), nil
	}
	list, err := s.redactions(ctx, roomID, res.Events)
	if err != nil {
		return nil, err
	}
	return jsontext.Value(appendClientEvent(nil, r.Device, res.Events[0], list, time.Now().UnixMilli())), nil
}

// clientEvents renders events for a client as a JSON array behind prefix, which
// may be nil.
func (s *Server) clientEvents(ctx context.Context, d *httpapi.Device, roomID string, prefix []byte, events []*api.StoredEvent) (jsontext.Value, error) {
	redactions, err := s.redactions(ctx, roomID, events)
	if err != nil {
		return nil, err
	}
	size := len(prefix) + 2
	for _, e := range events {
		size += len(e.JSON()) + 128
	}
	out := append(append(make([]byte, 0, size), prefix...), '[')
	now := time.Now().UnixMilli()
	for i, e := range events {
		if i > 0 {
			out = append(out, ',')
		}
		out = appendClientEvent(out, d, e, redactions, now)
	}
	return append(out, ']'), nil
}

// redactions fetches the events that redacted some of these.
func (s *Server) redactions(ctx context.Context, roomID string, events []*api.StoredEvent) (map[string]*api.StoredEvent, error) {
	var ids []string
	for _, e := range events {
		if e.RedactedBy != "" {
			ids = append(ids, e.RedactedBy)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	res, err := api.QueryEvents.Call(ctx, s.caller, &api.EventsRequest{RoomID: roomID, EventIDs: ids})
	if err != nil {
		return nil, err
	}
	found := make(map[string]*api.StoredEvent, len(res.Events))
	for _, e := range res.Events {
		found[e.EventID()] = e
	}
	return found, nil
}

// appendClientEvent appends an event as its reader gets it.
// spec: client-server-api §room-event-format
func appendClientEvent(dst []byte, d *httpapi.Device, e *api.StoredEvent, redactions map[string]*api.StoredEvent, now int64) []byte {
	unsigned := make([]byte, 0, 96)
	unsigned = append(unsigned, `{"age":`...)
	unsigned = strconv.AppendInt(unsigned, max(0, now-e.OriginServerTS()), 10)
	if e.ReplacesState != "" {
		unsigned = append(unsigned, `,"replaces_state":`...)
		unsigned = appendQuoted(unsigned, e.ReplacesState)
	}
	if by := redactions[e.RedactedBy]; by != nil {
		unsigned = append(unsigned, `,"redacted_because":`...)
		unsigned = by.AppendClient(unsigned, gomatrixserverlib.ClientFormat{})
	}
	if e.TxnID != "" && e.Device == d.DeviceID && e.Sender() == d.UserID {
		unsigned = append(unsigned, `,"transaction_id":`...)
		unsigned = appendQuoted(unsigned, e.TxnID)
	}
	unsigned = append(unsigned, '}')
	return e.AppendClient(dst, gomatrixserverlib.ClientFormat{Unsigned: unsigned})
}

// appendQuoted appends s as a JSON string; what is not UTF-8 is replaced, which
// no ID that was accepted holds.
func appendQuoted(dst []byte, s string) []byte {
	out, err := jsontext.AppendQuote(dst, s)
	if err != nil {
		return append(dst, `""`...)
	}
	return out
}
