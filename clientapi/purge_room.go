package clientapi

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"

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
	res, err := api.QueryMemberships.Call(ctx, p.s.caller, &api.MembershipsRequest{RoomID: p.job.RoomID, Membership: []string{"join", "invite", "knock"}})
	if err != nil {
		return err
	}
	in := []string{"join", "invite", "knock"}
	for _, m := range res.Members {
		if gomatrixserverlib.ServerOf(m.UserID) != p.s.serverName || !slices.Contains(in, m.Membership) {
			continue
		}
		event, err := memberEvent(m.UserID, m.UserID, memberContent{Membership: "leave", Reason: "The room is being removed"})
		if err != nil {
			return err
		}
		event.Expect = []api.Expectation{{UserID: m.UserID, Membership: in, Status: 403, Code: "M_FORBIDDEN", Message: "The user has left"}}
		sum := sha256.Sum256(fmt.Appendf(nil, "purge\x00%s\x00%d\x00%s", p.job.ID, try, m.EventID))
		_, err = p.s.writer.Append(ctx, &api.InputRecord{RoomID: p.job.RoomID, RequestID: base64.RawURLEncoding.EncodeToString(sum[:])[:32],
			Events: []api.InputEvent{event}})
		if known := matrixerror.From(err); err != nil && (known == nil || known.Status >= 500 || known.Status == 429) {
			return err
		}
		if err := p.keepSometimes(ctx); err != nil {
			return err
		}
	}
	return nil
}
