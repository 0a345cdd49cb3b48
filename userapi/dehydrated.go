package userapi

import (
	"context"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
	"github.com/matrix-org/dendrite/userapi/storage"
)

// putDehydrated makes a device without a session, for the messages that come
// while the user has no other, in place of the one there is.
// spec: MSC3814
func (s *Server) putDehydrated(ctx context.Context, r *api.PutDehydratedRequest) (*api.DehydratedResponse, error) {
	if len(r.DeviceID) > maxDeviceID || len(r.DisplayName) > maxDeviceName {
		return nil, matrixerror.InvalidParam("The device's ID or name is too long")
	}
	user := r.Keys.UserID
	res := &api.DehydratedResponse{DeviceID: r.DeviceID, Data: r.Data}
	err := s.write(ctx, func(tx *sqldb.Tx) error {
		account, ok, err := s.db.LockAccount(ctx, tx, user)
		if err != nil {
			return err
		}
		if !ok || account.Deactivated {
			return errDeactivated()
		}
		old, _, err := s.db.Dehydrated(ctx, tx, user)
		if err != nil {
			return err
		}
		if old != "" {
			if err := s.endDevices(ctx, tx, user, []string{old}); err != nil {
				return err
			}
		}
		if used, err := s.db.DeviceNamed(ctx, tx, user, []string{r.DeviceID}); err != nil {
			return err
		} else if used {
			return matrixerror.InvalidParam("There is a device of that ID, which is not dehydrated")
		}
		if err := s.db.PutDevice(ctx, tx, user, api.DeviceInfo{DeviceID: r.DeviceID, DisplayName: r.DisplayName}); err != nil {
			return err
		}
		if err := s.db.PutDehydrated(ctx, tx, user, r.DeviceID, r.Data); err != nil {
			return err
		}
		if _, err := s.db.Change(ctx, tx, api.UserChange{UserID: user, Kind: api.ChangeDevices, DeviceID: r.DeviceID}); err != nil {
			return err
		}
		_, err = s.storeKeys(ctx, tx, storage.DeviceName{UserID: user, DeviceID: r.DeviceID}, &r.Keys)
		return err
	})
	return res, err
}

func errNotDehydrated() error { return matrixerror.NotFound("There is no dehydrated device") }

func (s *Server) queryDehydrated(ctx context.Context, r *api.DehydratedRequest) (*api.DehydratedResponse, error) {
	res := &api.DehydratedResponse{}
	err := s.db.ReadOne(ctx, func(tx *sqldb.Tx) (err error) {
		res.DeviceID, res.Data, err = s.db.Dehydrated(ctx, tx, r.UserID)
		return err
	})
	if err == nil && res.DeviceID == "" {
		err = errNotDehydrated()
	}
	return res, err
}

func (s *Server) deleteDehydrated(ctx context.Context, r *api.DehydratedRequest) (*api.DehydratedResponse, error) {
	res := &api.DehydratedResponse{}
	err := s.write(ctx, func(tx *sqldb.Tx) (err error) {
		if _, _, err := s.db.LockAccount(ctx, tx, r.UserID); err != nil {
			return err
		}
		if res.DeviceID, _, err = s.db.Dehydrated(ctx, tx, r.UserID); err != nil {
			return err
		}
		if res.DeviceID == "" {
			return errNotDehydrated()
		}
		return s.endDevices(ctx, tx, r.UserID, []string{res.DeviceID})
	})
	return res, err
}
