package clientapi

import (
	"context"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// powers is what a user may do in a room as it is now.
type powers struct {
	levels     *gomatrixserverlib.PowerLevels
	userID     string
	membership string
	version    gomatrixserverlib.RoomVersion
}

// powersIn reads a user's powers: 404 when the room is unknown. It serves what
// is not an event (aliases, the directory); events are the room server's.
func (s *Server) powersIn(ctx context.Context, roomID, userID string) (*powers, error) {
	res, err := api.QueryState.Call(ctx, s.caller, &api.StateRequest{
		RoomID: roomID,
		Keys: []gomatrixserverlib.StateKey{
			{Type: "m.room.create"}, {Type: "m.room.power_levels"}, {Type: typeMember, StateKey: userID},
		},
	})
	if err != nil {
		return nil, err
	}
	p := &powers{userID: userID, version: res.RoomVersion}
	var create, levels *gomatrixserverlib.Event
	for _, e := range res.Events {
		switch e.Type() {
		case "m.room.create":
			create = e.Event
		case "m.room.power_levels":
			levels = e.Event
		case typeMember:
			p.membership = e.Membership()
		}
	}
	if create == nil {
		return nil, matrixerror.NotFound("The room has not begun")
	}
	if p.levels, err = gomatrixserverlib.NewPowerLevels(res.RoomVersion, create, levels); err != nil {
		return nil, err
	}
	return p, nil
}

// maySend tells whether the user is in the room and may send the state event.
func (p *powers) maySend(stateType string) bool {
	return p.membership == "join" && p.levels.UserLevel(p.userID) >= p.levels.EventLevel(stateType, true)
}
