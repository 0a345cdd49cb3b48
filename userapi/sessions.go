package userapi

import (
	"context"
	"time"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
	"github.com/matrix-org/dendrite/userapi/storage"
)

// Lifetimes of short-lived tokens.
const (
	loginTokenLifetime  = 2 * time.Minute
	openIDTokenLifetime = time.Hour
)

func (s *Server) queryDevices(ctx context.Context, r *api.DevicesRequest) (*api.DevicesResponse, error) {
	res := &api.DevicesResponse{}
	err := s.db.Read(ctx, func(tx *sqldb.Tx) (err error) {
		res.Devices, err = s.db.Devices(ctx, tx, r.UserID)
		return err
	})
	return res, err
}

func (s *Server) putDevice(ctx context.Context, r *api.PutDeviceRequest) (*struct{}, error) {
	if r.DisplayName != nil && len(*r.DisplayName) > maxDeviceName {
		return nil, matrixerror.TooLarge("The device's name is longer than %d bytes", maxDeviceName)
	}
	err := s.write(ctx, func(tx *sqldb.Tx) error {
		name := ""
		if r.DisplayName != nil {
			name = *r.DisplayName
		}
		ok, err := s.db.RenameDevice(ctx, tx, r.UserID, r.DeviceID, name, r.DisplayName != nil)
		if err != nil {
			return err
		}
		if !ok {
			return matrixerror.NotFound("There is no such device")
		}
		if r.DisplayName == nil {
			return nil
		}
		changes := []api.UserChange{{UserID: r.UserID, Kind: api.ChangeDevices, DeviceID: r.DeviceID}}
		keys, err := s.db.KeysOfDevice(ctx, tx, r.UserID, r.DeviceID)
		if err != nil {
			return err
		}
		if keys != nil { // with which its name is told
			changes = append(changes, api.UserChange{UserID: r.UserID, Kind: api.ChangeDeviceList})
		}
		_, err = s.db.Changes(ctx, tx, changes)
		return err
	})
	s.tokens.forget(r.UserID)
	return &struct{}{}, err
}

func (s *Server) deleteDevices(ctx context.Context, r *api.DeleteDevicesRequest) (*struct{}, error) {
	err := s.write(ctx, func(tx *sqldb.Tx) error {
		if _, _, err := s.db.LockAccount(ctx, tx, r.UserID); err != nil {
			return err
		}
		end := func() error { return s.endDevices(ctx, tx, r.UserID, r.DeviceIDs) }
		if r.All {
			end = func() error { return s.endSessions(ctx, tx, r.UserID, "") }
		}
		if err := end(); err != nil {
			return err
		}
		return s.noteEnd(ctx, tx, r.UserID)
	})
	return &struct{}{}, s.ended(ctx, r.UserID, err)
}

// endSessions deletes all devices but one, and the login tokens with which more
// could be made. The caller has locked the account.
func (s *Server) endSessions(ctx context.Context, tx *sqldb.Tx, userID, but string) error {
	if err := s.db.DeleteShortTokens(ctx, tx, userID, string(api.TokenLogin)); err != nil {
		return err
	}
	list, err := s.db.Devices(ctx, tx, userID)
	if err != nil {
		return err
	}
	var ids []string
	for _, d := range list {
		if d.DeviceID != but {
			ids = append(ids, d.DeviceID)
		}
	}
	return s.endDevices(ctx, tx, userID, ids)
}

// endDevices deletes devices, with their keys and the messages to them. The caller
// has their tokens forgotten once the transaction is committed.
func (s *Server) endDevices(ctx context.Context, tx *sqldb.Tx, userID string, ids []string) error {
	var changes []api.UserChange
	listed := false
	for _, id := range ids {
		ok, err := s.db.DeleteDevice(ctx, tx, userID, id)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		had, err := s.db.DropDeviceKeys(ctx, tx, userID, id)
		if err != nil {
			return err
		}
		changes = append(changes, api.UserChange{UserID: userID, Kind: api.ChangeDevices, DeviceID: id})
		if had.Prekeys { // a device of that ID may come again
			changes = append(changes, leftChange(storage.DeviceName{UserID: userID, DeviceID: id}, storage.Prekeys{}))
		}
		listed = listed || had.Keys
	}
	if err := s.endPushers(ctx, tx, userID, ids); err != nil {
		return err
	}
	if listed {
		changes = append(changes, api.UserChange{UserID: userID, Kind: api.ChangeDeviceList})
	}
	_, err := s.db.Changes(ctx, tx, changes)
	return err
}

