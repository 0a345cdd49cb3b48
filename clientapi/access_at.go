package clientapi

import (
	"context"
	"math"

	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
	syncapi "github.com/matrix-org/dendrite/syncapi/api"
)

// maxLaterChanges is how many of a user's memberships are looked at after a
// point in time.
const maxLaterChanges = 100

// viewAt moves a view back to a token, but not past what the user may see: where
// the state of then is hidden, it is that of the moment from which the user may
// see the room.
// spec: client-server-api §room-history-visibility
func (s *Server) viewAt(ctx context.Context, roomID, userID string, v view, token string) (view, error) {
	res, err := syncapi.QueryPosition.Call(ctx, s.caller, &syncapi.PositionRequest{RoomID: roomID, Token: token})
	if err != nil {
		return view{}, err
	}
	seq := res.Position.Seq
	if res.Position.Sub < 0 {
		seq--
	}
	if !v.current && seq >= v.atSeq {
		return v, nil // as of their leave
	}
	// The state before the first event of a partition is asked for as the
	// state right after it: that room has at most its create event then.
	seq = max(seq, 1)
	past, err := api.QueryState.Call(ctx, s.caller, &api.StateRequest{RoomID: roomID, AtSeq: seq, Keys: []gomatrixserverlib.StateKey{
		{Type: "m.room.history_visibility"}, {Type: typeMember, StateKey: userID}}})
	if err != nil {
		return view{}, hideUnknown(err)
	}
	visibility, membership := gomatrixserverlib.VisibilityShared, ""
	for _, e := range past.Events {
		if e.Type() == typeMember {
			membership = e.Membership()
		} else {
			visibility = gomatrixserverlib.HistoryVisibilityOf(e.Event)
		}
	}
	member := v.joined || !v.current // now or once
	switch {
	case visibility == gomatrixserverlib.VisibilityWorldReadable,
		member && (visibility == gomatrixserverlib.VisibilityShared || membership == "join"),
		member && visibility == gomatrixserverlib.VisibilityInvited && membership == "invite":
		return view{atSeq: seq, joined: v.joined}, nil
	case !member:
		return view{}, errNotInRoom()
	}
	return s.viewFromJoin(ctx, roomID, userID, v, seq)
}

// viewFromJoin is the view of the moment after a Seq at which the user joined
// next, if that is not later than what the view shows.
func (s *Server) viewFromJoin(ctx context.Context, roomID, userID string, v view, seq int64) (view, error) {
	res, err := api.QueryMemberHistory.Call(ctx, s.caller, &api.MemberHistoryRequest{
		RoomID: roomID, Server: s.serverName, ToSeq: math.MaxInt64, AfterUser: userID, AfterSeq: seq, Limit: maxLaterChanges})
	if err != nil {
		return view{}, hideUnknown(err)
	}
	for _, c := range res.Changes {
		if c.UserID == userID && c.Membership == "join" && (v.current || c.Seq <= v.atSeq) {
			return view{atSeq: c.Seq, joined: v.joined}, nil
		}
	}
	return v, nil
}
