package clientapi

import (
	"context"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// joinRequest is the body of joins and knocks; all of it is optional.
type joinRequest struct {
	Reason           string            `json:"reason"`
	ThirdPartySigned *thirdPartySigned `json:"third_party_signed"`
}

// thirdPartySigned proves that a user owns the third-party ID that was invited.
// spec: client-server-api §post_matrixclientv3joinroomidoralias
type thirdPartySigned struct {
	Sender     string         `json:"sender"`
	MXID       string         `json:"mxid"`
	Token      string         `json:"token"`
	Signatures jsontext.Value `json:"signatures"`
}

// joinByID serves POST /rooms/{roomId}/join.
func (s *Server) joinByID(r *httpapi.Request) (any, error) {
	roomID, err := pathRoomID(r)
	if err != nil {
		return nil, err
	}
	return s.join(r, roomID)
}

// joinByIDOrAlias serves POST /join/{roomIdOrAlias}. The servers named by via
// and server_name are for rooms that no user of ours is in.
func (s *Server) joinByIDOrAlias(r *httpapi.Request) (any, error) {
	roomID, err := s.resolveRoom(r.Context(), r.PathValue("roomIdOrAlias"))
	if err != nil {
		return nil, err
	}
	return s.join(r, roomID)
}

// join makes the user join the room. Who is joined already stays so.
// spec: client-server-api §joining-rooms
func (s *Server) join(r *httpapi.Request, roomID string) (any, error) {
	ctx := r.Context()
	if err := notSuspended(r.Device); err != nil {
		return nil, err
	}
	var req joinRequest
	if err := r.DecodeOptional(&req); err != nil {
		return nil, err
	}
	terms, err := s.joinTerms(ctx, roomID, r.Device.UserID)
	if err != nil {
		return nil, unknownRoom(err)
	}
	current := terms.membership
	if current == "join" {
		return &roomIDResponse{RoomID: roomID}, nil
	}
	content := memberContent{Membership: "join", Reason: req.Reason}
	var events []api.InputEvent
	if req.ThirdPartySigned != nil && current != "invite" {
		invite, err := s.thirdPartyInvite(ctx, r.Device.UserID, req.ThirdPartySigned)
		if err != nil {
			return nil, err
		}
		events, current = append(events, invite), "invite"
	}
	if content.AuthorisedVia, err = s.mayJoin(ctx, r.Device, roomID, current, terms); err != nil {
		return nil, err
	}
	if content, err = s.ownProfile(ctx, r.Device, content); err != nil {
		return nil, err
	}
	event, err := memberEvent(r.Device.UserID, r.Device.UserID, content)
	if err != nil {
		return nil, err
	}
	event.UnlessSame = true
	if _, err := s.writer.Append(ctx, &api.InputRecord{RoomID: roomID, Events: append(events, event)}); err != nil {
		return nil, unknownRoom(err)
	}
	if err := s.guestStays(ctx, r.Device, roomID); err != nil {
		return nil, err
	}
	if terms.predecessor != "" {
		s.carryOver(ctx, r.Device.UserID, roomID)
	}
	return &roomIDResponse{RoomID: roomID}, nil
}

// joinTerms is what a room says of a join, and what is needed after it, by one
// question.
type joinTerms struct {
	membership  string
	restricted  bool // by membership of other rooms
	predecessor string
}

// joinTerms asks for it; 404 where the room is not known.
func (s *Server) joinTerms(ctx context.Context, roomID, userID string) (*joinTerms, error) {
	res, err := api.QueryState.Call(ctx, s.caller, &api.StateRequest{RoomID: roomID, Keys: []gomatrixserverlib.StateKey{
		{Type: "m.room.create"}, {Type: "m.room.join_rules"}, {Type: "m.room.member", StateKey: userID},
	}})
	if err != nil {
		return nil, err
	}
	terms := &joinTerms{}
	for _, e := range res.Events {
		switch e.Type() {
		case "m.room.create":
			terms.predecessor = predecessor(e.Content())
		case "m.room.member":
			terms.membership = e.Membership()
		default:
			var rule struct {
				JoinRule string `json:"join_rule"`
			}
			if json.Unmarshal(e.Content(), &rule) == nil { // else nobody may join by it
				terms.restricted = rule.JoinRule == "restricted" || rule.JoinRule == "knock_restricted"
			}
		}
	}
	return terms, nil
}

// mayJoin checks what only this server can check of a join: guests, and rooms
// that are open to the members of others. It returns the user who authorises
// the join, "" where nobody has to. The room server applies the rules.
// spec: client-server-api §restricted-rooms
func (s *Server) mayJoin(ctx context.Context, d *httpapi.Device, roomID, current string, terms *joinTerms) (via string, err error) {
	if d.IsGuest {
		if err := s.guestsMayJoin(ctx, roomID); err != nil {
			return "", err
		}
	}
	if current == "invite" || !terms.restricted {
		return "", nil
	}
	res, err := api.QueryRestrictedJoin.Call(ctx, s.caller, &api.RestrictedJoinRequest{RoomID: roomID, UserID: d.UserID})
	if err != nil {
		return "", unknownRoom(err)
	}
	if res.JoinRule != "restricted" && res.JoinRule != "knock_restricted" {
		return "", nil
	}
	switch {
	case !res.Allowed:
		return "", matrixerror.Forbidden("You are in none of the rooms whose members may join this one")
	case res.AuthorisedVia == "":
		return "", matrixerror.Forbidden("Nobody on this server may let you into the room")
	}
	return res.AuthorisedVia, nil
}

// guestsMayJoin refuses guests where the room does not ask them in.
// spec: client-server-api §guest-access
func (s *Server) guestsMayJoin(ctx context.Context, roomID string) error {
	content, err := s.currentContent(ctx, roomID, "m.room.guest_access", "")
	if err != nil {
		return unknownRoom(err)
	}
	var access struct {
		GuestAccess string `json:"guest_access"`
	}
	if content != nil {
		if err := json.Unmarshal(content, &access); err != nil {
			access.GuestAccess = "" // a malformed event asks nobody in
		}
	}
	if access.GuestAccess != "can_join" {
		return matrixerror.New(403, "M_GUEST_ACCESS_FORBIDDEN", "Guests may not join this room")
	}
	return nil
}

// thirdPartyInvite makes the invite that a third-party invite stands for, now
// that the invited person is known. The room server checks the signature.
// spec: client-server-api §third-party-invites
func (s *Server) thirdPartyInvite(ctx context.Context, userID string, signed *thirdPartySigned) (api.InputEvent, error) {
	if signed.MXID != userID {
		return api.InputEvent{}, matrixerror.Forbidden("The signed invite is for another user")
	}
	if signed.Token == "" || signed.Signatures.Kind() != '{' {
		return api.InputEvent{}, matrixerror.BadJSON("third_party_signed needs sender, mxid, token and signatures")
	}
	_, server, err := gomatrixserverlib.ParseUserID(signed.Sender)
	if err != nil {
		return api.InputEvent{}, matrixerror.InvalidParam("sender is not a user ID")
	}
	if server != s.serverName {
		return api.InputEvent{}, matrixerror.Forbidden("The invite was sent from another server, which has to confirm it")
	}
	quoted := struct {
		Signed struct {
			MXID       string         `json:"mxid"`
			Token      string         `json:"token"`
			Signatures jsontext.Value `json:"signatures"`
		} `json:"signed"`
		DisplayName string `json:"display_name"`
	}{}
	quoted.Signed.MXID, quoted.Signed.Token, quoted.Signed.Signatures = signed.MXID, signed.Token, signed.Signatures
	content := memberContent{Membership: "invite"}
	if content, err = s.profiled(ctx, userID, content); err != nil {
		return api.InputEvent{}, err
	}
	quoted.DisplayName = content.DisplayName
	if content.ThirdPartyInvite, err = json.Marshal(&quoted); err != nil {
		return api.InputEvent{}, matrixerror.BadJSON("third_party_signed cannot be written: %v", err)
	}
	return memberEvent(signed.Sender, userID, content)
}

// knock serves POST /knock/{roomIdOrAlias}.
// spec: client-server-api §knocking-on-rooms
func (s *Server) knock(r *httpapi.Request) (any, error) {
	ctx := r.Context()
	if err := notSuspended(r.Device); err != nil {
		return nil, err
	}
	var req joinRequest
	if err := r.DecodeOptional(&req); err != nil {
		return nil, err
	}
	roomID, err := s.resolveRoom(ctx, r.PathValue("roomIdOrAlias"))
	if err != nil {
		return nil, err
	}
	if _, err := s.membership(ctx, roomID, r.Device.UserID); err != nil {
		return nil, unknownRoom(err)
	}
	content, err := s.ownProfile(ctx, r.Device, memberContent{Membership: "knock", Reason: req.Reason})
	if err != nil {
		return nil, err
	}
	event, err := memberEvent(r.Device.UserID, r.Device.UserID, content)
	if err != nil {
		return nil, err
	}
	event.UnlessSame = true
	if _, err := s.writer.Append(ctx, &api.InputRecord{RoomID: roomID, Events: []api.InputEvent{event}}); err != nil {
		return nil, unknownRoom(err)
	}
	return &roomIDResponse{RoomID: roomID}, nil
}

// unknownRoom words a 404 for who wants to enter a room.
func unknownRoom(err error) error {
	if matrixerror.Is(err, "M_NOT_FOUND") {
		return matrixerror.NotFound("No such room is known to this server")
	}
	return err
}
