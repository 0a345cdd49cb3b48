package api

import "github.com/matrix-org/dendrite/common/rpc"

// The methods around guests who have to leave: rooms that do not ask guests in
// any more are noted, in the transaction of the view, until somebody has seen
// to it that the guests among their members are gone.
// spec: client-server-api §guest-access
var (
	// QueryGuestRooms lists the rooms noted.
	QueryGuestRooms = rpc.NewMethod[GuestRoomsRequest, GuestRoomsResponse](Service, "guest_rooms").Harmless()
	// FinishGuestRoom says that no guest is left in one.
	FinishGuestRoom = rpc.NewMethod[FinishGuestRoomRequest, FinishGuestRoomResponse](Service, "finish_guest_room")
)

// GuestRoomsRequest asks for some of the rooms, at most 100.
type GuestRoomsRequest struct{ Limit int }

// GuestRoomsResponse holds them.
type GuestRoomsResponse struct{ Rooms []GuestRoom }

// GuestRoom is a room that guests may not be in.
type GuestRoom struct {
	RoomID string
	// Seq is that of the change by which they may not.
	Seq int64
	// Joined are the local users who are joined, guests or not.
	Joined []string
}

// FinishGuestRoomRequest names a room and the change that it was noted for.
type FinishGuestRoomRequest struct {
	RoomID string
	Seq    int64
}

// FinishGuestRoomResponse has no members.
type FinishGuestRoomResponse struct{}