func (s *Server) setPassword(ctx context.Context, r *api.SetPasswordRequest) (*struct{}, error) {
	if r.Password == "" {
		return nil, matrixerror.InvalidParam("The password is empty")
	}
	hash, err := s.hash(ctx, r.Password)
	if err != nil {
		return nil, err
	}
	err = s.write(ctx, func(tx *sqldb.Tx) error {
		if account, ok, err := s.db.LockAccount(ctx, tx, r.UserID); err != nil {
			return err
		} else if !ok || account.Deactivated {
			return errDeactivated()
		}
		if err := s.db.SetPassword(ctx, tx, r.UserID, hash); err != nil {
			return err
		}
		if !r.LogoutOthers {
			return nil
		}
		if err := s.endSessions(ctx, tx, r.UserID, r.KeepDevice); err != nil {
			return err
		}
		return s.noteEnd(ctx, tx, r.UserID)
	})
	if !r.LogoutOthers {
		s.tokens.forget(r.UserID)
		return &struct{}{}, err
	}
	return &struct{}{}, s.ended(ctx, r.UserID, err)
}

// deactivate ends an account: its sessions and profile are gone, and a job has
// its rooms left.
// spec: client-server-api §account-deactivation
func (s *Server) deactivate(ctx context.Context, r *api.DeactivateRequest) (*struct{}, error) {
	err := s.write(ctx, func(tx *sqldb.Tx) error {
		if ok, err := s.db.Deactivate(ctx, tx, r.UserID); err != nil || !ok {
			return err
		}
		if err := s.endSessions(ctx, tx, r.UserID, ""); err != nil {
			return err
		}
		if err := s.dropUserKeys(ctx, tx, r.UserID); err != nil {
			return err
		}
		if err := s.db.DeleteProfile(ctx, tx, r.UserID); err != nil {
			return err
		}
		if err := s.db.PutWords(ctx, tx, r.UserID, nil); err != nil {
			return err
		}
		if err := s.db.PutJob(ctx, tx, storage.Job{UserID: r.UserID, Kind: string(api.JobLeave), ID: newToken()}, s.now().UnixMilli()); err != nil {
			return err
		}
		if _, err := s.db.Change(ctx, tx, api.UserChange{UserID: r.UserID, Kind: api.ChangeDeactivated}); err != nil {
			return err
		}
		return s.noteEnd(ctx, tx, r.UserID)
	})
	return &struct{}{}, s.ended(ctx, r.UserID, err)
}

func (s *Server) issueToken(ctx context.Context, r *api.IssueTokenRequest) (*api.IssueTokenResponse, error) {
	lifetime := loginTokenLifetime
	if r.Kind == api.TokenOpenID {
		lifetime = openIDTokenLifetime
	}
	now, token := s.now(), newToken()
	err := s.db.InsertShortToken(ctx, hashToken(token), string(r.Kind), r.UserID, now.UnixMilli(), now.Add(lifetime).UnixMilli())
	return &api.IssueTokenResponse{Token: token, ExpiresInMS: lifetime.Milliseconds()}, err
}

func (s *Server) queryOpenID(ctx context.Context, r *api.OpenIDRequest) (*api.OpenIDResponse, error) {
	userID, err := s.db.ShortToken(ctx, hashToken(r.Token), string(api.TokenOpenID), s.now().UnixMilli())
	if err != nil {
		return nil, err
	}
	if userID == "" {
		return nil, matrixerror.UnknownToken("The token is not known or too old")
	}
	return &api.OpenIDResponse{UserID: userID}, nil
}
