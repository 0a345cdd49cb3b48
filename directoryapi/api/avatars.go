package api

import "github.com/matrix-org/dendrite/common/rpc"

// QueryAvatars tells which media are pictures of rooms.
var QueryAvatars = rpc.NewMethod[AvatarsRequest, AvatarsResponse](Service, "avatars").Harmless()

// AvatarsRequest holds mxc:// URIs.
type AvatarsRequest struct{ URIs []string }

// AvatarsResponse holds those that some room has.
type AvatarsResponse struct{ Used []string }
