package clientapi

import (
	"context"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// membershipRequest is the body of invite, kick, ban, unban and leave. The
// members of invites by third-party ID are among them: these are told apart by
// what is there.
type membershipRequest struct {
	UserID        string `json:"user_id"`
	Reason        string `json:"reason"`
	IDServer      string `json:"id_server"`
	IDAccessToken string `json:"id_access_token"`
	Medium        string `json:"medium"`
	Address       string `json:"address"`
}

// errThirdParty refuses invites by third-party ID: they need an identity
// server, and this server trusts none.
// spec: client-server-api §third-party-invites
func errThirdParty() error {
	return matrixerror.New(403, "M_SERVER_NOT_TRUSTED", "This server uses no identity server: people can be invited by user ID only")
}

// invite serves POST /rooms/{roomId}/invite.
// spec: client-server-api §post_matrixclientv3roomsroomidinvite
func (s *Server) invite(r *httpapi.Request) (any, error) {
	ctx := r.Context()
	if err := notSuspended(r.Device); err != nil {
		return nil, err
	}
	roomID, req, err := s.membershipRequest(r)
	if err != nil {
		return nil, err
	}
	if err := s.checkInvitee(ctx, r.Device.UserID, req.UserID); err != nil {
		return nil, err
	}
	content, err := s.profiled(ctx, req.UserID, memberContent{Membership: "invite", Reason: req.Reason})
	if err != nil {
		return nil, err
	}
	event, err := memberEvent(r.Device.UserID, req.UserID, content)
	if err != nil {
		return nil, err
	}
	event.UnlessSame = true // who invites twice, invites once
	event.Expect = []api.Expectation{{
		UserID: req.UserID, Membership: []string{"", "invite", "knock", "leave", "ban"},
		Status: 403, Code: "M_FORBIDDEN", Message: "The user is in the room already",
	}}
	return s.change(ctx, roomID, event)
}

// kick serves POST /rooms/{roomId}/kick.
func (s *Server) kick(r *httpapi.Request) (any, error) {
	return s.moderate(r, "leave", api.Expectation{
		Membership: []string{"join", "invite", "knock"},
		Status:     403, Code: "M_FORBIDDEN", Message: "The user is not in the room",
	})
}

// ban serves POST /rooms/{roomId}/ban.
func (s *Server) ban(r *httpapi.Request) (any, error) {
	return s.moderate(r, "ban", api.Expectation{})
}

// unban serves POST /rooms/{roomId}/unban.
// spec: client-server-api §other-error-codes (M_BAD_STATE)
func (s *Server) unban(r *httpapi.Request) (any, error) {
	return s.moderate(r, "leave", api.Expectation{
		Membership: []string{"ban"},
		Status:     403, Code: "M_BAD_STATE", Message: "The user is not banned from the room",
	})
}

// moderate changes somebody else's membership, if what is expected of it holds
// when the room server gets to it.
func (s *Server) moderate(r *httpapi.Request, membership string, expect api.Expectation) (any, error) {
	if err := notSuspended(r.Device); err != nil {
		return nil, err
	}
	roomID, req, err := s.membershipRequest(r)
	if err != nil {
		return nil, err
	}
	event, err := memberEvent(r.Device.UserID, req.UserID, memberContent{Membership: membership, Reason: req.Reason})
	if err != nil {
		return nil, err
	}
	if expect.Membership != nil {
		expect.UserID = req.UserID
		event.Expect = []api.Expectation{expect}
	}
	return s.change(r.Context(), roomID, event)
}

// leave serves POST /rooms/{roomId}/leave: it ends a membership, an invite or a
// knock. Who has left already may do so again.
// spec: client-server-api §post_matrixclientv3roomsroomidleave
func (s *Server) leave(r *httpapi.Request) (any, error) {
	ctx := r.Context()
	roomID, err := pathRoomID(r)
	if err != nil {
		return nil, err
	}
	var req membershipRequest
	if err := r.DecodeOptional(&req); err != nil {
		return nil, err
	}
	current, err := s.membership(ctx, roomID, r.Device.UserID)
	switch {
	case err != nil:
		return nil, unknownRoom(err)
	case current == "leave":
		return nil, nil
	case current == "":
		return nil, errNotInRoom()
	}
	event, err := memberEvent(r.Device.UserID, r.Device.UserID, memberContent{Membership: "leave", Reason: req.Reason})
	if err != nil {
		return nil, err
	}
	event.UnlessSame = true // the same request may have been logged before, and not answered
	return s.change(ctx, roomID, event)
}

// change logs one membership change and answers {}.
func (s *Server) change(ctx context.Context, roomID string, event api.InputEvent) (any, error) {
	_, err := s.writer.Append(ctx, &api.InputRecord{RoomID: roomID, Events: []api.InputEvent{event}})
	return nil, hideUnknown(err)
}

// membershipRequest reads the path and body of a change of somebody else's
// membership.
func (s *Server) membershipRequest(r *httpapi.Request) (string, *membershipRequest, error) {
	roomID, err := pathRoomID(r)
	if err != nil {
		return "", nil, err
	}
	var req membershipRequest
	if err := r.Decode(&req); err != nil {
		return "", nil, err
	}
	switch {
	case req.UserID == "" && (req.Medium != "" || req.Address != ""):
		return "", nil, errThirdParty()
	case req.UserID == "":
		return "", nil, matrixerror.MissingParam("user_id is missing")
	}
	return roomID, &req, checkUserID(req.UserID)
}

func checkUserID(id string) error {
	if _, _, err := gomatrixserverlib.ParseHistoricalUserID(id); err != nil {
		return matrixerror.InvalidParam("That is not a user ID")
	}
	return nil
}

// checkInvitee checks that a user can be invited: that there is such a user
// here, and that the inviter's invites are not blocked.
// spec: client-server-api §invite-permission
func (s *Server) checkInvitee(ctx context.Context, inviter, userID string) error {
	_, server, err := gomatrixserverlib.ParseHistoricalUserID(userID)
	if err != nil {
		return matrixerror.InvalidParam("An invited user's ID is not one")
	}
	if server != s.serverName {
		return matrixerror.Forbidden("This server does not federate: %s cannot be invited", userID)
	}
	if _, err := userapi.QueryProfile.Call(ctx, s.caller, &userapi.ProfileRequest{UserID: userID}); err != nil {
		if matrixerror.Is(err, "M_NOT_FOUND") {
			return matrixerror.NotFound("There is no user %s", userID)
		}
		return err
	}
	res, err := userapi.QueryAccountData.Call(ctx, s.caller, &userapi.AccountDataRequest{
		UserID: userID, RoomIDs: []string{""}, Types: []string{userapi.TypeInvitePermission, userapi.TypeInviteFilter},
	})
	if err != nil {
		return err
	}
	var rules userapi.InviteRules
	rules.SetPermission(res.Data[""][userapi.TypeInvitePermission])
	rules.SetFilter(res.Data[""][userapi.TypeInviteFilter])
	if rules.Action(inviter) == userapi.InviteBlocked {
		return matrixerror.New(403, "M_INVITE_BLOCKED", "%s does not take invites", userID)
	}
	return nil
}

// membership is a user's current membership of a room: "" for none, 404 when
// the room is unknown.
func (s *Server) membership(ctx context.Context, roomID, userID string) (string, error) {
	m, err := s.member(ctx, roomID, userID)
	return m.Membership, err
}

func (s *Server) member(ctx context.Context, roomID, userID string) (api.Member, error) {
	res, err := api.QueryMemberships.Call(ctx, s.caller, &api.MembershipsRequest{RoomID: roomID, UserIDs: []string{userID}})
	if err != nil || len(res.Members) == 0 {
		return api.Member{}, err
	}
	return res.Members[0], nil
}
