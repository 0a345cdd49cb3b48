package userapi

import (
	"context"
	"crypto/rand"
	"encoding/binary"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
	"github.com/matrix-org/dendrite/userapi/storage"
)

// Bounds of what clients say of their devices, in bytes.
const (
	maxDeviceID   = 255
	maxDeviceName = 512
)

// login makes a session for who has the password or a login token. The
// transaction looks at the account again: what ended its sessions meanwhile
// ends this one before it begins.
func (s *Server) login(ctx context.Context, r *api.LoginRequest) (*api.Session, error) {
	var account storage.Account
	if r.Token == "" {
		var err error
		if account, err = s.loginAccount(ctx, r.UserID); err != nil {
			return nil, err
		}
		if err := s.authenticate(ctx, account, r.Password, s.guessed(ctx, account.UserID, r.Device.IP)); err != nil {
			return nil, err
		}
	}
	var session *api.Session
	err := s.write(ctx, func(tx *sqldb.Tx) error {
		userID := account.UserID
		if r.Token != "" {
			var err error
			if userID, err = s.db.UseShortToken(ctx, tx, hashToken(r.Token), string(api.TokenLogin), s.now().UnixMilli()); err != nil {
				return err
			}
			if userID == "" {
				return matrixerror.Forbidden("The login token is wrong or too old")
			}
		}
		now, ok, err := s.db.LockAccount(ctx, tx, userID)
		switch {
		case err != nil:
			return err
		case !ok || now.Deactivated:
			return errDeactivated()
		case now.Locked:
			return errLocked()
		case r.Token == "" && now.PasswordHash != account.PasswordHash:
			return errWrongPassword()
		}
		session, err = s.newSession(ctx, tx, userID, r.Device)
		if err != nil || r.Device.DeviceID == "" {
			return err
		}
		return s.noteEnd(ctx, tx, userID) // of the session that the device had
	})
	if err != nil {
		return nil, err
	}
	if r.Device.DeviceID != "" {
		err = s.ended(ctx, session.UserID, nil)
	}
	return session, err
}

// loginAccount finds the account of a user ID as somebody types it: the very
// one, which may be of an older grammar, or else the one in lower case. Where
// there is none it is empty but for the ID.
// spec: appendices §user-identifiers
func (s *Server) loginAccount(ctx context.Context, userID string) (storage.Account, error) {
	account, ok, err := s.db.Account(ctx, userID)
	if err != nil || ok {
		return account, err
	}
	account, _, err = s.db.Account(ctx, api.Downcase(userID))
	return account, err
}

// newSession stores a device with its tokens, in place of one of the same ID.
func (s *Server) newSession(ctx context.Context, tx *sqldb.Tx, userID string, d api.NewDevice) (*api.Session, error) {
	if len(d.DeviceID) > maxDeviceID || len(d.DisplayName) > maxDeviceName {
		return nil, matrixerror.InvalidParam("The device's ID or name is too long")
	}
	if d.DeviceID == "" {
		d.DeviceID = rand.Text()[:10]
	}
	if others, err := s.db.CountDevices(ctx, tx, userID, d.DeviceID); err != nil {
		return nil, err
	} else if others >= s.config.MaxDevices {
		return nil, matrixerror.UserLimit(403, "This account has too many devices; log some of them out")
	}
	err := s.db.PutDevice(ctx, tx, userID, api.DeviceInfo{DeviceID: d.DeviceID, DisplayName: d.DisplayName, LastSeenIP: d.IP, LastSeenTS: s.now().UnixMilli()})
	if err != nil {
		return nil, err
	}
	if err := s.endPushers(ctx, tx, userID, []string{d.DeviceID}); err != nil { // of the session that it had
		return nil, err
	}
	session, err := s.newTokens(ctx, tx, userID, d.DeviceID, "", d.Refresh)
	if err != nil {
		return nil, err
	}
	_, err = s.db.Change(ctx, tx, api.UserChange{UserID: userID, Kind: api.ChangeDevices, DeviceID: d.DeviceID})
	return session, err
}

// newTokens stores new tokens of a device, which replace those of parent.
func (s *Server) newTokens(ctx context.Context, tx *sqldb.Tx, userID, deviceID, parent string, refresh bool) (*api.Session, error) {
	session := &api.Session{UserID: userID, DeviceID: deviceID, AccessToken: newToken()}
	var id [8]byte
	rand.Read(id[:]) // never fails: crypto/rand ends the process instead
	token := storage.Token{Hash: hashToken(session.AccessToken), ID: int64(binary.LittleEndian.Uint64(id[:]) >> 1), UserID: userID, DeviceID: deviceID}
	if refresh {
		session.RefreshToken = newToken()
		session.ExpiresInMS = s.config.AccessTokenLifetime.Milliseconds()
		token.ExpiresTS = s.now().UnixMilli() + session.ExpiresInMS
		token.RefreshHash = hashToken(session.RefreshToken)
		if err := s.db.InsertRefreshToken(ctx, tx, token.RefreshHash, userID, deviceID, parent); err != nil {
			return nil, err
		}
	}
	return session, s.db.InsertToken(ctx, tx, token)
}

// refresh makes new tokens. The old ones are good until the new ones are used,
// so that an answer that was lost locks nobody out.
// spec: client-server-api §refreshing-access-tokens
func (s *Server) refresh(ctx context.Context, r *api.RefreshRequest) (*api.Session, error) {
	hash := hashToken(r.Token)
	var session *api.Session
	err := s.write(ctx, func(tx *sqldb.Tx) error {
		userID, _, _, ok, err := s.db.RefreshToken(ctx, tx, hash)
		var account storage.Account
		if ok { // and is still there once nobody ends sessions
			account, ok, err = s.db.LockAccount(ctx, tx, userID)
		}
		if err == nil && account.Locked {
			return errLocked()
		}
		var deviceID, parent string
		if ok {
			userID, deviceID, parent, ok, err = s.db.RefreshToken(ctx, tx, hash)
		}
		if err != nil {
			return err
		}
		if !ok {
			return matrixerror.UnknownToken("The refresh token is not known")
		}
		if err := s.db.Confirm(ctx, tx, parent); err != nil {
			return err
		}
		if err := s.db.DropChildren(ctx, tx, hash); err != nil {
			return err
		}
		if session, err = s.newTokens(ctx, tx, userID, deviceID, hash, true); err != nil {
			return err
		}
		return s.noteEnd(ctx, tx, userID)
	})
	if err != nil {
		return nil, err
	}
	s.tokens.forget(session.UserID)
	return session, nil
}
