package clientapi

import (
	"html"
	"net/http"
	"strings"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
)

// discoveryEndpoints list what tells clients about the server.
func (s *Server) discoveryEndpoints() []httpapi.Endpoint {
	public := func(path string, h httpapi.Handler) httpapi.Endpoint {
		return httpapi.Endpoint{Method: "GET", Path: path, Access: httpapi.Public, Handler: h}
	}
	return []httpapi.Endpoint{
		public("/_matrix/client/versions", s.getVersions),
		public("/.well-known/matrix/client", s.getWellKnownClient),
		public("/.well-known/matrix/server", s.getWellKnownServer),
		public("/.well-known/matrix/support", s.getWellKnownSupport),
		public("/.well-known/matrix/policy_server", s.getWellKnownPolicyServer),
		{Method: "GET", Path: v3 + "/capabilities", Access: httpapi.Guest, Limit: httpapi.LimitRequest, Handler: s.getCapabilities},
		public("/{$}", s.getLanding),
		public("/health", s.getHealth),
	}
}

type versionsResponse struct {
	Versions []string `json:"versions"`
	// Unstable are the proposals that are served under unstable names.
	Unstable map[string]bool `json:"unstable_features"`
}

// getVersions lists the versions of the specification that clients may use.
// spec: client-server-api §get_matrixclientversions
func (s *Server) getVersions(*httpapi.Request) (any, error) {
	return versionsResponse{
		Versions: []string{
			"r0.6.1", "v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7", "v1.8", "v1.9", "v1.10",
			"v1.11", "v1.12", "v1.13", "v1.14", "v1.15", "v1.16", "v1.17", "v1.18", "v1.19",
		},
		Unstable: map[string]bool{
			"org.matrix.simplified_msc3575": true, // sliding sync, MSC4186
			"org.matrix.msc3814":            true, // dehydrated devices
			"org.matrix.msc4069":            true, // profiles that change quietly
			msc4140:                         !s.config.DelayedEvents.Disabled,
			"org.matrix.msc4306":            !s.config.ThreadSubscriptions.Disabled,
			"org.matrix.msc4155":            true, // invites told apart by inviter
			msc1763:                         s.retention != nil,
			"org.matrix.msc4143":            len(s.config.Calls.LiveKitServiceURLs) > 0,
		},
	}, nil
}

type baseURL struct {
	BaseURL string `json:"base_url"`
}

type wellKnownClient struct {
	Homeserver baseURL `json:"m.homeserver"`
	// RTCFoci is how clients of before MSC4143's endpoint find the same.
	RTCFoci []rtcTransport `json:"org.matrix.msc4143.rtc_foci,omitempty"`
}

// getWellKnownClient tells clients where the server's API is.
// spec: client-server-api §getwell-knownmatrixclient
func (s *Server) getWellKnownClient(*httpapi.Request) (any, error) {
	if s.global.WellKnownClientBaseURL == "" {
		return nil, errNotServed()
	}
	return wellKnownClient{Homeserver: baseURL{s.global.WellKnownClientBaseURL}, RTCFoci: s.rtcTransports()}, nil
}

type wellKnownServer struct {
	Server string `json:"m.server"`
}

// getWellKnownServer tells other servers where to reach this one.
// spec: server-server-api §getwell-knownmatrixserver
func (s *Server) getWellKnownServer(*httpapi.Request) (any, error) {
	if s.global.WellKnownServerName == "" {
		return nil, errNotServed()
	}
	return wellKnownServer{s.global.WellKnownServerName}, nil
}

type supportContact struct {
	Role     string `json:"role"`
	MatrixID string `json:"matrix_id,omitzero"`
	Email    string `json:"email_address,omitzero"`
}

type wellKnownSupport struct {
	Contacts []supportContact `json:"contacts,omitzero"`
	Page     string           `json:"support_page,omitzero"`
}

// getWellKnownSupport tells whom users can ask for help.
// spec: client-server-api §getwell-knownmatrixsupport
func (s *Server) getWellKnownSupport(*httpapi.Request) (any, error) {
	support := s.global.Support
	if support == (config.Support{}) {
		return nil, errNotServed()
	}
	answer := wellKnownSupport{Page: support.Page}
	if support.MatrixID != "" || support.Email != "" {
		answer.Contacts = []supportContact{{Role: "m.role.admin", MatrixID: support.MatrixID, Email: support.Email}}
	}
	return answer, nil
}

