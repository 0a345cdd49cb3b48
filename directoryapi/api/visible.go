package api

import "github.com/matrix-org/dendrite/common/rpc"

// QueryVisibleUsers tells which of some local users another one may see.
// spec: client-server-api §post_matrixclientv3user_directorysearch
var QueryVisibleUsers = rpc.NewMethod[VisibleUsersRequest, VisibleUsersResponse](Service, "visible_users").Harmless()

// VisibleUsersRequest names who asks and whom, at most 1,000.
type VisibleUsersRequest struct {
	Viewer  string
	UserIDs []string
	// AtLeast is that of UserRoomsRequest.
	AtLeast []int64
}

// VisibleUsersResponse holds those who share a room with the viewer, or are in
// one that anybody may join or read; in no particular order.
type VisibleUsersResponse struct{ UserIDs []string }
