package clientapi

import (
	"context"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/pushrules"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// carryOver brings what a user had set for a room to the room that replaced it,
// when they join that: their push rules, their tags, and whom it is a direct
// chat with. The join stands whether this succeeds or not.
// spec: client-server-api §room-upgrades
func (s *Server) carryOver(ctx context.Context, userID, roomID string) {
	if err := s.tryCarryOver(ctx, userID, roomID); err != nil {
		s.logger.WithError(err).WithField("room_id", roomID).Warn("What a user had set for an upgraded room was not carried over")
	}
}

func (s *Server) tryCarryOver(ctx context.Context, userID, roomID string) error {
	create, err := s.currentContent(ctx, roomID, "m.room.create", "")
	if err != nil || create == nil {
		return err
	}
	old := predecessor(create)
	if old == "" {
		return nil
	}
	// Any room can claim to have replaced another one.
	tombstone, err := s.currentContent(ctx, old, typeTombstone, "")
	if err != nil || tombstone == nil || replacement(tombstone) != roomID {
		if matrixerror.Is(err, "M_NOT_FOUND") {
			return nil
		}
		return err
	}
	_, err = userapi.ChangePushRule.Call(ctx, s.caller, &userapi.ChangePushRuleRequest{
		UserID: userID, Change: userapi.RuleCopy, Before: old, Rule: pushrules.Rule{ID: roomID},
	})
	if err != nil {
		return err
	}
	return s.carryOverData(ctx, userID, old, roomID)
}

// carryOverData copies tags, and adds the new room to direct chats.
func (s *Server) carryOverData(ctx context.Context, userID, old, roomID string) error {
	res, err := userapi.QueryAccountData.Call(ctx, s.caller, &userapi.AccountDataRequest{
		UserID: userID, RoomIDs: []string{"", old, roomID}, Types: []string{"m.tag", "m.direct"},
	})
	if err != nil {
		return err
	}
	if tags, ok := res.Data[old]["m.tag"]; ok && res.Data[roomID]["m.tag"] == nil {
		_, err := userapi.PutAccountData.Call(ctx, s.caller, &userapi.PutAccountDataRequest{
			UserID: userID, RoomID: roomID, Type: "m.tag", Content: tags,
		})
		if err != nil {
			return err
		}
	}
	direct, changed := directWith(res.Data[""]["m.direct"], old, roomID)
	if !changed {
		return nil
	}
	_, err = userapi.PutAccountData.Call(ctx, s.caller, &userapi.PutAccountDataRequest{
		UserID: userID, Type: "m.direct", Content: direct,
	})
	return err
}

// predecessor is the room that this one replaced; "" for none.
func predecessor(create jsontext.Value) string {
	var is struct {
		Predecessor struct {
			RoomID string `json:"room_id"`
		} `json:"predecessor"`
	}
	if json.Unmarshal(create, &is) != nil || checkRoomID(is.Predecessor.RoomID) != nil {
		return ""
	}
	return is.Predecessor.RoomID
}

// replacement is the room that a tombstone names.
func replacement(tombstone jsontext.Value) string {
	var is struct {
		Replacement string `json:"replacement_room"`
	}
	if json.Unmarshal(tombstone, &is) != nil {
		return ""
	}
	return is.Replacement
}

// directWith adds the room wherever m.direct lists the old one. What has not
// the form it should have is left alone.
func directWith(direct jsontext.Value, old, roomID string) (jsontext.Value, bool) {
	var users map[string][]string
	if direct == nil || json.Unmarshal(direct, &users) != nil {
		return nil, false
	}
	changed := false
	for user, rooms := range users {
		if slices.Contains(rooms, old) && !slices.Contains(rooms, roomID) {
			users[user] = append(rooms, roomID)
			changed = true
		}
	}
	if !changed {
		return nil, false
	}
	raw, err := json.Marshal(users, json.Deterministic(true))
	return raw, err == nil
}
