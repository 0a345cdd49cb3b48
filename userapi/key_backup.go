package userapi

import (
	"context"
	"strconv"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
)

const (
	// maxBackups bounds the versions of key backups of a user, those deleted among
	// them, maxBackupKeys the keys of one.
	maxBackups    = 10_000
	maxBackupKeys = 1_000_000
	// backupPart bounds the keys that are read at once.
	backupPart = 5000
)

func (s *Server) registerKeyBackup(srv *rpc.Server) {
	api.NewKeyBackup.Serve(srv, s.newKeyBackup)
	api.QueryKeyBackup.Serve(srv, s.queryKeyBackup)
	api.PutKeyBackup.Serve(srv, s.putKeyBackup)
	api.DeleteKeyBackup.Serve(srv, s.deleteKeyBackup)
	api.PutBackupKeys.Serve(srv, s.putBackupKeys)
	api.QueryBackupKeys.Serve(srv, s.queryBackupKeys)
	api.DeleteBackupKeys.Serve(srv, s.deleteBackupKeys)
}

func errNoBackup() error { return matrixerror.NotFound("There is no such backup version") }

// inBackup runs f in a transaction in which a user's backups stay as they are,
// with the version that there is and was not deleted.
func (s *Server) inBackup(ctx context.Context, userID string, version int64, f func(*sqldb.Tx, api.KeyBackup) error) error {
	return s.db.Write(ctx, func(tx *sqldb.Tx) error {
		if _, _, err := s.db.LockAccount(ctx, tx, userID); err != nil {
			return err
		}
		b, deleted, err := s.db.Backup(ctx, tx, userID, version)
		if err != nil {
			return err
		}
		if b.Version == 0 || deleted {
			return errNoBackup()
		}
		return f(tx, b)
	})
}

func (s *Server) newKeyBackup(ctx context.Context, r *api.NewKeyBackupRequest) (*api.KeyBackup, error) {
	res := &api.KeyBackup{Algorithm: r.Algorithm, AuthData: r.AuthData}
	err := s.db.Write(ctx, func(tx *sqldb.Tx) (err error) {
		if _, _, err := s.db.LockAccount(ctx, tx, r.UserID); err != nil {
			return err
		}
		res.Version, err = s.db.NewBackup(ctx, tx, r.UserID, r.Algorithm, r.AuthData)
		if err == nil && res.Version > maxBackups {
			err = matrixerror.UserLimit(403, "There were too many backups")
		}
		return err
	})
	return res, err
}

func (s *Server) queryKeyBackup(ctx context.Context, r *api.KeyBackupRequest) (*api.KeyBackup, error) {
	res := &api.KeyBackup{}
	err := s.db.ReadOne(ctx, func(tx *sqldb.Tx) error {
		b, deleted, err := s.db.Backup(ctx, tx, r.UserID, r.Version)
		if err == nil && (b.Version == 0 || deleted) {
			err = errNoBackup()
		}
		*res = b
		return err
	})
	return res, err
}

// putKeyBackup replaces auth_data.
// spec: client-server-api §put_matrixclientv3room_keysversionversion
func (s *Server) putKeyBackup(ctx context.Context, r *api.PutKeyBackupRequest) (*struct{}, error) {
	return &struct{}{}, s.inBackup(ctx, r.UserID, r.Version, func(tx *sqldb.Tx, b api.KeyBackup) error {
		if b.Algorithm != r.Algorithm {
			return matrixerror.InvalidParam("The backup's algorithm is another one")
		}
		return s.db.PutBackup(ctx, tx, r.UserID, r.Version, r.AuthData)
	})
}

// deleteKeyBackup succeeds again for what was deleted before.
// spec: client-server-api §delete_matrixclientv3room_keysversionversion
func (s *Server) deleteKeyBackup(ctx context.Context, r *api.KeyBackupRequest) (*struct{}, error) {
	return &struct{}{}, s.db.Write(ctx, func(tx *sqldb.Tx) error {
		if _, _, err := s.db.LockAccount(ctx, tx, r.UserID); err != nil {
			return err
		}
		b, deleted, err := s.db.Backup(ctx, tx, r.UserID, r.Version)
		if err != nil || deleted {
			return err
		}
		if b.Version == 0 {
			return errNoBackup()
		}
		return s.db.DeleteBackup(ctx, tx, r.UserID, r.Version)
	})
}

// putBackupKeys stores keys in the current version.
// spec: client-server-api §put_matrixclientv3room_keyskeys
func (s *Server) putBackupKeys(ctx context.Context, r *api.PutBackupKeysRequest) (*api.KeyBackup, error) {
	res := &api.KeyBackup{}
	err := s.inBackup(ctx, r.UserID, 0, func(tx *sqldb.Tx, b api.KeyBackup) error {
		if b.Version != r.Version {
			e := matrixerror.New(403, "M_WRONG_ROOM_KEYS_VERSION", "That is not the current backup version")
			e.Fields = map[string]any{"current_version": strconv.FormatInt(b.Version, 10)}
			return e
		}
		if b.Count+int64(len(r.Keys)) > maxBackupKeys {
			return matrixerror.UserLimit(403, "There are too many keys in the backup")
		}
		if err := s.db.PutBackupKeys(ctx, tx, r.UserID, r.Version, r.Keys); err != nil {
			return err
		}
		var err error
		*res, _, err = s.db.Backup(ctx, tx, r.UserID, r.Version)
		return err
	})
	return res, err
}

func (s *Server) queryBackupKeys(ctx context.Context, r *api.BackupKeysRequest) (*api.BackupKeysResponse, error) {
	res := &api.BackupKeysResponse{}
	err := s.db.Read(ctx, func(tx *sqldb.Tx) error {
		b, deleted, err := s.db.Backup(ctx, tx, r.UserID, r.Version)
		if err != nil {
			return err
		}
		if b.Version == 0 || deleted {
			return errNoBackup()
		}
		res.Keys, err = s.db.BackupKeys(ctx, tx, r.UserID, b.Version, r, backupPart)
		res.More = len(res.Keys) == backupPart
		return err
	})
	return res, err
}

func (s *Server) deleteBackupKeys(ctx context.Context, r *api.BackupKeysRequest) (*api.KeyBackup, error) {
	res := &api.KeyBackup{}
	err := s.inBackup(ctx, r.UserID, r.Version, func(tx *sqldb.Tx, b api.KeyBackup) error {
		if err := s.db.DeleteBackupKeys(ctx, tx, r.UserID, b.Version, r.RoomID, r.SessionID); err != nil {
			return err
		}
		var err error
		*res, _, err = s.db.Backup(ctx, tx, r.UserID, b.Version)
		return err
	})
	return res, err
}
