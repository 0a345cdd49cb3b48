package directoryapi

import (
	"context"

	"github.com/matrix-org/dendrite/directoryapi/api"
)

const maxGuestRooms = 100

func (s *Server) queryGuestRooms(ctx context.Context, req *api.GuestRoomsRequest) (*api.GuestRoomsResponse, error) {
	rooms, err := s.db.GuestRooms(ctx, min(max(req.Limit, 1), maxGuestRooms))
	return &api.GuestRoomsResponse{Rooms: rooms}, err
}

func (s *Server) finishGuestRoom(ctx context.Context, req *api.FinishGuestRoomRequest) (*api.FinishGuestRoomResponse, error) {
	return &api.FinishGuestRoomResponse{}, s.db.DropGuestRoom(ctx, req.RoomID, req.Seq)
}
