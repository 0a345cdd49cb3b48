package clientapi

import (
	"context"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// putState serves PUT /rooms/{roomId}/state/{eventType}/{stateKey} and its
// forms without a state key.
// spec: client-server-api §put_matrixclientv3roomsroomidstateeventtypestatekey
func (s *Server) putState(r *httpapi.Request) (any, error) {
	ctx := r.Context()
	roomID, err := pathRoomID(r)
	if err != nil {
		return nil, err
	}
	typ, stateKey := r.PathValue("eventType"), r.PathValue("stateKey")
	if err := checkEventType(typ, stateKey); err != nil {
		return nil, err
	}
	if typ == typeMember {
		if delays(r) {
			return s.delay(r, roomID, typ, &stateKey, nil) // which refuses it
		}
		body, err := decodeObject(r)
		if err != nil {
			return nil, err
		}
		return s.putMember(r, roomID, stateKey, body)
	}
	if err := notSuspended(r.Device); err != nil {
		return nil, err
	}
	content, err := s.readContent(r, roomID)
	if err != nil {
		return nil, err
	}
	if err := checkRetention(typ, stateKey, content); err != nil {
		return nil, err
	}
	if delays(r) {
		return s.delay(r, roomID, typ, &stateKey, content)
	}
	if typ == typeCanonicalAlias && stateKey == "" {
		if err := s.checkCanonicalAlias(ctx, roomID, content); err != nil {
			return nil, err
		}
	}
	proto := &api.Proto{Type: typ, StateKey: &stateKey, Sender: r.Device.UserID, Content: content}
	if proto.TS, err = appserviceTime(r); err != nil {
		return nil, err
	}
	return s.appendEvent(ctx, r.Device, roomID, "", "", proto)
}

// putMember is a member event that the client wrote itself: what the endpoints
// of memberships check and add holds here too.
func (s *Server) putMember(r *httpapi.Request, roomID, target string, body jsontext.Value) (any, error) {
	ctx := r.Context()
	var is struct {
		Membership    string         `json:"membership"`
		AuthorisedVia jsontext.Value `json:"join_authorised_via_users_server"`
	}
	if err := json.Unmarshal(body, &is); err != nil {
		return nil, matrixerror.BadJSON("The content is not that of a member event: membership must be a string")
	}
	if err := checkUserID(target); err != nil {
		return nil, err
	}
	own := target == r.Device.UserID
	if !own || is.Membership != "leave" {
		if err := notSuspended(r.Device); err != nil {
			return nil, err
		}
	}
	event := api.InputEvent{}
	var err error
	switch {
	case is.Membership == "join" && own:
		event.UnlessSame = true
		if body, err = s.completeJoin(ctx, r.Device, roomID, body, is.AuthorisedVia != nil); err != nil {
			return nil, err
		}
	case is.Membership == "invite":
		if err := s.checkInvitee(ctx, r.Device.UserID, target); err != nil {
			return nil, err
		}
	}
	content, err := s.eventContent(ctx, roomID, body)
	if err != nil {
		return nil, err
	}
	event.Proto = &api.Proto{Type: typeMember, StateKey: &target, Sender: r.Device.UserID, Content: content}
	if event.Proto.TS, err = appserviceTime(r); err != nil {
		return nil, err
	}
	id, err := s.appendOne(ctx, roomID, "", event)
	if err == nil && own && is.Membership == "join" {
		if err = s.guestStays(ctx, r.Device, roomID); err == nil {
			s.carryOver(ctx, r.Device.UserID, roomID)
		}
	}
	return id, err
}

// completeJoin adds to a join that a client wrote who authorises it, where the
// room is restricted and the client does not say.
func (s *Server) completeJoin(ctx context.Context, d *httpapi.Device, roomID string, body jsontext.Value, authorised bool) (jsontext.Value, error) {
	terms, err := s.joinTerms(ctx, roomID, d.UserID)
	if err != nil {
		return nil, hideUnknown(err)
	}
	if terms.membership == "join" {
		return body, nil
	}
	if authorised {
		if d.IsGuest {
			err = s.guestsMayJoin(ctx, roomID)
		}
		return body, err
	}
	via, err := s.mayJoin(ctx, d, roomID, terms.membership, terms)
	if err != nil || via == "" {
		return body, err
	}
	var fields map[string]jsontext.Value
	if err := json.Unmarshal(body, &fields); err != nil {
		return nil, matrixerror.BadJSON("The content is not an object")
	}
	quoted, err := jsontext.AppendQuote(nil, via)
	if err != nil {
		return nil, err
	}
	fields["join_authorised_via_users_server"] = quoted
	return json.Marshal(fields, json.Deterministic(true))
}
