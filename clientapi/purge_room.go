package clientapi

import (
	"context"
	"fmt"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// purgeTries bounds how often members are made to leave, while others come.
const purgeTries = 10

// room purges a room, unless users of this server are in it: with force they are
// made to leave first. Who comes meanwhile keeps the room from being purged.
func (p *purging) room(ctx context.Context) error {
	for try := 1; ; try++ {
		room, err := api.QueryRoom.Call(ctx, p.s.caller, &api.RoomRequest{RoomID: p.job.RoomID})
		if matrixerror.Is(err, "M_NOT_FOUND") {
			return nil // it is gone: this purge may have been interrupted
		}
		if err != nil {
			return err
		}
		if room.LocalJoined && !p.job.Force {
			return matrixerror.Forbidden("Users of this server are in the room")
		}
		if p.job.Force {
			if err := p.everybodyLeaves(ctx, try); err != nil {
				return err
			}
		}
		_, err = p.s.writer.Append(ctx, &api.InputRecord{RoomID: p.job.RoomID, Kind: api.KindPurge, IfEmpty: true})
		if !matrixerror.Is(err, "M_FORBIDDEN") || !p.job.Force || try == purgeTries {
			return err
		}
	}
}

// everybodyLeaves makes the users of this server leave who are in the room, invited
// or knocking. A leave that is refused is passed over: the purge says so then.
func (p *purging) everybodyLeaves(ctx context.Context, try int) error {
	in := []string{"join", "invite", "knock"}
	res, err := api.QueryMemberships.Call(ctx, p.s.caller, &api.MembershipsRequest{RoomID: p.job.RoomID, Membership: in})
	if err != nil {
		return err
	}
	for _, m := range res.Members {
		if gomatrixserverlib.ServerOf(m.UserID) != p.s.serverName {
			continue
		}
		id := hashedID(fmt.Appendf(nil, "purge\x00%s\x00%d\x00%s", p.job.ID, try, m.EventID))
		err := p.s.leaves(ctx, p.job.RoomID, m.UserID, id, "The room is being removed", in)
		if passes(err) {
			return err
		}
		if err := p.keepSometimes(ctx); err != nil {
			return err
		}
	}
	return nil
}
