package clientapi

import (
	"strings"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// loginType is a way to log in.
type loginType struct {
	Type     string `json:"type"`
	GetToken bool   `json:"get_login_token,omitzero"`
}

// getLogin serves GET /login.
func (s *Server) getLogin(*httpapi.Request) (any, error) {
	return map[string][]loginType{"flows": {{Type: "m.login.password"}, {Type: "m.login.token", GetToken: true}}}, nil
}

// loginRequest is the body of POST /login; User is how old clients say who
// they are.
type loginRequest struct {
	Type       string `json:"type"`
	Identifier *struct {
		Type string `json:"type"`
		User string `json:"user"`
	} `json:"identifier"`
	User         string `json:"user"`
	Password     string `json:"password"`
	Token        string `json:"token"`
	DeviceID     string `json:"device_id"`
	DisplayName  string `json:"initial_device_display_name"`
	RefreshToken bool   `json:"refresh_token"`
}

// postLogin serves POST /login.
// spec: client-server-api §post_matrixclientv3login
func (s *Server) postLogin(r *httpapi.Request) (any, error) {
	var req loginRequest
	if err := r.Decode(&req); err != nil {
		return nil, err
	}
	login := &userapi.LoginRequest{
		Device: userapi.NewDevice{DeviceID: req.DeviceID, DisplayName: req.DisplayName, Refresh: req.RefreshToken, IP: r.RemoteIP},
	}
	switch req.Type {
	case "m.login.password":
		user, err := s.loginUser(&req)
		if err != nil {
			return nil, err
		}
		if req.Password == "" {
			return nil, matrixerror.MissingParam("password is missing")
		}
		login.UserID, login.Password = user, req.Password
	case "m.login.token":
		if req.Token == "" {
			return nil, matrixerror.MissingParam("token is missing")
		}
		login.Token = req.Token
	case "":
		return nil, matrixerror.MissingParam("type is missing")
	default:
		return nil, matrixerror.New(400, "M_UNKNOWN", "That kind of login is not offered")
	}
	session, err := userapi.Login.Call(r.Context(), s.caller, login)
	if err != nil {
		return nil, err
	}
	return s.answerSession(session), nil
}

// loginUser finds out who logs in.
// spec: client-server-api §identifier-types
func (s *Server) loginUser(req *loginRequest) (string, error) {
	user := req.User
	if req.Identifier != nil {
		switch req.Identifier.Type {
		case "m.id.user":
			user = req.Identifier.User
		case "m.id.thirdparty", "m.id.phone":
			return "", matrixerror.Forbidden("The user name or the password is wrong")
		default:
			return "", matrixerror.New(400, "M_UNKNOWN", "That kind of identifier is not known")
		}
	}
	if user == "" {
		return "", matrixerror.MissingParam("The user name is missing")
	}
	if !strings.HasPrefix(user, "@") {
		user = "@" + user + ":" + s.serverName
	}
	if _, server, ok := strings.Cut(user, ":"); !ok || server != s.serverName {
		return "", matrixerror.Forbidden("The user name or the password is wrong")
	}
	return user, nil
}

// postLoginToken serves POST /login/get_token.
// spec: client-server-api §post_matrixclientv1loginget_token
func (s *Server) postLoginToken(r *httpapi.Request) (any, error) {
	var req authBody
	if err := r.DecodeOptional(&req); err != nil {
		return nil, err
	}
	if raw, err := s.withPassword(r, "get_token", req.Auth); err != nil || raw != nil {
		return rawOrNil(raw), err
	}
	res, err := userapi.IssueToken.Call(r.Context(), s.caller, &userapi.IssueTokenRequest{UserID: r.Device.UserID, Kind: userapi.TokenLogin})
	if err != nil {
		return nil, err
	}
	return map[string]any{"login_token": res.Token, "expires_in_ms": res.ExpiresInMS}, nil
}

// postRefresh serves POST /refresh.
func (s *Server) postRefresh(r *httpapi.Request) (any, error) {
	var req struct {
		RefreshToken string `json:"refresh_token"`
	}
	if err := r.Decode(&req); err != nil {
		return nil, err
	}
	if req.RefreshToken == "" {
		return nil, matrixerror.MissingParam("refresh_token is missing")
	}
	session, err := userapi.Refresh.Call(r.Context(), s.caller, &userapi.RefreshRequest{Token: req.RefreshToken})
	if err != nil {
		return nil, err
	}
	return &sessionAnswer{AccessToken: session.AccessToken, RefreshToken: session.RefreshToken, ExpiresInMS: session.ExpiresInMS}, nil
}

// postLogout serves POST /logout.
func (s *Server) postLogout(r *httpapi.Request) (any, error) {
	_, err := userapi.DeleteDevices.Call(r.Context(), s.caller, &userapi.DeleteDevicesRequest{UserID: r.Device.UserID, DeviceIDs: []string{r.Device.DeviceID}})
	return nil, err
}

// postLogoutAll serves POST /logout/all.
func (s *Server) postLogoutAll(r *httpapi.Request) (any, error) {
	_, err := userapi.DeleteDevices.Call(r.Context(), s.caller, &userapi.DeleteDevicesRequest{UserID: r.Device.UserID, All: true})
	return nil, err
}

// getWhoami serves GET /account/whoami.
func (s *Server) getWhoami(r *httpapi.Request) (any, error) {
	out := map[string]any{"user_id": r.Device.UserID, "is_guest": r.Device.IsGuest}
	if r.Device.DeviceID != "" {
		out["device_id"] = r.Device.DeviceID
	}
	return out, nil
}
