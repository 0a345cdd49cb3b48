package api

import (
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/rpc"
)

// The methods around accounts and their sessions.
var (
	// Register makes an account, and a session of it unless told not to:
	// 400 M_USER_IN_USE when the name is taken, 403 when GuestToken is not that
	// of a guest of the name.
	Register = rpc.NewMethod[RegisterRequest, Session](Service, "register")
	// Available answers 400 M_USER_IN_USE when the name is taken.
	Available = rpc.NewMethod[AvailableRequest, struct{}](Service, "available").Harmless()
	// Login makes a session: 403 M_FORBIDDEN when password or token are wrong,
	// 403 M_USER_DEACTIVATED when the account is no more, 429 M_LIMIT_EXCEEDED
	// after too many wrong passwords.
	Login = rpc.NewMethod[LoginRequest, Session](Service, "login")
	// Refresh makes new tokens for a session: 401 M_UNKNOWN_TOKEN.
	Refresh = rpc.NewMethod[RefreshRequest, Session](Service, "refresh")
	// SetPassword sets a password and may end other sessions.
	SetPassword = rpc.NewMethod[SetPasswordRequest, struct{}](Service, "set_password")
	// Deactivate ends an account for good and has its rooms left.
	Deactivate = rpc.NewMethod[DeactivateRequest, struct{}](Service, "deactivate")
	// QueryDevices lists a user's devices.
	QueryDevices = rpc.NewMethod[DevicesRequest, DevicesResponse](Service, "devices").Harmless()
	// PutDevice names a device: 404 when there is none.
	PutDevice = rpc.NewMethod[PutDeviceRequest, struct{}](Service, "put_device")
	// DeleteDevices ends sessions; those that do not exist are passed over.
	DeleteDevices = rpc.NewMethod[DeleteDevicesRequest, struct{}](Service, "delete_devices")
	// Authorise takes a user through the stages of interactive authentication.
	Authorise = rpc.NewMethod[AuthoriseRequest, AuthoriseResponse](Service, "authorise")
	// IssueToken makes a short-lived token for login or for OpenID.
	IssueToken = rpc.NewMethod[IssueTokenRequest, IssueTokenResponse](Service, "issue_token")
	// QueryOpenID tells whose OpenID token it is: 401 M_UNKNOWN_TOKEN.
	QueryOpenID = rpc.NewMethod[OpenIDRequest, OpenIDResponse](Service, "openid").Harmless()
	// QueryRegistrationToken tells whether a registration token may be used.
	QueryRegistrationToken = rpc.NewMethod[RegistrationTokenRequest, RegistrationTokenResponse](Service, "registration_token").Harmless()
	// PutRegistrationToken makes or replaces a registration token.
	PutRegistrationToken = rpc.NewMethod[PutRegistrationTokenRequest, struct{}](Service, "put_registration_token")
)

// Downcase returns a user ID, or a localpart, with a-z for A-Z in the localpart:
// what new accounts are named, and what somebody means who types a name.
// spec: appendices §mapping-from-other-character-sets
func Downcase(userID string) string {
	localpart, server, _ := strings.Cut(userID, ":")
	lower := strings.Map(func(c rune) rune {
		if c >= 'A' && c <= 'Z' {
			return c + 'a' - 'A'
		}
		return c
	}, localpart)
	if server == "" {
		return lower
	}
	return lower + ":" + server
}

// RegisterRequest describes a new account.
type RegisterRequest struct {
	// UserID is whole; its localpart was checked by the caller.
	UserID string
	// Password may be "" for accounts that cannot log in with one.
	Password string
	Admin    bool
	Guest    bool
	// GuestToken, an access token of the guest UserID, makes a user of that
	// account instead of a new one; "" for none.
	GuestToken string
	// InhibitLogin makes no session.
	InhibitLogin bool
	Device       NewDevice
	// RegistrationToken was given by the user; it is counted as used.
	RegistrationToken string
	// AuthSession is the session of interactive authentication that ends with
	// this; "" for none.
	AuthSession string
}

