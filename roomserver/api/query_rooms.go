package api

import "github.com/matrix-org/dendrite/common/rpc"

// The query methods by which a reader that has lost its place in room.output
// makes its view anew.
var (
	QueryRooms         = rpc.NewMethod[RoomsRequest, RoomsResponse](Service, "rooms").Harmless()
	QueryMemberHistory = rpc.NewMethod[MemberHistoryRequest, MemberHistoryResponse](Service, "member_history").Harmless()
)

// RoomsRequest asks for the rooms of a partition, in the order of their IDs.
type RoomsRequest struct {
	Partition int
	// After is the last room ID of the page before; "" for the first page.
	After string
	// Limit bounds the page; at most 1,000.
	Limit int
}

// RoomsResponse is a page of them; More tells whether there is another.
type RoomsResponse struct {
	Rooms []ListedRoom
	More  bool
}

// ListedRoom is a room as it is now.
type ListedRoom struct {
	RoomID, Version           string
	LatestSeq                 int64 // of its last output
	JoinedCount, InvitedCount int
}

// MemberHistoryRequest asks how the memberships of a server's users in a room
// have changed up to a Seq, in the order of user IDs and then of Seqs.
type MemberHistoryRequest struct {
	RoomID, Server string
	ToSeq          int64
	// AfterUser and AfterSeq are those of the last change of the page before.
	AfterUser string
	AfterSeq  int64
	// Limit bounds the changes read for the page; at most 5,000.
	Limit int
}

// RoutingKey implements rpc.Routed.
func (r *MemberHistoryRequest) RoutingKey() string { return r.RoomID }

// MemberHistoryResponse is a page of them. Last is where the next one goes on,
// if there is More.
type MemberHistoryResponse struct {
	Changes  []MemberChange
	LastUser string
	LastSeq  int64
	More     bool
}

// MemberChange is a membership since a Seq; "leave" without an event where the
// entry was removed.
type MemberChange struct {
	UserID, Membership string
	Seq                int64
	EventID, Sender    string
}
