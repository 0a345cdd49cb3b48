package clientapi

import (
	"crypto/rand"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// minPassword is the length of the shortest password that is taken, in bytes.
const minPassword = 1

// sessionAnswer answers whatever makes a session.
type sessionAnswer struct {
	UserID       string `json:"user_id,omitzero"`
	AccessToken  string `json:"access_token,omitzero"`
	DeviceID     string `json:"device_id,omitzero"`
	RefreshToken string `json:"refresh_token,omitzero"`
	ExpiresInMS  int64  `json:"expires_in_ms,omitzero"`
	HomeServer   string `json:"home_server,omitzero"`
}

func (s *Server) answerSession(session *userapi.Session) *sessionAnswer {
	return &sessionAnswer{UserID: session.UserID, AccessToken: session.AccessToken, DeviceID: session.DeviceID,
		RefreshToken: session.RefreshToken, ExpiresInMS: session.ExpiresInMS, HomeServer: s.serverName}
}

// registerRequest is the body of POST /register.
type registerRequest struct {
	Auth         jsontext.Value `json:"auth"`
	Username     *string        `json:"username"`
	Password     string         `json:"password"`
	DeviceID     string         `json:"device_id"`
	DisplayName  string         `json:"initial_device_display_name"`
	InhibitLogin bool           `json:"inhibit_login"`
	RefreshToken bool           `json:"refresh_token"`
	GuestToken   string         `json:"guest_access_token"`
}

// newUserID makes the ID of a new user of the name.
func (s *Server) newUserID(localpart string) (string, error) {
	localpart = userapi.Downcase(localpart)
	id := "@" + localpart + ":" + s.serverName
	if !gomatrixserverlib.ValidNewLocalpart(localpart, s.serverName) || len(id) > gomatrixserverlib.MaxIDBytes {
		return "", matrixerror.New(400, "M_INVALID_USERNAME", "A user name has the characters a-z, 0-9 and ._=-/+ only, and is not too long")
	}
	if strings.HasPrefix(localpart, "_") {
		return "", matrixerror.New(400, "M_EXCLUSIVE", "Names that begin with _ are those of application services")
	}
	return id, nil
}

// getAvailable serves GET /register/available.
// spec: client-server-api §get_matrixclientv3registeravailable
func (s *Server) getAvailable(r *httpapi.Request) (any, error) {
	if !s.registration.Open && !s.registration.TokenRequired {
		return nil, matrixerror.Forbidden("Registration is closed on this server")
	}
	name := r.QueryString("username")
	if name == "" {
		return nil, matrixerror.MissingParam("username is missing")
	}
	id, err := s.newUserID(name)
	if err != nil {
		return nil, err
	}
	if _, err := userapi.Available.Call(r.Context(), s.caller, &userapi.AvailableRequest{UserID: id}); err != nil {
		return nil, err
	}
	return map[string]bool{"available": true}, nil
}

// getTokenValidity serves GET /register/m.login.registration_token/validity.
func (s *Server) getTokenValidity(r *httpapi.Request) (any, error) {
	if !s.registration.TokenRequired {
		return nil, matrixerror.Forbidden("Registration tokens are not used on this server")
	}
	token := r.QueryString("token")
	if token == "" {
		return nil, matrixerror.MissingParam("token is missing")
	}
	res, err := userapi.QueryRegistrationToken.Call(r.Context(), s.caller, &userapi.RegistrationTokenRequest{Token: token})
	if err != nil {
		return nil, err
	}
	return map[string]bool{"valid": res.Valid}, nil
}

// registrationFlow is what is asked of who registers.
func (s *Server) registrationFlow() ([][]string, map[string]any) {
	var stages []string
	params := map[string]any{}
	if s.registration.TokenRequired {
		stages = append(stages, "m.login.registration_token")
	}
	if len(s.registration.Terms) > 0 {
		stages = append(stages, "m.login.terms")
		policies := map[string]any{}
		for _, t := range s.registration.Terms {
			policies[t.ID] = map[string]any{"version": t.Version, t.Language: map[string]string{"name": t.Name, "url": t.URL}}
		}
		params["m.login.terms"] = map[string]any{"policies": policies}
	}
	if len(stages) == 0 {
		stages = []string{"m.login.dummy"}
	}
	return [][]string{stages}, params
}

// postRegister serves POST /register.
// spec: client-server-api §post_matrixclientv3register
func (s *Server) postRegister(r *httpapi.Request) (any, error) {
	ctx := r.Context()
	switch kind := r.QueryString("kind"); kind {
	case "", "user":
	case "guest":
		return s.registerGuest(r)
	default:
		return nil, matrixerror.InvalidParam("There is no such kind of account")
	}
	var req registerRequest
	if err := r.Decode(&req); err != nil {
		return nil, err
	}
	if !s.registration.Open && !s.registration.TokenRequired {
		return nil, matrixerror.Forbidden("Registration is closed on this server")
	}
	if err := countRegistration(r, &req); err != nil {
		return nil, err
	}
	localpart, named := newLocalpart(), req.Username != nil && *req.Username != ""
	if named {
		localpart = *req.Username
	}
	if req.GuestToken != "" && !named {
		return nil, matrixerror.MissingParam("username is missing: it has to be the guest's")
	}
	id, err := s.newUserID(localpart)
	if err != nil {
		return nil, err
	}
	if named && req.GuestToken == "" {
		if _, err := userapi.Available.Call(ctx, s.caller, &userapi.AvailableRequest{UserID: id}); err != nil {
			return nil, err
		}
	}
	flows, params := s.registrationFlow()
	done, raw, err := s.interactive(ctx, "register", "", req.Auth, flows, params)
	if err != nil {
		return nil, err
	}
	if raw != nil {
		return raw, nil
	}
	if len(req.Password) < minPassword {
		return nil, matrixerror.MissingParam("password is missing")
	}
	session, err := userapi.Register.Call(ctx, s.caller, &userapi.RegisterRequest{
		UserID: id, Password: req.Password, InhibitLogin: req.InhibitLogin,
		GuestToken: req.GuestToken, RegistrationToken: done.RegistrationToken, AuthSession: done.Session,
		Device: userapi.NewDevice{DeviceID: req.DeviceID, DisplayName: req.DisplayName, Refresh: req.RefreshToken, IP: r.RemoteIP},
	})
	if err != nil {
		return nil, err
	}
	return s.answerSession(session), nil
}

// countRegistration counts what may make an account, try a registration token or
// tell whether a name is taken. Pages for logging in and signing up ask on each
// visit what authentication there is: that is no registration.
func countRegistration(r *httpapi.Request, req *registerRequest) error {
	head, err := readAuthHead(req.Auth)
	if err != nil {
		return err
	}
	if head.Type == "" && (req.Username == nil || *req.Username == "") {
		return nil
	}
	return r.Count(httpapi.LimitRegistration)
}

// newLocalpart is the localpart of who names none.
func newLocalpart() string { return strings.ToLower(rand.Text()[:16]) }

// registerGuest serves POST /register?kind=guest: of the body only the device's
// name counts.
// spec: client-server-api §guest-access
func (s *Server) registerGuest(r *httpapi.Request) (any, error) {
	if !s.registration.GuestsOpen {
		return nil, matrixerror.New(403, "M_GUEST_ACCESS_FORBIDDEN", "Guest accounts are not offered by this server")
	}
	if err := r.Count(httpapi.LimitRegistration); err != nil {
		return nil, err
	}
	var req struct {
		DisplayName string `json:"initial_device_display_name"`
	}
	if err := r.DecodeOptional(&req); err != nil {
		return nil, err
	}
	id, err := s.newUserID(newLocalpart())
	if err != nil {
		return nil, err
	}
	session, err := userapi.Register.Call(r.Context(), s.caller, &userapi.RegisterRequest{
		UserID: id, Guest: true, Device: userapi.NewDevice{DisplayName: req.DisplayName, IP: r.RemoteIP},
	})
	if err != nil {
		return nil, err
	}
	return s.answerSession(session), nil
}
