package clientapi

import (
	"slices"

	"github.com/matrix-org/dendrite/common/httpapi"
)

// accountEndpoints lists what is about accounts and what belongs to users.
func (s *Server) accountEndpoints() []httpapi.Endpoint {
	return slices.Concat(s.sessionEndpoints(), s.userDataEndpoints(), s.pushRuleEndpoints(), s.keyEndpoints())
}

// sessionEndpoints lists what is about accounts, sessions and devices.
func (s *Server) sessionEndpoints() []httpapi.Endpoint {
	const v1, admin = "/_matrix/client/v1", "/_synapse/admin/v1"
	return []httpapi.Endpoint{
		{Method: "POST", Path: v3 + "/register", Access: httpapi.Public, Limit: httpapi.LimitRequest, Handler: s.postRegister},
		{Method: "GET", Path: v3 + "/register/available", Access: httpapi.Public, Limit: httpapi.LimitRegistration, Handler: s.getAvailable},
		{Method: "GET", Path: v1 + "/register/m.login.registration_token/validity", Access: httpapi.Public, Limit: httpapi.LimitRegistration, Handler: s.getTokenValidity},
		{Method: "GET", Path: admin + "/register", Access: httpapi.Public, Limit: httpapi.LimitRequest, Handler: s.getSharedSecret},
		{Method: "POST", Path: admin + "/register", Access: httpapi.Public, Limit: httpapi.LimitRegistration, Handler: s.postSharedSecret},

		{Method: "GET", Path: v3 + "/login", Access: httpapi.Public, Handler: s.getLogin},
		{Method: "POST", Path: v3 + "/login", Access: httpapi.Public, Limit: httpapi.LimitLogin, Handler: s.postLogin},
		{Method: "POST", Path: v1 + "/login/get_token", Access: httpapi.User, Limit: httpapi.LimitRequest, Handler: s.postLoginToken},
		{Method: "POST", Path: v3 + "/refresh", Access: httpapi.Public, Limit: httpapi.LimitLogin, Handler: s.postRefresh},
		{Method: "POST", Path: v3 + "/logout", Access: httpapi.Locked, Handler: s.postLogout},
		{Method: "POST", Path: v3 + "/logout/all", Access: httpapi.Locked, Handler: s.postLogoutAll},

		{Method: "GET", Path: v3 + "/account/whoami", Access: httpapi.Guest, Limit: httpapi.LimitRequest, Handler: s.getWhoami},
		{Method: "POST", Path: v3 + "/account/password", Access: httpapi.User, Limit: httpapi.LimitRequest, Handler: s.postPassword},
		{Method: "POST", Path: v3 + "/account/deactivate", Access: httpapi.User, Limit: httpapi.LimitRequest, Handler: s.postDeactivate},
		{Method: "GET", Path: v3 + "/account/3pid", Access: httpapi.User, Limit: httpapi.LimitRequest, Handler: s.getThreePIDs},

		{Method: "GET", Path: v3 + "/devices", Access: httpapi.Guest, Limit: httpapi.LimitRequest, Handler: s.getDevices},
		{Method: "GET", Path: v3 + "/devices/{deviceId}", Access: httpapi.Guest, Limit: httpapi.LimitRequest, Handler: s.getDevice},
		{Method: "PUT", Path: v3 + "/devices/{deviceId}", Access: httpapi.Guest, Limit: httpapi.LimitRequest, Handler: s.putDevice},
		{Method: "DELETE", Path: v3 + "/devices/{deviceId}", Access: httpapi.User, Limit: httpapi.LimitRequest, Handler: s.deleteDevice},
		{Method: "POST", Path: v3 + "/delete_devices", Access: httpapi.User, Limit: httpapi.LimitRequest, Handler: s.postDeleteDevices},
	}
}