// NewDevice says of which device a session is to be.
type NewDevice struct {
	// DeviceID "" lets one be chosen.
	DeviceID    string
	DisplayName string
	// Refresh asks for a token that expires, and one to refresh it.
	Refresh bool
	IP      string
}

// Session is what a client keeps. AccessToken is "" without a session.
type Session struct {
	UserID       string
	DeviceID     string
	AccessToken  string
	RefreshToken string
	ExpiresInMS  int64 // 0: never
}

// AvailableRequest names a user who may not exist.
type AvailableRequest struct{ UserID string }

// LoginRequest holds either Password or Token, which then says who it is. The
// UserID is as the user typed it: an account of another case is found as well.
type LoginRequest struct {
	UserID, Password string
	Token            string
	Device           NewDevice
}

// RefreshRequest holds a refresh token.
type RefreshRequest struct{ Token string }

// SetPasswordRequest sets a password.
type SetPasswordRequest struct {
	UserID, Password string
	// LogoutOthers ends all sessions but that of KeepDevice.
	LogoutOthers bool
	KeepDevice   string
}

// DeactivateRequest names a local user.
type DeactivateRequest struct{ UserID string }

// DevicesRequest names a user.
type DevicesRequest struct{ UserID string }

// DevicesResponse lists devices by ID.
type DevicesResponse struct{ Devices []DeviceInfo }

// DeviceInfo is a device as its user sees it.
type DeviceInfo struct {
	DeviceID    string `json:"device_id"`
	DisplayName string `json:"display_name,omitzero"`
	LastSeenIP  string `json:"last_seen_ip,omitzero"`
	LastSeenTS  int64  `json:"last_seen_ts,omitzero"` // milliseconds
}

// PutDeviceRequest names a device; a nil DisplayName changes nothing.
type PutDeviceRequest struct {
	UserID, DeviceID string
	DisplayName      *string
}

// DeleteDevicesRequest names devices; All means every one.
type DeleteDevicesRequest struct {
	UserID    string
	DeviceIDs []string
	All       bool
}

// AuthoriseRequest is one step of interactive authentication.
// spec: client-server-api §user-interactive-authentication-api
type AuthoriseRequest struct {
	// Session is "" at first.
	Session string
	// Operation is what is to be authorised: a session serves only one.
	Operation string
	// UserID is who is to be authorised; "" when registering.
	UserID string
	// Flows are the lists of stages, one of which has to be completed.
	Flows [][]string
	// Stage is what Auth completes; "" when only the flows are asked for.
	Stage string
	Auth  jsontext.Value
}

// AuthoriseResponse tells how far it is.
type AuthoriseResponse struct {
	Session   string
	Completed []string
	// Done is set when a flow is complete.
	Done bool
	// RegistrationToken is what the user gave.
	RegistrationToken string
	// Err is why the stage failed; "" when it did not.
	ErrCode, Err string
}

// TokenKind says what a short-lived token is for.
type TokenKind string

// The kinds of short-lived tokens.
const (
	TokenLogin  TokenKind = "login"
	TokenOpenID TokenKind = "openid"
)

// IssueTokenRequest asks for a token of a user.
type IssueTokenRequest struct {
	UserID string
	Kind   TokenKind
}

// IssueTokenResponse holds the token and how long it is good.
type IssueTokenResponse struct {
	Token       string
	ExpiresInMS int64
}

// OpenIDRequest holds an OpenID token.
type OpenIDRequest struct{ Token string }

// OpenIDResponse tells whose it is.
type OpenIDResponse struct{ UserID string }

// RegistrationTokenRequest holds a registration token.
type RegistrationTokenRequest struct{ Token string }

// RegistrationTokenResponse tells whether it may be used now.
type RegistrationTokenResponse struct{ Valid bool }

// PutRegistrationTokenRequest describes a registration token.
type PutRegistrationTokenRequest struct {
	Token string
	// UsesAllowed bounds the accounts made with it; 0: not bounded.
	UsesAllowed int64
	ExpiresTS   int64 // milliseconds; 0: never
}
