package clientapi

import (
	"context"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	directory "github.com/matrix-org/dendrite/directoryapi/api"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// roomSummary is what a room looks like to who thinks of joining it.
type roomSummary struct {
	publicRoom
	AllowedRooms []string `json:"allowed_room_ids,omitzero"`
	Encryption   string   `json:"encryption,omitzero"`
	Version      string   `json:"room_version,omitzero"`
	Membership   string   `json:"membership,omitzero"`
}

// getRoomSummary serves GET /room_summary/{roomIdOrAlias}. The servers named by
// via are for rooms that no user of ours is in.
// spec: client-server-api §get_matrixclientv1room_summaryroomidoralias
func (s *Server) getRoomSummary(r *httpapi.Request) (any, error) { return s.summarise(r) }

// draftRoomSummary is what the proposal called the same, before it was agreed on.
type draftRoomSummary struct {
	*roomSummary
	DraftEncryption string `json:"im.nheko.summary.encryption,omitzero"`
	DraftVersion    string `json:"im.nheko.summary.room_version,omitzero"`
}

// getDraftRoomSummary serves the same under the proposal's names, which clients
// still use: matrix-js-sdk for one, before any room is joined or shown.
// spec: MSC3266 §unstable-prefix
func (s *Server) getDraftRoomSummary(r *httpapi.Request) (any, error) {
	out, err := s.summarise(r)
	if err != nil {
		return nil, err
	}
	return &draftRoomSummary{roomSummary: out, DraftEncryption: out.Encryption, DraftVersion: out.Version}, nil
}

func (s *Server) summarise(r *httpapi.Request) (*roomSummary, error) {
	ctx := r.Context()
	roomID, err := s.resolveRoom(ctx, r.PathValue("roomIdOrAlias"))
	if err != nil {
		return nil, err
	}
	want, err := s.headOf(ctx, roomID)
	if err != nil {
		return nil, err
	}
	res, err := directory.QueryRooms.Call(ctx, s.caller, &directory.RoomsRequest{RoomIDs: []string{roomID}, AtLeast: want})
	if err != nil {
		return nil, err
	}
	if len(res.Rooms) == 0 {
		return nil, errNoSummary()
	}
	room := &res.Rooms[0]
	out := &roomSummary{publicRoom: asPublic(room), Encryption: room.Encryption, Version: room.Version}
	userID := ""
	if r.Device != nil {
		userID = r.Device.UserID
		if out.Membership, err = s.membership(ctx, roomID, userID); err != nil {
			return nil, unknownRoom(err)
		}
	}
	open, err := s.maySummarise(ctx, room, out, userID)
	if err != nil {
		return nil, unknownRoom(err)
	}
	if !open {
		return nil, errNoSummary()
	}
	return out, nil
}

func errNoSummary() error { return matrixerror.NotFound("There is no such room") }

// maySummarise tells whether a user, or ("") a stranger, may know of a room:
// who is in it or asked in, and who could read it, join it or knock. It fills
// in the rooms whose members may join.
func (s *Server) maySummarise(ctx context.Context, room *directory.Room, out *roomSummary, userID string) (bool, error) {
	open := room.WorldReadable
	switch out.Membership {
	case "join", "invite", "knock":
		open = true
	}
	switch room.JoinRule {
	case "public", "knock", "knock_restricted":
		open = true
	}
	if room.JoinRule != "restricted" && room.JoinRule != "knock_restricted" {
		return open, nil
	}
	res, err := api.QueryRestrictedJoin.Call(ctx, s.caller, &api.RestrictedJoinRequest{RoomID: room.RoomID, UserID: userID})
	if err != nil {
		return false, err
	}
	out.AllowedRooms = res.AllowRooms
	return open || userID != "" && res.Allowed, nil
}
