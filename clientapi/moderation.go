package clientapi

import (
	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// moderationEndpoints list what administrators of the server do to accounts.
func (s *Server) moderationEndpoints() []httpapi.Endpoint {
	const admin = "/_matrix/client/v1/admin"
	e := func(method, path string, access httpapi.Access, h httpapi.Handler) httpapi.Endpoint {
		return httpapi.Endpoint{Method: method, Path: path, Access: access, Limit: httpapi.LimitRequest, Handler: h}
	}
	return []httpapi.Endpoint{
		e("GET", admin+"/lock/{userId}", httpapi.Admin, s.getLock),
		e("PUT", admin+"/lock/{userId}", httpapi.Admin, s.putLock),
		e("GET", admin+"/suspend/{userId}", httpapi.Admin, s.getSuspend),
		e("PUT", admin+"/suspend/{userId}", httpapi.Admin, s.putSuspend),
		e("GET", v3+"/admin/whois/{userId}", httpapi.User, s.getWhois),
	}
}

type lockAnswer struct {
	Locked bool `json:"locked"`
}

type suspendAnswer struct {
	Suspended bool `json:"suspended"`
}

// moderated is the account of the path's user, whom an administrator asks about.
// spec: client-server-api §get_matrixclientv1adminsuspenduserid
func (s *Server) moderated(r *httpapi.Request) (*userapi.AccountResponse, error) {
	userID := r.PathValue("userId")
	if err := s.checkLocal(userID); err != nil {
		return nil, err
	}
	account, err := userapi.QueryAccount.Call(r.Context(), s.caller, &userapi.AccountRequest{UserID: userID})
	if err == nil && account.Admin && userID != r.Device.UserID {
		err = matrixerror.Forbidden("The user is an administrator as well")
	}
	return account, err
}

func (s *Server) checkLocal(userID string) error {
	_, server, err := gomatrixserverlib.ParseHistoricalUserID(userID)
	if err != nil || server != s.serverName {
		return matrixerror.InvalidParam("That is not a user of this server")
	}
	return nil
}

// moderateAccount changes the account of the path's user, but never one's own.
func (s *Server) moderateAccount(r *httpapi.Request, change userapi.ModerateRequest) (*userapi.AccountResponse, error) {
	change.UserID = r.PathValue("userId")
	if err := s.checkLocal(change.UserID); err != nil {
		return nil, err
	}
	if change.UserID == r.Device.UserID {
		return nil, matrixerror.Forbidden("You cannot do this to your own account")
	}
	return userapi.Moderate.Call(r.Context(), s.caller, &change)
}

// getLock serves GET /admin/lock/{userId}.
func (s *Server) getLock(r *httpapi.Request) (any, error) {
	account, err := s.moderated(r)
	if err != nil {
		return nil, err
	}
	return &lockAnswer{account.Locked}, nil
}

// putLock serves PUT /admin/lock/{userId}.
func (s *Server) putLock(r *httpapi.Request) (any, error) {
	var body struct {
		Locked *bool `json:"locked"`
	}
	if err := r.Decode(&body); err != nil {
		return nil, err
	}
	if body.Locked == nil {
		return nil, matrixerror.MissingParam("locked is missing")
	}
	account, err := s.moderateAccount(r, userapi.ModerateRequest{Locked: body.Locked})
	if err != nil {
		return nil, err
	}
	return &lockAnswer{account.Locked}, nil
}

// getSuspend serves GET /admin/suspend/{userId}.
func (s *Server) getSuspend(r *httpapi.Request) (any, error) {
	account, err := s.moderated(r)
	if err != nil {
		return nil, err
	}
	return &suspendAnswer{account.Suspended}, nil
}

// putSuspend serves PUT /admin/suspend/{userId}.
func (s *Server) putSuspend(r *httpapi.Request) (any, error) {
	var body struct {
		Suspended *bool `json:"suspended"`
	}
	if err := r.Decode(&body); err != nil {
		return nil, err
	}
	if body.Suspended == nil {
		return nil, matrixerror.MissingParam("suspended is missing")
	}
	account, err := s.moderateAccount(r, userapi.ModerateRequest{Suspended: body.Suspended})
	if err != nil {
		return nil, err
	}
	return &suspendAnswer{account.Suspended}, nil
}

type whoisConnection struct {
	IP       string `json:"ip,omitzero"`
	LastSeen int64  `json:"last_seen,omitzero"`
}

type whoisSession struct {
	Connections []whoisConnection `json:"connections"`
}

type whoisDevice struct {
	Sessions []whoisSession `json:"sessions"`
}

type whoisAnswer struct {
	UserID  string                 `json:"user_id"`
	Devices map[string]whoisDevice `json:"devices"`
}

// getWhois serves GET /admin/whois/{userId}: to the user and to administrators.
// spec: client-server-api §get_matrixclientv3adminwhoisuserid
func (s *Server) getWhois(r *httpapi.Request) (any, error) {
	userID := r.PathValue("userId")
	if userID != r.Device.UserID {
		if !r.Device.IsAdmin {
			return nil, matrixerror.Forbidden("Only administrators of the server may look up others")
		}
		if err := s.checkLocal(userID); err != nil {
			return nil, err
		}
		if _, err := userapi.QueryAccount.Call(r.Context(), s.caller, &userapi.AccountRequest{UserID: userID}); err != nil {
			return nil, err
		}
	}
	res, err := userapi.QueryDevices.Call(r.Context(), s.caller, &userapi.DevicesRequest{UserID: userID})
	if err != nil {
		return nil, err
	}
	out := &whoisAnswer{UserID: userID, Devices: map[string]whoisDevice{}}
	for _, d := range res.Devices {
		out.Devices[d.DeviceID] = whoisDevice{Sessions: []whoisSession{{Connections: []whoisConnection{{IP: d.LastSeenIP, LastSeen: d.LastSeenTS}}}}}
	}
	return out, nil
}
