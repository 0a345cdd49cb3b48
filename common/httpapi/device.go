package httpapi

// Device is an authenticated session of a user.
type Device struct {
	UserID   string
	DeviceID string
	// AccessTokenID names the token in the store (it is not the token).
	AccessTokenID int64
	DisplayName   string
	IsGuest       bool
	IsAdmin       bool
	// Locked and Suspended accounts may only do little.
	// spec: client-server-api §account-locking §account-suspension
	Locked    bool
	Suspended bool
	// AppserviceID is set when an application service speaks.
	AppserviceID string
	// Profile is the user's as it was when this request came, where whoever looked
	// for the token read it anyway; nil says nothing.
	Profile *Profile
}

// Profile is what rooms are told of a user.
type Profile struct{ DisplayName, AvatarURL string }
