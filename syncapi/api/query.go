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

// QueryUnread counts what is unread in all of a user's rooms: the numbers that the
// user's next sync would tell.
var QueryUnread = rpc.NewMethod[UnreadRequest, UnreadResponse](Service, "unread").Harmless()

// UnreadRequest names a user.
type UnreadRequest struct {
	UserID string
	// Event, if EventID is set, is asked about too; the answer is as of its
	// position, or later.
	RoomID, EventID string
	Position        roomserver.Position
	// UserSeq is a Seq of the user's partition of user.output that the answer
	// includes.
	UserSeq int64
}

// RoutingKey implements rpc.Routed.
func (r *UnreadRequest) RoutingKey() string { return r.UserID }

// UnreadResponse holds the counts.
type UnreadResponse struct {
	// Notifications, and Highlights among them, are those of all joined rooms.
	Notifications, Highlights int
	// Rooms have some.
	Rooms int
	// MissedCalls are calls offered that the user neither took nor refused nor has
	// read of.
	MissedCalls int
	// Read tells that the event asked about lies before one of the user's receipts.
	Read bool
}

// PositionRequest holds a token and the room whose timeline is meant.
type PositionRequest struct{ RoomID, Token string }

// RoutingKey implements rpc.Routed.
func (r *PositionRequest) RoutingKey() string { return r.RoomID }

// PositionResponse is the point right after Position; a negative Sub is the
// point right before the event of that Seq.
type PositionResponse struct{ Position roomserver.Position }
