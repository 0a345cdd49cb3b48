package userapi

import (
	"context"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
	"github.com/matrix-org/dendrite/userapi/storage"
)

func errInUse() error { return matrixerror.New(400, "M_USER_IN_USE", "The user name is taken") }

// register makes an account, its profile and, unless inhibited, a session.
func (s *Server) register(ctx context.Context, r *api.RegisterRequest) (*api.Session, error) {
	localpart, server, ok := strings.Cut(strings.TrimPrefix(r.UserID, "@"), ":")
	if !ok || server != s.serverName || localpart == "" {
		return nil, matrixerror.InvalidParam("The user is not of this server")
	}
	if known, exists, err := s.db.Account(ctx, r.UserID); err != nil {
		return nil, err
	} else if exists && (r.GuestToken == "" || !known.Guest) {
		return nil, errInUse()
	}
	account := storage.Account{UserID: r.UserID, Admin: r.Admin, Guest: r.Guest, CreatedTS: s.now().UnixMilli()}
	if r.Password != "" {
		hash, err := s.hash(ctx, r.Password)
		if err != nil {
			return nil, err
		}
		account.PasswordHash = hash
	}
	session := &api.Session{UserID: r.UserID}
	err := s.write(ctx, func(tx *sqldb.Tx) error {
		if err := s.makeAccount(ctx, tx, account, localpart, r.GuestToken); err != nil {
			return err
		}
		if err := s.useRegistration(ctx, tx, r); err != nil || r.InhibitLogin {
			return err
		}
		var err error
		session, err = s.newSession(ctx, tx, r.UserID, r.Device)
		return err
	})
	if err == nil && r.GuestToken != "" { // of whom tokens say is a guest
		err = s.ended(ctx, r.UserID, s.write(ctx, func(tx *sqldb.Tx) error { return s.noteEnd(ctx, tx, r.UserID) }))
	}
	if err != nil {
		return nil, err
	}
	return session, nil
}

// makeAccount stores a new account with its profile, or makes a user of the
// guest whose access token is given.
// spec: client-server-api §guest-access
func (s *Server) makeAccount(ctx context.Context, tx *sqldb.Tx, account storage.Account, localpart, guestToken string) error {
	if guestToken != "" {
		owner, err := s.db.TokenUser(ctx, tx, hashToken(guestToken))
		if err != nil {
			return err
		}
		upgraded := false
		if owner == account.UserID {
			upgraded, err = s.db.UpgradeGuest(ctx, tx, account.UserID, account.PasswordHash)
		}
		if err == nil && !upgraded {
			err = matrixerror.Forbidden("guest_access_token is not that of the guest")
		}
		return err
	}
	if created, err := s.db.InsertAccount(ctx, tx, account); err != nil {
		return err
	} else if !created {
		return errInUse()
	}
	name, err := jsontext.AppendQuote(nil, localpart)
	if err != nil {
		return matrixerror.InvalidParam("The user name is not UTF-8")
	}
	_, err = s.putProfile(ctx, tx, account.UserID, "displayname", name)
	return err
}

// useRegistration counts the registration token and ends the session of
// interactive authentication.
func (s *Server) useRegistration(ctx context.Context, tx *sqldb.Tx, r *api.RegisterRequest) error {
	if r.RegistrationToken != "" {
		ok, err := s.db.UseRegistrationToken(ctx, tx, r.RegistrationToken, s.now().UnixMilli())
		if err != nil {
			return err
		}
		if !ok {
			return matrixerror.Forbidden("The registration token cannot be used any more")
		}
	}
	if r.AuthSession == "" {
		return nil
	}
	return s.db.DeleteAuthSession(ctx, tx, r.AuthSession)
}

func (s *Server) available(ctx context.Context, r *api.AvailableRequest) (*struct{}, error) {
	_, exists, err := s.db.Account(ctx, r.UserID)
	if err != nil {
		return nil, err
	}
	if exists {
		return nil, errInUse()
	}
	return &struct{}{}, nil
}

func (s *Server) queryRegistrationToken(ctx context.Context, r *api.RegistrationTokenRequest) (*api.RegistrationTokenResponse, error) {
	valid, err := s.db.RegistrationTokenValid(ctx, r.Token, s.now().UnixMilli())
	return &api.RegistrationTokenResponse{Valid: valid}, err
}

func (s *Server) putRegistrationToken(ctx context.Context, r *api.PutRegistrationTokenRequest) (*struct{}, error) {
	return &struct{}{}, s.db.PutRegistrationToken(ctx, r.Token, r.UsesAllowed, r.ExpiresTS)
}