// getWellKnownPolicyServer tells rooms the key of a policy server at this name.
// spec: client-server-api §getwell-knownmatrixpolicy_server
func (s *Server) getWellKnownPolicyServer(*httpapi.Request) (any, error) {
	if s.global.PolicyServerKey == "" {
		return nil, errNotServed()
	}
	return map[string]any{"public_keys": map[string]string{"ed25519": s.global.PolicyServerKey}}, nil
}

func errNotServed() error {
	return matrixerror.NotFound("The administrator of this server has not set this up")
}

type enabled struct {
	Enabled bool `json:"enabled"`
}

type roomVersions struct {
	Default   string            `json:"default"`
	Available map[string]string `json:"available"`
}

type capabilities struct {
	RoomVersions       roomVersions       `json:"m.room_versions"`
	ChangePassword     enabled            `json:"m.change_password"`
	SetDisplayName     enabled            `json:"m.set_displayname"`
	SetAvatarURL       enabled            `json:"m.set_avatar_url"`
	ThirdPartyIDs      enabled            `json:"m.3pid_changes"`
	GetLoginToken      enabled            `json:"m.get_login_token"`
	ProfileFields      profileFields      `json:"m.profile_fields"`
	ForgetForcedOnExit enabled            `json:"m.forget_forced_upon_leave"`
	DelayedEvents      *delayedCapability `json:"org.matrix.msc4140.delayed_events"`
	// AccountModeration is told to those who may do it.
	AccountModeration *accountModeration `json:"m.account_moderation,omitzero"`
}

// profileFields says which fields a user may change: all, unless some are named.
type profileFields struct {
	Enabled bool     `json:"enabled"`
	Allowed []string `json:"allowed,omitzero"`
}

type accountModeration struct {
	Lock    bool `json:"lock"`
	Suspend bool `json:"suspend"`
}

type capabilitiesResponse struct {
	Capabilities capabilities `json:"capabilities"`
}

// getCapabilities tells what users of this server can do.
// spec: client-server-api §capabilities-negotiation
func (s *Server) getCapabilities(r *httpapi.Request) (any, error) {
	versions := roomVersions{Default: s.config.DefaultRoomVersion, Available: map[string]string{}}
	if versions.Default == "" {
		versions.Default = string(gomatrixserverlib.DefaultRoomVersion)
	}
	for _, v := range gomatrixserverlib.SupportedRoomVersions() {
		versions.Available[string(v)] = "stable"
	}
	member := enabled{!r.Device.IsGuest} // guests have no password, and but a name
	out := capabilities{RoomVersions: versions, ChangePassword: member, SetDisplayName: enabled{true}, SetAvatarURL: member, GetLoginToken: member}
	out.ProfileFields.Enabled = true
	if r.Device.IsGuest {
		out.ProfileFields.Allowed = []string{"displayname"}
	}
	out.DelayedEvents = s.delayedCapability()
	if r.Device.IsAdmin {
		out.AccountModeration = &accountModeration{Lock: true, Suspend: true}
	}
	return capabilitiesResponse{out}, nil
}

const landing = `<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>NAME</title>
<style>body { font-family: sans-serif; max-width: 36em; margin: 4em auto; padding: 0 1em; line-height: 1.5 }</style>
<h1>NAME</h1>
<p>This is a <a href="https://matrix.org">Matrix</a> homeserver, and it is running.</p>
<p>To use it, open a Matrix client such as <a href="https://element.io">Element</a> and give it WHERE as the homeserver.</p>
</html>
`

// getLanding answers whoever opens the server in a browser.
func (s *Server) getLanding(*httpapi.Request) (any, error) {
	where := "the address of this page"
	if base := s.global.WellKnownClientBaseURL; base != "" {
		where = "<code>" + html.EscapeString(base) + "</code>"
	}
	page := strings.NewReplacer("NAME", html.EscapeString(s.serverName), "WHERE", where).Replace(landing)
	return &httpapi.Raw{
		Header: http.Header{
			"Content-Type":            {"text/html; charset=utf-8"},
			"Content-Security-Policy": {"default-src 'none'; style-src 'unsafe-inline'"},
		},
		Body: []byte(page),
	}, nil
}

// getHealth answers load balancers: the process serves requests.
func (s *Server) getHealth(*httpapi.Request) (any, error) { return nil, nil }
