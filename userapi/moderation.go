package userapi

import (
	"context"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
	"github.com/matrix-org/dendrite/userapi/storage"
)

// maxOpenReports bounds the reports of one user that nobody has resolved.
const maxOpenReports = 1000

func errNoAccount() error { return matrixerror.NotFound("There is no such user") }

// errLocked is what users of locked accounts are told.
// spec: client-server-api §account-locking
func errLocked() error {
	e := matrixerror.New(401, "M_USER_LOCKED", "This account is locked")
	e.SoftLogout = true
	return e
}

func accountResponse(a storage.Account) *api.AccountResponse {
	return &api.AccountResponse{Admin: a.Admin, Guest: a.Guest, Locked: a.Locked, Suspended: a.Suspended}
}

func (s *Server) queryAccount(ctx context.Context, r *api.AccountRequest) (*api.AccountResponse, error) {
	account, ok, err := s.db.Account(ctx, r.UserID)
	if err != nil {
		return nil, err
	}
	if !ok || account.Deactivated {
		return nil, errNoAccount()
	}
	return accountResponse(account), nil
}

// moderate changes what an account may do. Its tokens stay; once this returns,
// no instance takes them for what they were.
func (s *Server) moderate(ctx context.Context, r *api.ModerateRequest) (*api.AccountResponse, error) {
	var res *api.AccountResponse
	err := s.write(ctx, func(tx *sqldb.Tx) error {
		account, ok, err := s.db.LockAccount(ctx, tx, r.UserID)
		switch {
		case err != nil:
			return err
		case !ok || account.Deactivated:
			return errNoAccount()
		case account.Admin:
			return matrixerror.Forbidden("Administrators cannot be locked or suspended")
		}
		if err := s.db.SetModeration(ctx, tx, r.UserID, r.Locked, r.Suspended); err != nil {
			return err
		}
		if r.Locked != nil {
			account.Locked = *r.Locked
		}
		if r.Suspended != nil {
			account.Suspended = *r.Suspended
		}
		res = accountResponse(account)
		if _, err := s.db.Change(ctx, tx, api.UserChange{UserID: r.UserID, Kind: api.ChangeAccount}); err != nil {
			return err
		}
		return s.noteEnd(ctx, tx, r.UserID)
	})
	return res, s.ended(ctx, r.UserID, err)
}

func (s *Server) putReport(ctx context.Context, r *api.Report) (*struct{}, error) {
	open, err := s.db.CountReports(ctx, r.Reporter)
	if err != nil {
		return nil, err
	}
	if open >= maxOpenReports {
		return nil, matrixerror.UserLimit(403, "You have reported very much that nobody has looked at yet")
	}
	report := *r
	report.ID, report.CreatedTS = newToken(), s.now().UnixMilli()
	return &struct{}{}, s.db.PutReport(ctx, report)
}
