package roomserver

import (
	"context"
	"slices"

	"github.com/go-json-experiment/json"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// maxAllowRooms bounds the rooms of a join rule that are looked at.
const maxAllowRooms = 100

// queryRestrictedJoin reads a room's join rule.
// spec: client-server-api §restricted-rooms
func (s *Server) queryRestrictedJoin(ctx context.Context, req *api.RestrictedJoinRequest) (*api.RestrictedJoinResponse, error) {
	rules, err := s.stateEvents(ctx, &api.StateRequest{RoomID: req.RoomID, Keys: []gomatrixserverlib.StateKey{{Type: "m.room.join_rules"}}})
	if err != nil {
		return nil, err
	}
	out := &api.RestrictedJoinResponse{JoinRule: "invite"}
	if e := rules.StateEvent("m.room.join_rules", ""); e != nil {
		out.JoinRule, out.AllowRooms = readJoinRule(e)
	}
	if out.JoinRule != "restricted" && out.JoinRule != "knock_restricted" {
		return out, nil
	}
	for _, id := range out.AllowRooms {
		found, err := s.queryMemberships(ctx, &api.MembershipsRequest{RoomID: id, UserIDs: []string{req.UserID}})
		if matrixerror.Is(err, "M_NOT_FOUND") {
			continue
		}
		if err != nil {
			return nil, err
		}
		if len(found.Members) == 1 && found.Members[0].Membership == "join" {
			out.Allowed = true
			break
		}
	}
	out.AuthorisedVia, err = s.inviter(ctx, req.RoomID)
	return out, err
}

// stateEvents reads state as the rules of events take it.
func (s *Server) stateEvents(ctx context.Context, req *api.StateRequest) (gomatrixserverlib.StateEvents, error) {
	found, err := s.queryState(ctx, req)
	if err != nil {
		return nil, err
	}
	out := make(gomatrixserverlib.StateEvents, len(found.Events))
	for _, e := range found.Events {
		out[e.Key()] = e.Event
	}
	return out, nil
}

// readJoinRule reads what is understood of a join rule.
func readJoinRule(e *gomatrixserverlib.Event) (rule string, rooms []string) {
	var content struct {
		JoinRule any   `json:"join_rule"`
		Allow    []any `json:"allow"`
	}
	if err := json.Unmarshal(e.Content(), &content); err != nil {
		return "invite", nil
	}
	rule, _ = content.JoinRule.(string)
	for _, v := range content.Allow {
		allow, _ := v.(map[string]any)
		if id, ok := allow["room_id"].(string); ok && allow["type"] == "m.room_membership" && len(rooms) < maxAllowRooms {
			rooms = append(rooms, id)
		}
	}
	return rule, rooms
}

// inviter finds a joined user of ours who may invite; the first in order, so
// that everybody who asks gets the same.
func (s *Server) inviter(ctx context.Context, roomID string) (string, error) {
	events, err := s.stateEvents(ctx, &api.StateRequest{RoomID: roomID, Types: []string{"m.room.create", "m.room.power_levels", "m.room.member"}})
	if err != nil {
		return "", err
	}
	create := events.StateEvent("m.room.create", "")
	if create == nil {
		return "", nil
	}
	levels, err := gomatrixserverlib.NewPowerLevels(create.Version(), create, events.StateEvent("m.room.power_levels", ""))
	if err != nil {
		return "", nil // nobody's power can be told
	}
	var able []string
	for key, e := range events {
		if key.Type == "m.room.member" && e.Membership() == "join" && gomatrixserverlib.ServerOf(key.StateKey) == s.serverName &&
			levels.UserLevel(key.StateKey) >= levels.Invite() {
			able = append(able, key.StateKey)
		}
	}
	if len(able) == 0 {
		return "", nil
	}
	return slices.Min(able), nil
}
