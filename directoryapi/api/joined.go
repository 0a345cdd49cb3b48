package api

import "github.com/matrix-org/dendrite/common/rpc"

// QueryJoined lists the rooms that local users are joined to, of those in one
// partition of room.output: for readers that follow what becomes of it.
var QueryJoined = rpc.NewMethod[JoinedRequest, JoinedResponse](Service, "joined").Harmless()

// JoinedRequest names users, at most 1,000, and a partition.
type JoinedRequest struct {
	UserIDs   []string
	Partition int
	// AtLeast is a Seq of the partition that the answer includes; 503 when the view
	// does not get there in time.
	AtLeast int64
}

// JoinedResponse maps users to the IDs of their rooms.
type JoinedResponse struct{ Rooms map[string][]string }
