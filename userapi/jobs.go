package userapi

import (
	"context"

	"github.com/matrix-org/dendrite/userapi/api"
	"github.com/matrix-org/dendrite/userapi/storage"
)

func storedJob(j api.Job) storage.Job {
	return storage.Job{UserID: j.UserID, Kind: string(j.Kind), ID: j.ID}
}

func (s *Server) takeJob(ctx context.Context, r *api.TakeJobRequest) (*api.TakeJobResponse, error) {
	j, ok, err := s.db.TakeJob(ctx, r.Owner, api.JobLease.Milliseconds())
	return &api.TakeJobResponse{Found: ok, Job: api.Job{UserID: j.UserID, Kind: api.JobKind(j.Kind), ID: j.ID}}, err
}

func (s *Server) renewJob(ctx context.Context, r *api.RenewJobRequest) (*api.RenewJobResponse, error) {
	ok, err := s.db.RenewJob(ctx, storedJob(r.Job), r.Owner, api.JobLease.Milliseconds())
	return &api.RenewJobResponse{Held: ok}, err
}

func (s *Server) finishJob(ctx context.Context, r *api.FinishJobRequest) (*struct{}, error) {
	return &struct{}{}, s.db.FinishJob(ctx, storedJob(r.Job), r.Owner)
}
