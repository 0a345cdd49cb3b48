package userapi

import (
	"context"

	"github.com/matrix-org/dendrite/userapi/api"
)

func (s *Server) queryAvatars(ctx context.Context, req *api.AvatarsRequest) (*api.AvatarsResponse, error) {
	used, err := s.db.Avatars(ctx, req.URIs)
	if err != nil {
		return nil, err
	}
	return &api.AvatarsResponse{Used: used}, nil
}
