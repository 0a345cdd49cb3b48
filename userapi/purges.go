package userapi

import (
	"context"

	"github.com/matrix-org/dendrite/userapi/api"
)

func (s *Server) takePurge(ctx context.Context, r *api.TakePurgeRequest) (*api.TakePurgeResponse, error) {
	p, ok, err := s.db.TakePurge(ctx, r.Owner, r.Partitions, api.JobLease.Milliseconds())
	return &api.TakePurgeResponse{Found: ok, Purge: p}, err
}

func (s *Server) keepPurge(ctx context.Context, r *api.KeepPurgeRequest) (*api.KeepPurgeResponse, error) {
	ok, err := s.db.KeepPurge(ctx, r.ID, r.Owner, r.Place, r.Purged, api.JobLease.Milliseconds())
	return &api.KeepPurgeResponse{Held: ok}, err
}

func (s *Server) finishPurge(ctx context.Context, r *api.FinishPurgeRequest) (*struct{}, error) {
	return &struct{}{}, s.db.FinishPurge(ctx, r.ID, r.Owner, r.Purged, r.Error, r.AgainMS)
}
