package clientapi

import (
	"context"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/roomserver/api"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// forget serves POST /rooms/{roomId}/forget: who has left a room may forget
// it.
// spec: client-server-api §post_matrixclientv3roomsroomidforget
func (s *Server) forget(r *httpapi.Request) (any, error) {
	ctx := r.Context()
	roomID, err := pathRoomID(r)
	if err != nil {
		return nil, err
	}
	member, err := s.member(ctx, roomID, r.Device.UserID)
	if err != nil {
		return nil, unknownRoom(err)
	}
	switch member.Membership {
	case "":
		return nil, matrixerror.New(400, "M_UNKNOWN", "You have never been in the room")
	case "leave", "ban":
	default:
		return nil, matrixerror.New(400, "M_UNKNOWN", "You have to leave the room first")
	}
	_, err = userapi.Forget.Call(ctx, s.caller, &userapi.ForgetRequest{
		UserID: r.Device.UserID, RoomID: roomID, EventID: member.EventID,
	})
	return nil, err
}

// forgotten tells whether the user forgot the room and has not been back.
func (s *Server) forgotten(ctx context.Context, userID string, member api.Member, roomID string) (bool, error) {
	res, err := userapi.QueryForgotten.Call(ctx, s.caller, &userapi.ForgottenRequest{UserID: userID, RoomID: roomID})
	if err != nil {
		return false, err
	}
	return res.EventID != "" && res.EventID == member.EventID, nil
}
