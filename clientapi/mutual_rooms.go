package clientapi

import (
	"encoding/base64"
	"strings"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
)

// mutualPage is how many rooms an answer has at most.
const mutualPage = 100

type mutualRooms struct {
	Joined    []string `json:"joined"`
	Count     int      `json:"count"`
	NextBatch string   `json:"next_batch,omitzero"`
}

// getMutualRooms serves GET /mutual_rooms: the rooms that both are joined to, in
// the order of their IDs. A token is the last one of a page.
// spec: client-server-api §get_matrixclientv1mutual_rooms
func (s *Server) getMutualRooms(r *httpapi.Request) (any, error) {
	ctx, userID := r.Context(), r.QueryString("user_id")
	if userID == "" {
		return nil, matrixerror.MissingParam("user_id is missing")
	}
	if err := checkUserID(userID); err != nil {
		return nil, err
	}
	if userID == r.Device.UserID {
		return nil, matrixerror.InvalidParam("These are all of your rooms")
	}
	after, err := parseMutualToken(r.QueryString("from"))
	if err != nil {
		return nil, err
	}
	own, err := s.roomsOf(ctx, r.Device.UserID, []string{"join"})
	if err != nil {
		return nil, err
	}
	theirs, err := s.roomsOf(ctx, userID, []string{"join"})
	if err != nil {
		return nil, err
	}
	shared := map[string]bool{}
	for _, room := range theirs {
		shared[room.RoomID] = true
	}
	out := &mutualRooms{Joined: []string{}}
	for _, room := range own { // sorted
		if !shared[room.RoomID] {
			continue
		}
		out.Count++
		switch {
		case room.RoomID <= after:
		case len(out.Joined) == mutualPage:
			out.NextBatch = base64.RawURLEncoding.EncodeToString([]byte(out.Joined[mutualPage-1]))
		default:
			out.Joined = append(out.Joined, room.RoomID)
		}
	}
	return out, nil
}

func parseMutualToken(from string) (after string, err error) {
	if from == "" {
		return "", nil
	}
	room, err := base64.RawURLEncoding.Strict().DecodeString(from)
	if err != nil || !strings.HasPrefix(string(room), "!") {
		return "", matrixerror.InvalidParam("from is not a token of this endpoint")
	}
	return string(room), nil
}
