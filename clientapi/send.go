package clientapi

import (
	"context"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
)

const typeRedaction = "m.room.redaction"

// send serves PUT /rooms/{roomId}/send/{eventType}/{txnId}.
// spec: client-server-api §put_matrixclientv3roomsroomidsendeventtypetxnid
//
// Nothing is asked before the record is logged, but for reactions, which must
// not be repeated, for threads, which start nowhere else, and for suspended users: whether the user is in the room and
// may send is decided by the room server, in order with everything else.
func (s *Server) send(r *httpapi.Request) (any, error) {
	ctx := r.Context()
	roomID, err := pathRoomID(r)
	if err != nil {
		return nil, err
	}
	typ, txnID := r.PathValue("eventType"), r.PathValue("txnId")
	if err := checkEventType(typ, ""); err != nil {
		return nil, err
	}
	if typ != typeRedaction {
		if err := notSuspended(r.Device); err != nil {
			return nil, err
		}
	}
	if err := checkTxnID(txnID); err != nil {
		return nil, err
	}
	content, err := s.readContent(r, roomID)
	if err != nil {
		return nil, err
	}
	if delays(r) {
		return s.delay(r, roomID, typ, nil, content)
	}
	proto := &api.Proto{Type: typ, Sender: r.Device.UserID, Content: content}
	if proto.TS, err = appserviceTime(r); err != nil {
		return nil, err
	}
	if typ == typeRedaction {
		if err := s.completeRedaction(ctx, r.Device, roomID, proto); err != nil {
			return nil, err
		}
	}
	if err := s.checkAnnotation(ctx, r.Device, roomID, typ, txnID, content); err != nil {
		return nil, err
	}
	if err := s.checkThread(ctx, r.Device, roomID, content); err != nil {
		return nil, err
	}
	requestID := transactionID(r.Device, "PUT", "/rooms/"+roomID+"/send/"+typ, txnID)
	return s.appendEvent(ctx, r.Device, roomID, requestID, txnID, proto)
}

// redact serves PUT /rooms/{roomId}/redact/{eventId}/{txnId}.
// spec: client-server-api §put_matrixclientv3roomsroomidredacteventidtxnid
func (s *Server) redact(r *httpapi.Request) (any, error) {
	ctx := r.Context()
	roomID, err := pathRoomID(r)
	if err != nil {
		return nil, err
	}
	eventID, txnID := r.PathValue("eventId"), r.PathValue("txnId")
	if err := checkTxnID(txnID); err != nil {
		return nil, err
	}
	content, err := s.readContent(r, roomID)
	if err != nil {
		return nil, err
	}
	var body struct {
		Reason string `json:"reason"`
	}
	if err := json.Unmarshal(content, &body); err != nil {
		return nil, matrixerror.BadJSON("reason is a string")
	}
	proto := &api.Proto{Type: typeRedaction, Sender: r.Device.UserID, Content: content, Redacts: eventID}
	if proto.TS, err = appserviceTime(r); err != nil {
		return nil, err
	}
	if err := s.completeRedaction(ctx, r.Device, roomID, proto); err != nil {
		return nil, err
	}
	requestID := transactionID(r.Device, "PUT", "/rooms/"+roomID+"/redact/"+eventID, txnID)
	return s.appendEvent(ctx, r.Device, roomID, requestID, txnID, proto)
}

// completeRedaction takes redacts out of the content: the room server puts it
// where the room's version wants it. Suspended users may redact only what they
// sent themselves.
// spec: client-server-api §account-suspension
func (s *Server) completeRedaction(ctx context.Context, d *httpapi.Device, roomID string, proto *api.Proto) error {
	content, redacts, err := splitRedacts(proto.Content)
	if err != nil {
		return err
	}
	proto.Content = content
	if proto.Redacts == "" {
		proto.Redacts = redacts
	}
	if proto.Redacts == "" {
		return matrixerror.MissingParam("redacts is missing: the ID of the event to redact")
	}
	if len(proto.Redacts) > gomatrixserverlib.MaxIDBytes || proto.Redacts[0] != '$' {
		return matrixerror.InvalidParam("That is not an event ID")
	}
	if !d.Suspended {
		return nil
	}
	res, err := api.QueryEvents.Call(ctx, s.caller, &api.EventsRequest{
		RoomID: roomID, EventIDs: []string{proto.Redacts}, Viewer: d.UserID,
	})
	if err != nil {
		return hideUnknown(err)
	}
	if len(res.Events) == 1 && res.Events[0].Sender() == d.UserID {
		return nil
	}
	return notSuspended(d)
}

// splitRedacts returns the content without redacts, and redacts.
func splitRedacts(content jsontext.Value) (jsontext.Value, string, error) {
	var fields map[string]jsontext.Value
	if err := json.Unmarshal(content, &fields); err != nil {
		return nil, "", matrixerror.BadJSON("The content is not an object")
	}
	value, ok := fields["redacts"]
	if !ok {
		return content, "", nil
	}
	var redacts string
	if err := json.Unmarshal(value, &redacts); err != nil {
		return nil, "", matrixerror.BadJSON("redacts is not an event ID")
	}
	delete(fields, "redacts")
	rest, err := json.Marshal(fields, json.Deterministic(true))
	return rest, redacts, err
}

// appserviceTime reads ?ts=, which application services may give.
// spec: application-service-api §timestamp-massaging
func appserviceTime(r *httpapi.Request) (int64, error) {
	if r.Device.AppserviceID == "" || r.URL.RawQuery == "" {
		return 0, nil
	}
	text := r.QueryString("ts")
	if text == "" {
		return 0, nil
	}
	ts, err := strconv.ParseInt(text, 10, 64)
	if err != nil || ts < 0 || ts > 1<<53-1 {
		return 0, matrixerror.InvalidParam("ts is not a time in milliseconds")
	}
	return ts, nil
}

// appendEvent logs one event of a client and answers with its ID.
func (s *Server) appendEvent(ctx context.Context, d *httpapi.Device, roomID, requestID, txnID string, proto *api.Proto) (any, error) {
	event := api.InputEvent{Proto: proto, TxnID: txnID}
	if txnID != "" {
		event.Device = d.DeviceID
	}
	return s.appendOne(ctx, roomID, requestID, event)
}

// appendOne logs one event and answers with its ID.
func (s *Server) appendOne(ctx context.Context, roomID, requestID string, event api.InputEvent) (*eventIDResponse, error) {
	verdict, err := s.writer.Append(ctx, &api.InputRecord{
		RequestID: requestID,
		RoomID:    roomID,
		Events:    []api.InputEvent{event},
	})
	if err != nil {
		return nil, err
	}
	if len(verdict.EventIDs) == 0 {
		return nil, errNoEvent
	}
	return &eventIDResponse{EventID: verdict.EventIDs[len(verdict.EventIDs)-1]}, nil
}
