package directoryapi

import (
	"context"
	"time"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/directoryapi/api"
	"github.com/matrix-org/dendrite/directoryapi/storage"
)

// staleAlias is the age at which an alias whose room never came to be may be
// taken over.
const staleAlias = time.Hour

func (s *Server) queryAlias(ctx context.Context, req *api.AliasRequest) (*api.AliasResponse, error) {
	a, ok, err := s.db.Alias(ctx, req.Alias)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, matrixerror.NotFound("Room alias %s not found", req.Alias)
	}
	return &api.AliasResponse{RoomID: a.RoomID, Creator: a.Creator}, nil
}

func (s *Server) queryAliases(ctx context.Context, req *api.AliasesRequest) (*api.AliasesResponse, error) {
	aliases, err := s.db.Aliases(ctx, req.RoomID)
	if err != nil {
		return nil, err
	}
	return &api.AliasesResponse{Aliases: aliases}, nil
}

func (s *Server) putAlias(ctx context.Context, req *api.PutAliasRequest) (*api.PutAliasResponse, error) {
	now := s.now()
	is, err := s.db.PutAlias(ctx, storage.Alias{Alias: req.Alias, RoomID: req.RoomID, Creator: req.Creator},
		now.UnixMilli(), now.Add(-staleAlias).UnixMilli())
	if err != nil {
		return nil, err
	}
	if is.RoomID != req.RoomID || is.Creator != req.Creator {
		return nil, matrixerror.New(409, "M_ROOM_IN_USE", "Room alias %s already exists", req.Alias)
	}
	return &api.PutAliasResponse{}, nil
}

func (s *Server) deleteAlias(ctx context.Context, req *api.DeleteAliasRequest) (*api.DeleteAliasResponse, error) {
	was, err := s.db.DeleteAlias(ctx, req.Alias, req.RoomID)
	if err != nil {
		return nil, err
	}
	if !was {
		return nil, matrixerror.NotFound("Room alias %s not found", req.Alias)
	}
	return &api.DeleteAliasResponse{}, nil
}

func (s *Server) moveAliases(ctx context.Context, req *api.MoveAliasesRequest) (*api.MoveAliasesResponse, error) {
	if err := s.db.MoveRoom(ctx, req.From, req.To); err != nil {
		return nil, err
	}
	return &api.MoveAliasesResponse{}, nil
}

// maxUpgrades bounds an answer of QueryUpgrades.
const maxUpgrades = 100

func (s *Server) beginUpgrade(ctx context.Context, req *api.BeginUpgradeRequest) (*api.BeginUpgradeResponse, error) {
	is, err := s.db.BeginUpgrade(ctx, req.Upgrade)
	if err != nil {
		return nil, err
	}
	if is.UserID != req.Upgrade.UserID || is.Version != req.Upgrade.Version {
		return nil, matrixerror.New(409, "M_UNKNOWN", "The room is being upgraded already")
	}
	return &api.BeginUpgradeResponse{Upgrade: is}, nil
}

func (s *Server) finishUpgrade(ctx context.Context, req *api.FinishUpgradeRequest) (*api.FinishUpgradeResponse, error) {
	if err := s.db.FinishUpgrade(ctx, req.RoomID); err != nil {
		return nil, err
	}
	return &api.FinishUpgradeResponse{}, nil
}

func (s *Server) queryUpgrades(ctx context.Context, req *api.UpgradesRequest) (*api.UpgradesResponse, error) {
	list, err := s.db.Upgrades(ctx, req.Before, maxUpgrades)
	if err != nil {
		return nil, err
	}
	return &api.UpgradesResponse{Upgrades: list}, nil
}
