package directoryapi

import (
	"context"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/directoryapi/api"
)

// maxUsers bounds the users asked for at once.
const maxUsers = 1000

func (s *Server) queryJoined(ctx context.Context, req *api.JoinedRequest) (*api.JoinedResponse, error) {
	if len(req.UserIDs) > maxUsers {
		return nil, matrixerror.InvalidParam("At most %d users can be asked for", maxUsers)
	}
	if req.Partition < 0 || req.Partition >= s.partitions {
		return nil, matrixerror.NotFound("There is no partition %d", req.Partition)
	}
	want := make([]int64, s.partitions)
	want[req.Partition] = req.AtLeast
	if err := s.wait(ctx, want); err != nil {
		return nil, err
	}
	rows, err := s.db.JoinedRooms(ctx, req.UserIDs)
	if err != nil {
		return nil, err
	}
	res := &api.JoinedResponse{Rooms: map[string][]string{}}
	for _, m := range rows {
		if eventlog.PartitionFor(m.RoomID, s.partitions) == req.Partition {
			res.Rooms[m.UserID] = append(res.Rooms[m.UserID], m.RoomID)
		}
	}
	return res, nil
}
