package clientapi

import (
	"context"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// getMembers serves GET /rooms/{roomId}/members.
// spec: client-server-api §get_matrixclientv3roomsroomidmembers
func (s *Server) getMembers(r *httpapi.Request) (any, error) {
	ctx := r.Context()
	roomID, err := pathRoomID(r)
	if err != nil {
		return nil, err
	}
	only, not := r.QueryString("membership"), r.QueryString("not_membership")
	for _, m := range []string{only, not} {
		switch m {
		case "", "join", "invite", "knock", "leave", "ban":
		default:
			return nil, matrixerror.InvalidParam("%q is not a membership", m)
		}
	}
	form := clientForm(r.Device)
	form.Membership, form.NotMembership = only, not
	req := &api.StateRequest{RoomID: roomID, Types: []string{typeMember}, Client: form}
	var res *api.StateResponse
	if at := r.QueryString("at"); at != "" {
		res, err = s.stateSeenAt(ctx, r.Device.UserID, req, at)
	} else {
		res, err = s.stateSeen(ctx, r.Device.UserID, req)
	}
	if err != nil {
		return nil, err
	}
	members, err := s.rendered(ctx, roomID, res, form)
	if err != nil {
		return nil, err
	}
	return jsontext.Value(slices.Concat([]byte(`{"chunk":`), members, []byte{'}'})), nil
}

// stateSeenAt asks for the state as of a token, as the user may see it.
func (s *Server) stateSeenAt(ctx context.Context, userID string, req *api.StateRequest, token string) (*api.StateResponse, error) {
	view, err := s.viewOf(ctx, req.RoomID, userID)
	if err != nil {
		return nil, err
	}
	if view, err = s.viewAt(ctx, req.RoomID, userID, view, token); err != nil {
		return nil, err
	}
	res, err := api.QueryState.Call(ctx, s.caller, view.of(req))
	if err != nil {
		return nil, hideUnknown(err)
	}
	return res, nil
}

// joinedMember is a member in the answer of joined_members.
type joinedMember struct {
	DisplayName string `json:"display_name,omitzero"`
	AvatarURL   string `json:"avatar_url,omitzero"`
}

// getJoinedMembers serves GET /rooms/{roomId}/joined_members.
// spec: client-server-api §get_matrixclientv3roomsroomidjoined_members
func (s *Server) getJoinedMembers(r *httpapi.Request) (any, error) {
	ctx := r.Context()
	roomID, err := pathRoomID(r)
	if err != nil {
		return nil, err
	}
	current, err := s.membership(ctx, roomID, r.Device.UserID)
	if err != nil {
		return nil, hideUnknown(err)
	}
	if current != "join" {
		return nil, errNotInRoom()
	}
	res, err := api.QueryMemberships.Call(ctx, s.caller, &api.MembershipsRequest{RoomID: roomID, Membership: []string{"join"}})
	if err != nil {
		return nil, hideUnknown(err)
	}
	joined := make(map[string]joinedMember, len(res.Members))
	for _, m := range res.Members {
		joined[m.UserID] = joinedMember{DisplayName: m.DisplayName, AvatarURL: m.AvatarURL}
	}
	return struct {
		Joined map[string]joinedMember `json:"joined"`
	}{joined}, nil
}

// getJoinedRooms serves GET /joined_rooms. What the client was told has
// happened, it sees: the directory's view is waited for.
// spec: client-server-api §get_matrixclientv3joined_rooms
func (s *Server) getJoinedRooms(r *httpapi.Request) (any, error) {
	rooms, err := s.roomsOf(r.Context(), r.Device.UserID, []string{"join"})
	if err != nil {
		return nil, err
	}
	ids := make([]string, 0, len(rooms))
	for _, room := range rooms {
		ids = append(ids, room.RoomID)
	}
	return struct {
		JoinedRooms []string `json:"joined_rooms"`
	}{ids}, nil
}
