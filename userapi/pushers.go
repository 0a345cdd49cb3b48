package userapi

import (
	"context"
	"slices"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
)

const (
	// maxPushers bounds the pushers of a user: one per session is usual.
	maxPushers = 100
	// maxPushed bounds a page of users who have some.
	maxPushed = 500
)

func (s *Server) registerPushers(srv *rpc.Server) {
	api.QueryPushers.Serve(srv, s.queryPushers)
	api.PutPusher.Serve(srv, s.putPusher)
	api.DropPusher.Serve(srv, s.dropPusher)
	api.QueryPushed.Serve(srv, s.queryPushed)
}

func (s *Server) queryPushers(ctx context.Context, r *api.PushersRequest) (*api.PushersResponse, error) {
	res := &api.PushersResponse{}
	err := s.db.ReadOne(ctx, func(tx *sqldb.Tx) (err error) {
		res.Pushers, err = s.db.Pushers(ctx, tx, r.UserID)
		return err
	})
	return res, err
}

// putPusher stores a pusher. Unless it is to be one more, other users lose theirs
// of that app and key: somebody else has logged in on that phone.
// spec: client-server-api §post_matrixclientv3pushersset
func (s *Server) putPusher(ctx context.Context, r *api.PutPusherRequest) (*api.WriteResponse, error) {
	p := r.Pusher
	p.ID, p.SetTS = newToken(), s.now().UnixMilli()
	res := &api.WriteResponse{}
	err := s.write(ctx, func(tx *sqldb.Tx) error {
		if err := s.db.TakePusherTurn(ctx, tx, p.AppID, p.Pushkey); err != nil {
			return err
		}
		var others []string
		if !r.Append {
			owners, err := s.db.PusherOwners(ctx, tx, p.AppID, p.Pushkey)
			if err != nil {
				return err
			}
			others = slices.DeleteFunc(owners, func(id string) bool { return id == r.UserID })
		}
		if err := s.lockAccounts(ctx, tx, append(others, r.UserID)); err != nil {
			return err
		}
		if ok, err := s.db.KeepDevice(ctx, tx, r.UserID, p.DeviceID); err != nil {
			return err
		} else if !ok {
			return errNoDevice()
		}
		for _, other := range others {
			if _, err := s.db.DropPusher(ctx, tx, other, p.AppID, p.Pushkey, ""); err != nil {
				return err
			}
		}
		if err := s.db.PutPusher(ctx, tx, r.UserID, &p); err != nil {
			return err
		}
		if list, err := s.db.Pushers(ctx, tx, r.UserID); err != nil {
			return err
		} else if len(list) > maxPushers {
			return matrixerror.UserLimit(400, "A user has at most %d pushers", maxPushers)
		}
		if err := s.db.EndPusherTurn(ctx, tx, p.AppID, p.Pushkey); err != nil {
			return err
		}
		return s.tellPushers(ctx, tx, res, append([]string{r.UserID}, others...))
	})
	return res, err
}

// lockAccounts locks several accounts, in one order.
func (s *Server) lockAccounts(ctx context.Context, tx *sqldb.Tx, ids []string) error {
	for _, id := range slices.Sorted(slices.Values(ids)) {
		if _, _, err := s.db.LockAccount(ctx, tx, id); err != nil {
			return err
		}
	}
	return nil
}

// tellPushers tells what pushers users have now; res is the position of the
// first's change.
func (s *Server) tellPushers(ctx context.Context, tx *sqldb.Tx, res *api.WriteResponse, ids []string) error {
	changes := make([]api.UserChange, len(ids))
	for i, id := range ids {
		list, err := s.db.Pushers(ctx, tx, id)
		if err != nil {
			return err
		}
		if changes[i], err = api.ChangeOfPushers(id, list); err != nil {
			return err
		}
	}
	seqs, err := s.db.Changes(ctx, tx, changes)
	if err != nil {
		return err
	}
	*res = api.WriteResponse{Partition: eventlog.PartitionFor(ids[0], s.output.Partitions), Seq: seqs[0]}
	return nil
}

func (s *Server) dropPusher(ctx context.Context, r *api.DropPusherRequest) (*api.WriteResponse, error) {
	res := &api.WriteResponse{Partition: eventlog.PartitionFor(r.UserID, s.output.Partitions)}
	err := s.write(ctx, func(tx *sqldb.Tx) error {
		if _, _, err := s.db.LockAccount(ctx, tx, r.UserID); err != nil {
			return err
		}
		there, err := s.db.DropPusher(ctx, tx, r.UserID, r.AppID, r.Pushkey, r.ID)
		if err != nil || !there {
			return err
		}
		return s.tellPushers(ctx, tx, res, []string{r.UserID})
	})
	return res, err
}

// endPushers ends the pushers that devices have made. The caller has locked the
// account.
func (s *Server) endPushers(ctx context.Context, tx *sqldb.Tx, userID string, devices []string) error {
	had, err := s.db.DropPushersOf(ctx, tx, userID, devices)
	if err != nil || !had {
		return err
	}
	return s.tellPushers(ctx, tx, &api.WriteResponse{}, []string{userID})
}

// queryPushed lists users who have pushers. What it tells of a user may be newer
// than of another: who needs to know follows user.output from before.
func (s *Server) queryPushed(ctx context.Context, r *api.PushedRequest) (*api.PushedResponse, error) {
	users, err := s.db.Pushed(ctx, r.After, min(r.Limit, maxPushed))
	if err != nil {
		return nil, err
	}
	for i := range users {
		u := &users[i]
		data, err := s.queryAccountData(ctx, &api.AccountDataRequest{UserID: u.UserID, RoomIDs: []string{""}, Types: api.PushedTypes()})
		if err != nil {
			return nil, err
		}
		u.Data = data.Data[""]
	}
	return &api.PushedResponse{Users: users}, nil
}
