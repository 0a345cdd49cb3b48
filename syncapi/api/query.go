package api

import (
	"github.com/matrix-org/dendrite/common/rpc"
	roomserver "github.com/matrix-org/dendrite/roomserver/api"
)

// Service is the sync-api's name in rpc.
const Service = "syncapi"

// QueryPosition reads a token that /sync or /messages gave out (prev_batch,
// next_batch, start, end) as a point in a room's timeline: 400 M_INVALID_PARAM
// when it is not one.
var QueryPosition = rpc.NewMethod[PositionRequest, PositionResponse](Service, "position").Harmless()

// PositionRequest holds a token and the room whose timeline is meant.
type PositionRequest struct{ RoomID, Token string }

// RoutingKey implements rpc.Routed.
func (r *PositionRequest) RoutingKey() string { return r.RoomID }

// PositionResponse is the point right after Position; a negative Sub is the
// point right before the event of that Seq.
type PositionResponse struct{ Position roomserver.Position }
