package api

import "github.com/matrix-org/dendrite/common/rpc"

// The methods around rooms that users have forgotten.
var (
	// Forget notes that a user has forgotten a room and publishes ChangeForget.
	Forget = rpc.NewMethod[ForgetRequest, WriteResponse](Service, "forget")
	// QueryForgotten tells whether a user has forgotten a room.
	QueryForgotten = rpc.NewMethod[ForgottenRequest, ForgottenResponse](Service, "forgotten").Harmless()
)

// ForgetRequest names the room, and the user's member event at that time: a
// later one (a new invite, a new join) ends the forgetting without any write.
type ForgetRequest struct{ UserID, RoomID, EventID string }

// RoutingKey implements rpc.Routed.
func (r *ForgetRequest) RoutingKey() string { return r.UserID }

// ForgottenRequest names a user and a room.
type ForgottenRequest struct{ UserID, RoomID string }

// RoutingKey implements rpc.Routed.
func (r *ForgottenRequest) RoutingKey() string { return r.UserID }

// ForgottenResponse holds the member event of the forgetting; "" when the
// user has not forgotten the room. The room is forgotten while that event is
// the user's current one.
type ForgottenResponse struct{ EventID string }
