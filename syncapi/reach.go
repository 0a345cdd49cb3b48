package syncapi

import (
	"context"
	"maps"
	"math"
	"slices"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/syncapi/api"
	"github.com/matrix-org/dendrite/syncapi/storage"
)

// queryReach tells which events of rooms a user may see.
func (s *Server) queryReach(ctx context.Context, r *api.ReachRequest) (*api.ReachResponse, error) {
	if err := s.catchUpTo(ctx, &vector{rooms: r.AtLeast}); err != nil {
		return nil, err
	}
	u, err := s.view.user(ctx, r.UserID)
	if err != nil {
		return nil, err
	}
	defer s.view.release(u)
	res := &api.ReachResponse{}
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(u.rooms)) {
		m := u.rooms[id]
		if !m.isForgotten(math.MaxInt64) && slices.ContainsFunc(m.changes, joins) {
			res.Rooms = append(res.Rooms, reachOf(id, m.changes))
		}
	}
	res.Ignored = slices.Sorted(maps.Keys(u.ignored))
	return res, nil
}

func joins(c storage.Membership) bool { return c.Membership == "join" }

// catchUpTo waits, bounded, until the view has what had happened.
func (s *Server) catchUpTo(ctx context.Context, want *vector) error {
	if there, err := s.await(ctx, want); there || err != nil {
		return err
	}
	return matrixerror.Unavailable(retryLater, "The view of rooms lags behind")
}

// reachOf says of all events at once what visible says of one, but of a member's
// own member events. Where the first changes are not known any more, it tells of
// more than there is to see: who shows events asks the room server.
func reachOf(roomID string, changes []storage.Membership) api.Reach {
	out := api.Reach{RoomID: roomID}
	if len(changes) == maxChanges {
		out.Joined = append(out.Joined, api.Span{To: changes[0].Seq})
	}
	for i, c := range changes {
		span := api.Span{After: c.Seq, To: math.MaxInt64}
		if i+1 < len(changes) {
			span.To = changes[i+1].Seq
		}
		switch c.Membership {
		case "join":
			out.SharedTo = span.To
			out.Joined = append(out.Joined, span)
		case "invite":
			out.Invited = append(out.Invited, span)
		}
	}
	return out
}
