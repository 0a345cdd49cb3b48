package api

import (
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/rpc"
)

// The methods around pushers: what users are notified through when they do not
// look.
// spec: client-server-api §push-notifications
var (
	// QueryPushers lists a user's pushers.
	QueryPushers = rpc.NewMethod[PushersRequest, PushersResponse](Service, "pushers").Harmless()
	// PutPusher makes or changes a pusher.
	PutPusher = rpc.NewMethod[PutPusherRequest, WriteResponse](Service, "put_pusher")
	// DropPusher removes a pusher, if it is there.
	DropPusher = rpc.NewMethod[DropPusherRequest, WriteResponse](Service, "drop_pusher")
	// QueryPushed lists the users who have pushers, with all that says what they
	// are notified of, by ID.
	QueryPushed = rpc.NewMethod[PushedRequest, PushedResponse](Service, "pushed").Harmless()
)

// Pusher is what a user is notified through.
type Pusher struct {
	// ID is another one when the pusher is removed and made again.
	ID string `json:"id"`
	// DeviceID is the session that made it, with which it ends.
	DeviceID   string         `json:"device_id"`
	Kind       string         `json:"kind"` // http
	AppID      string         `json:"app_id"`
	Pushkey    string         `json:"pushkey"`
	AppName    string         `json:"app_name"`
	DeviceName string         `json:"device_name"`
	ProfileTag string         `json:"profile_tag,omitzero"`
	Lang       string         `json:"lang"`
	Data       jsontext.Value `json:"data"`   // an object
	SetTS      int64          `json:"set_ts"` // milliseconds
}

// PushersRequest names a user.
type PushersRequest struct{ UserID string }

// PushersResponse holds the pushers, by app ID and pushkey.
type PushersResponse struct{ Pushers []Pusher }

// PutPusherRequest holds a pusher, checked by the caller; its ID is given here.
type PutPusherRequest struct {
	UserID string
	Pusher Pusher
	// Append leaves the pushers that other users have for this app and key.
	Append bool
}

// DropPusherRequest names a pusher. If ID is not "", it must be the pusher's.
type DropPusherRequest struct{ UserID, AppID, Pushkey, ID string }

// PushedRequest asks for a page, at most 500 users.
type PushedRequest struct {
	After string // a user ID
	Limit int
}

// PushedResponse is a page; an empty one is the last.
type PushedResponse struct{ Users []PushedUser }

// PushedUser is a user who has pushers.
type PushedUser struct {
	UserID  string
	Pushers []Pusher
	// Data is the user's global account data that says it, by PushedTypes.
	Data map[string]jsontext.Value
}

// PushedTypes are the types of account data that say what a user is notified of.
func PushedTypes() []string {
	return []string{TypePushRules, TypeIgnoredUsers, TypeInvitePermission, TypeInviteFilter}
}

// ChangeOfPushers tells all pushers that a user has.
func ChangeOfPushers(userID string, list []Pusher) (UserChange, error) {
	content, err := json.Marshal(list)
	if err != nil {
		return UserChange{}, fmt.Errorf("userapi: encoding pushers: %w", err)
	}
	return UserChange{UserID: userID, Kind: ChangePushers, Content: content}, nil
}
