package syncapi

import (
	"context"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/retention"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

// An event that has outlived what its room's state allows is not shown, also as long
// as it has not been purged. By which state of the room is not a matter of where a
// token is: only the latest counts.
// spec: MSC1763 §enforcing-a-retention-policy

// expiredBefore is the time before which a room's events have expired; 0 where none
// do. r may be nil where the room is not in memory.
func (s *Server) expiredBefore(ctx context.Context, r *room, roomID string) (int64, error) {
	if s.retention == nil {
		return 0, nil
	}
	if own, ok := s.retention.Own(roomID); ok {
		return own.ExpiredBefore(s.now()), nil
	}
	keys := policyKeys()
	var state stateMap
	var err error
	if r != nil {
		state, err = s.stateNow(ctx, r, keys...)
	} else {
		var res *roomapi.StateResponse
		if res, err = roomapi.QueryState.Call(ctx, s.caller, &roomapi.StateRequest{RoomID: roomID, Keys: keys}); err == nil {
			state = stateFrom(res.Events)
		}
	}
	if err != nil {
		return 0, err
	}
	var content jsontext.Value
	for _, key := range keys {
		if ev := state[key]; ev != nil {
			content = jsontext.Value(ev.Content())
			break
		}
	}
	return s.retention.Effective(roomID, content).ExpiredBefore(s.now()), nil
}

// policyKeys are the entries of a room's state that say how long its events are kept.
func policyKeys() (keys []gomatrixserverlib.StateKey) {
	for _, typ := range retention.Types() {
		keys = append(keys, gomatrixserverlib.StateKey{Type: typ})
	}
	return keys
}

// askPolicy asks for a room's policy, if it counts and is not known.
func (a *answer) askPolicy(q *questions, r *room) {
	if a.s.retention == nil {
		return
	}
	if _, own := a.s.retention.Own(r.id); own {
		return
	}
	req := &roomapi.StateRequest{RoomID: r.id, Keys: policyKeys()}
	if _, known := r.knownState(now, req); !known {
		q.state(r, req)
	}
}

// expired tells whether an event is not shown any more.
func expired(ev *event, before int64) bool {
	return ev.OriginServerTS() < before && !ev.IsState()
}
