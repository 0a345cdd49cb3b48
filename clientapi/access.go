package clientapi

import (
	"context"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// maxMemberSteps bounds how many member events of a user are looked at to find
// when they left: who was banned after leaving, or invited and rejected again
// and again, has several behind the last join.
const maxMemberSteps = 20

// view says which state of a room a user may read.
type view struct {
	// current is set when it is the current one; else it is the state right
	// after atSeq.
	current bool
	atSeq   int64
	joined  bool
}

// of makes a query of the current state one of the state seen through the view.
func (v view) of(req *api.StateRequest) *api.StateRequest {
	seen := *req
	if !v.current {
		seen.AtSeq = v.atSeq
	}
	return &seen
}

// viewOf decides what state of a room a user may read: members the current
// one, those who left or were banned the one in which they left, others the
// current one of rooms that are world-readable. Everything else is 403, rooms
// that do not exist included.
// spec: client-server-api §get_matrixclientv3roomsroomidstate
func (s *Server) viewOf(ctx context.Context, roomID, userID string) (view, error) {
	member, err := s.member(ctx, roomID, userID)
	if err != nil {
		return view{}, hideUnknown(err)
	}
	if member.Membership == "join" {
		return view{current: true, joined: true}, nil
	}
	if member.Membership != "" {
		forgotten, err := s.forgotten(ctx, userID, member, roomID)
		if err != nil {
			return view{}, err
		}
		if !forgotten {
			seq, err := s.leftAt(ctx, roomID, member)
			if err != nil {
				return view{}, err
			}
			if seq > 0 {
				return view{atSeq: seq}, nil
			}
		}
	}
	readable, err := s.worldReadable(ctx, roomID)
	if err != nil {
		return view{}, hideUnknown(err)
	}
	if !readable {
		return view{}, errNotInRoom()
	}
	return view{current: true}, nil
}

// leftAt finds when a user who is not joined was joined last: the Seq of the
// event that ended it; 0 when there was none.
func (s *Server) leftAt(ctx context.Context, roomID string, member api.Member) (int64, error) {
	id, after := member.EventID, int64(0)
	for range maxMemberSteps {
		res, err := api.QueryEvents.Call(ctx, s.caller, &api.EventsRequest{RoomID: roomID, EventIDs: []string{id}})
		if err != nil {
			return 0, hideUnknown(err)
		}
		if len(res.Events) == 0 {
			return 0, nil
		}
		event := res.Events[0]
		if event.Membership() == "join" {
			return after, nil
		}
		if event.ReplacesState == "" {
			return 0, nil
		}
		id, after = event.ReplacesState, event.Position.Seq
	}
	return 0, nil
}

// worldReadable tells whether anybody may read the room as it is now.
// spec: client-server-api §room-history-visibility
func (s *Server) worldReadable(ctx context.Context, roomID string) (bool, error) {
	content, err := s.currentContent(ctx, roomID, "m.room.history_visibility", "")
	if err != nil || content == nil {
		return false, err
	}
	var visibility struct {
		HistoryVisibility string `json:"history_visibility"`
	}
	if err := json.Unmarshal(content, &visibility); err != nil {
		return false, nil // a malformed event opens nothing
	}
	return visibility.HistoryVisibility == "world_readable", nil
}

// currentContent is the content of an entry of the current state; nil when
// there is none.
func (s *Server) currentContent(ctx context.Context, roomID, typ, stateKey string) (jsontext.Value, error) {
	res, err := api.QueryState.Call(ctx, s.caller, &api.StateRequest{
		RoomID: roomID,
		Keys:   []gomatrixserverlib.StateKey{{Type: typ, StateKey: stateKey}},
	})
	if err != nil || len(res.Events) == 0 {
		return nil, err
	}
	return res.Events[0].Content(), nil
}
