package userapi

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
	"github.com/matrix-org/dendrite/userapi/storage"
)

// authLifetime is how long a session of interactive authentication is good.
const authLifetime = 15 * time.Minute

// authDict is what stages take from the client.
// spec: client-server-api §authentication-types
type authDict struct {
	Password   string `json:"password"`
	Token      string `json:"token"`
	User       string `json:"user"`
	Identifier struct {
		Type string `json:"type"`
		User string `json:"user"`
	} `json:"identifier"`
}

// authorise takes a user one step further through one of the flows.
func (s *Server) authorise(ctx context.Context, r *api.AuthoriseRequest) (*api.AuthoriseResponse, error) {
	now := s.now()
	session := storage.AuthSession{ID: newToken(), Operation: r.Operation, UserID: r.UserID, ExpiresTS: now.Add(authLifetime).UnixMilli()}
	if r.Session != "" {
		known, ok, err := s.db.AuthSession(ctx, r.Session, now.UnixMilli())
		if err != nil {
			return nil, err
		}
		if ok && (known.Operation != r.Operation || known.UserID != r.UserID) {
			return nil, matrixerror.Forbidden("The authentication session is of another request")
		}
		if ok {
			session = known
		}
	}
	res := &api.AuthoriseResponse{Session: session.ID}
	if r.Stage != "" {
		if err := s.stage(ctx, r, &session); err != nil {
			known := matrixerror.From(err)
			if known == nil || known.RetryAfter > 0 {
				return nil, err
			}
			res.ErrCode, res.Err = known.Code, known.Message
		}
	}
	res.Completed, res.RegistrationToken = session.Completed, session.RegistrationToken
	res.Done = res.Err == "" && slices.ContainsFunc(r.Flows, func(flow []string) bool {
		return !slices.ContainsFunc(flow, func(stage string) bool { return !slices.Contains(session.Completed, stage) })
	})
	if res.Done && r.UserID != "" {
		// Once only: else the session would stand for the password in later
		// requests. That of a registration is ended with the registration.
		return res, s.db.Write(ctx, func(tx *sqldb.Tx) error { return s.db.DeleteAuthSession(ctx, tx, session.ID) })
	}
	return res, s.db.PutAuthSession(ctx, session, now.UnixMilli())
}

// stage completes one stage.
func (s *Server) stage(ctx context.Context, r *api.AuthoriseRequest, session *storage.AuthSession) error {
	if !slices.ContainsFunc(r.Flows, func(flow []string) bool { return slices.Contains(flow, r.Stage) }) {
		return matrixerror.New(401, "M_UNRECOGNIZED", "That kind of authentication is not offered here")
	}
	var auth authDict
	if err := json.Unmarshal(r.Auth, &auth); err != nil {
		return matrixerror.BadJSON("The auth object is not what this endpoint takes")
	}
	switch r.Stage {
	case "m.login.dummy", "m.login.terms":
	case "m.login.password":
		user := auth.Identifier.User
		if user == "" {
			user = auth.User
		}
		if user != "" && !strings.HasPrefix(user, "@") {
			user = "@" + user + ":" + s.serverName
		}
		if user != "" && user != r.UserID && api.Downcase(user) != r.UserID {
			return matrixerror.Forbidden("The password has to be that of the account")
		}
		if err := s.checkOwnPassword(ctx, r.UserID, auth.Password); err != nil {
			return err
		}
	case "m.login.registration_token":
		valid, err := s.db.RegistrationTokenValid(ctx, auth.Token, s.now().UnixMilli())
		if err != nil {
			return err
		}
		if !valid {
			return matrixerror.New(401, "M_UNAUTHORIZED", "The registration token is not valid")
		}
		session.RegistrationToken = auth.Token
	default:
		return matrixerror.New(401, "M_UNRECOGNIZED", "That kind of authentication is not known")
	}
	if !slices.Contains(session.Completed, r.Stage) {
		session.Completed = append(session.Completed, r.Stage)
	}
	return nil
}
