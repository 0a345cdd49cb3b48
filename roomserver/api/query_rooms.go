package api

import (
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
)

// The query methods by which a reader that has lost its place in room.output
// makes its view anew.
var (
	QueryRooms         = rpc.NewMethod[RoomsRequest, RoomsResponse](Service, "rooms").Harmless()
	QueryMemberHistory = rpc.NewMethod[MemberHistoryRequest, MemberHistoryResponse](Service, "member_history").Harmless()
	QueryOutOfRoom     = rpc.NewMethod[OutOfRoomRequest, OutOfRoomResponse](Service, "out_of_room").Harmless()
)

// RoomsRequest asks for the rooms of a partition, in the order of their IDs.
type RoomsRequest struct {
	Partition int
	// After is the last room ID of the page before; "" for the first page.
	After string
	// RoomIDs, if set, asks instead which of these, of any partition, are known:
	// at most 1,000.
	RoomIDs []string
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

// OutOfRoomRequest asks for the memberships of users of ours in rooms that we
// are not in, in the order of the outputs that told of them.
type OutOfRoomRequest struct {
	Partition int
	// AfterSeq is that of the last one of the page before.
	AfterSeq int64
	// Limit bounds the page; at most 1,000.
	Limit int
}

// OutOfRoomResponse is a page of them; More tells whether there is another.
type OutOfRoomResponse struct {
	Memberships []OutOfRoomMembership
	More        bool
}

// OutOfRoomMembership is a user's last invite, knock or end of one of a room
// that we are not in. One that the room's own state has overtaken is left out.
type OutOfRoomMembership struct {
	RoomID, Version, UserID, EventID string
	Seq                              int64
	JSON                             jsontext.Value // of the event
	// StrippedState is a JSON array; empty if there is none.
	StrippedState jsontext.Value
}

// Event parses the member event.
func (m *OutOfRoomMembership) Event() (*gomatrixserverlib.Event, error) {
	return gomatrixserverlib.ParseStoredEvent(m.JSON, gomatrixserverlib.RoomVersion(m.Version), m.EventID)
}
