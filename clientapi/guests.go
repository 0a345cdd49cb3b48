package clientapi

import (
	"context"
	"fmt"
	"slices"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	directory "github.com/matrix-org/dendrite/directoryapi/api"
	"github.com/matrix-org/dendrite/roomserver/api"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

const (
	// guestRooms is how many rooms are looked at for guests at once, guestsAsked
	// how many of their members are asked about at once.
	guestRooms  = 100
	guestsAsked = 1000
)

// withdrawGuests makes the guests of this server leave the rooms that do not ask
// guests in any more. Several instances may do so at once, and a room may be
// looked at again: each guest leaves under one request ID.
// spec: client-server-api §guest-access
func (s *Server) withdrawGuests(ctx context.Context) error {
	for ctx.Err() == nil {
		res, err := directory.QueryGuestRooms.Call(ctx, s.caller, &directory.GuestRoomsRequest{Limit: guestRooms})
		if err != nil || len(res.Rooms) == 0 {
			return err
		}
		for i := range res.Rooms {
			room := &res.Rooms[i]
			for users := range slices.Chunk(room.Joined, guestsAsked) {
				if err := s.guestsLeave(ctx, room, users); err != nil {
					return err
				}
			}
			if _, err := directory.FinishGuestRoom.Call(ctx, s.caller, &directory.FinishGuestRoomRequest{RoomID: room.RoomID, Seq: room.Seq}); err != nil {
				return err
			}
		}
	}
	return nil
}

// guestsLeave makes those of the users leave who are guests. A leave that is
// refused is passed over; what may succeed later is an error.
func (s *Server) guestsLeave(ctx context.Context, room *directory.GuestRoom, users []string) error {
	guests, err := userapi.QueryGuests.Call(ctx, s.caller, &userapi.GuestsRequest{UserIDs: users})
	if err != nil || len(guests.UserIDs) == 0 {
		return err
	}
	// It may have been given again meanwhile.
	if err := s.guestsMayJoin(ctx, room.RoomID); !matrixerror.Is(err, "M_GUEST_ACCESS_FORBIDDEN") {
		return err
	}
	for _, userID := range guests.UserIDs {
		err := s.guestLeaves(ctx, room.RoomID, userID, hashedID(fmt.Appendf(nil, "guest\x00%s\x00%d\x00%s", room.RoomID, room.Seq, userID)))
		if passes(err) {
			return err
		}
	}
	return nil
}

func (s *Server) guestLeaves(ctx context.Context, roomID, userID, requestID string) error {
	return s.leaves(ctx, roomID, userID, requestID, "This room does not admit guests any more", []string{"join"})
}

// leaves makes a user leave a room; 403 where the membership is none of from by then.
func (s *Server) leaves(ctx context.Context, roomID, userID, requestID, reason string, from []string) error {
	event, err := memberEvent(userID, userID, memberContent{Membership: "leave", Reason: reason})
	if err != nil {
		return err
	}
	event.Expect = []api.Expectation{{UserID: userID, Membership: from, Status: 403, Code: "M_FORBIDDEN", Message: "The user has left"}}
	_, err = s.writer.Append(ctx, &api.InputRecord{RoomID: roomID, RequestID: requestID, Events: []api.InputEvent{event}})
	return err
}

// guestStays looks again once a guest has joined: the room may have ceased to
// admit guests since it was asked, and who looks for those left may not have
// seen this one.
func (s *Server) guestStays(ctx context.Context, d *httpapi.Device, roomID string) error {
	if !d.IsGuest {
		return nil
	}
	refused := s.guestsMayJoin(ctx, roomID)
	if !matrixerror.Is(refused, "M_GUEST_ACCESS_FORBIDDEN") {
		return refused
	}
	if err := s.guestLeaves(ctx, roomID, d.UserID, ""); err != nil && !matrixerror.Is(err, "M_FORBIDDEN") {
		return err
	}
	return refused
}
