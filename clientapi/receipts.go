package clientapi

import (
	"context"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// Kinds of receipts.
const (
	receiptRead    = "m.read"
	receiptPrivate = "m.read.private"
	fullyRead      = "m.fully_read"
)

// defaultTyping is how long somebody types who does not say, in milliseconds.
const defaultTyping = 30_000

// joinedPath reads the room of the path, of which who calls has to be a member.
func (s *Server) joinedPath(r *httpapi.Request) (string, error) {
	roomID, err := pathRoomID(r)
	if err != nil {
		return "", err
	}
	membership, err := s.membership(r.Context(), roomID, r.Device.UserID)
	if err != nil {
		return "", hideUnknown(err)
	}
	if membership != "join" {
		return "", errNotInRoom()
	}
	return roomID, nil
}

// putTyping serves PUT /rooms/{roomId}/typing/{userId}.
func (s *Server) putTyping(r *httpapi.Request) (any, error) {
	if err := ownPath(r); err != nil {
		return nil, err
	}
	var req struct {
		Typing  *bool  `json:"typing"`
		Timeout *int64 `json:"timeout"`
	}
	if err := r.Decode(&req); err != nil {
		return nil, err
	}
	if req.Typing == nil {
		return nil, matrixerror.MissingParam("typing is missing")
	}
	roomID, err := s.joinedPath(r)
	if err != nil {
		return nil, err
	}
	timeout := int64(defaultTyping)
	if req.Timeout != nil {
		timeout = *req.Timeout
	}
	_, err = userapi.SetTyping.Call(r.Context(), s.caller, &userapi.SetTypingRequest{UserID: r.Device.UserID, RoomID: roomID, Typing: *req.Typing, TimeoutMS: timeout})
	return nil, err
}

func checkEventID(id string) error {
	if len(id) < 2 || id[0] != '$' || len(id) > 255 || !cleanText(id) {
		return matrixerror.InvalidParam("That is not an event ID")
	}
	return nil
}

// postReceipt serves POST /rooms/{roomId}/receipt/{receiptType}/{eventId}.
// spec: client-server-api §post_matrixclientv3roomsroomidreceiptreceipttypeeventid
func (s *Server) postReceipt(r *httpapi.Request) (any, error) {
	var req struct {
		ThreadID jsontext.Value `json:"thread_id"`
	}
	if err := r.DecodeOptional(&req); err != nil {
		return nil, err
	}
	typ, eventID := r.PathValue("receiptType"), r.PathValue("eventId")
	if err := checkEventID(eventID); err != nil {
		return nil, err
	}
	thread, err := receiptThread(typ, req.ThreadID)
	if err != nil {
		return nil, err
	}
	roomID, err := s.joinedPath(r)
	if err != nil {
		return nil, err
	}
	if thread != "" {
		if err := s.checkInThread(r.Context(), r.Device, roomID, eventID, thread); err != nil {
			return nil, err
		}
	}
	put := &userapi.PutReceiptsRequest{UserID: r.Device.UserID, RoomID: roomID}
	switch typ {
	case receiptRead, receiptPrivate:
		put.Receipts = []userapi.Receipt{{EventID: eventID, Type: typ, ThreadID: thread, TS: time.Now().UnixMilli()}}
	case fullyRead:
		put.FullyRead = eventID
	default:
		return nil, matrixerror.InvalidParam("There is no such kind of receipt")
	}
	_, err = userapi.PutReceipts.Call(r.Context(), s.caller, put)
	return nil, err
}

// receiptThread reads the thread of a receipt; "" for none.
func receiptThread(typ string, given jsontext.Value) (string, error) {
	if len(given) == 0 || given.Kind() == 'n' {
		return "", nil
	}
	thread, err := "", error(nil)
	if given.Kind() == '"' {
		err = json.Unmarshal(given, &thread)
	}
	if err != nil || typ == fullyRead || thread != mainThread && checkEventID(thread) != nil {
		return "", matrixerror.InvalidParam("thread_id is not that of a thread, or not for this kind of receipt")
	}
	return thread, nil
}

// postReadMarkers serves POST /rooms/{roomId}/read_markers.
func (s *Server) postReadMarkers(r *httpapi.Request) (any, error) {
	var req struct {
		FullyRead string `json:"m.fully_read"`
		Read      string `json:"m.read"`
		Private   string `json:"m.read.private"`
	}
	if err := r.DecodeOptional(&req); err != nil {
		return nil, err
	}
	roomID, err := s.joinedPath(r)
	if err != nil {
		return nil, err
	}
	put := &userapi.PutReceiptsRequest{UserID: r.Device.UserID, RoomID: roomID, FullyRead: req.FullyRead}
	for _, one := range []userapi.Receipt{{EventID: req.Read, Type: receiptRead}, {EventID: req.Private, Type: receiptPrivate}} {
		if one.EventID != "" {
			one.TS = time.Now().UnixMilli()
			put.Receipts = append(put.Receipts, one)
		}
	}
	for _, id := range []string{req.FullyRead, req.Read, req.Private} {
		if id == "" {
			continue
		}
		if err := checkEventID(id); err != nil {
			return nil, err
		}
	}
	_, err = userapi.PutReceipts.Call(r.Context(), s.caller, put)
	return nil, err
}

// getPresence serves GET /presence/{userId}/status, for who shares a room.
func (s *Server) getPresence(r *httpapi.Request) (any, error) {
	ctx, userID := r.Context(), r.PathValue("userId")
	if _, err := s.profileOf(ctx, userID); err != nil {
		return nil, err
	}
	if userID != r.Device.UserID {
		shared, err := s.shareRoom(ctx, userID, r.Device.UserID)
		if err != nil {
			return nil, err
		}
		if !shared {
			return nil, matrixerror.Forbidden("You share no room with that user")
		}
	}
	res, err := userapi.QueryPresence.Call(ctx, s.caller, &userapi.PresenceRequest{UserIDs: []string{userID}})
	if err != nil {
		return nil, err
	}
	if len(res.Presence) == 0 {
		return map[string]string{"presence": "offline"}, nil
	}
	p := res.Presence[0]
	out := map[string]any{"presence": p.Presence, "currently_active": p.CurrentlyActive}
	if p.StatusMsg != "" {
		out["status_msg"] = p.StatusMsg
	}
	if p.LastActiveTS > 0 {
		out["last_active_ago"] = max(time.Now().UnixMilli()-p.LastActiveTS, 0)
	}
	return out, nil
}

// shareRoom tells whether two users of this server are joined to one room.
func (s *Server) shareRoom(ctx context.Context, one, other string) (bool, error) {
	mine, err := s.roomsOf(ctx, one, []string{"join"})
	if err != nil {
		return false, err
	}
	theirs, err := s.roomsOf(ctx, other, []string{"join"})
	if err != nil {
		return false, err
	}
	in := make(map[string]struct{}, len(mine))
	for _, room := range mine {
		in[room.RoomID] = struct{}{}
	}
	for _, room := range theirs {
		if _, ok := in[room.RoomID]; ok {
			return true, nil
		}
	}
	return false, nil
}

// putPresence serves PUT /presence/{userId}/status.
func (s *Server) putPresence(r *httpapi.Request) (any, error) {
	if err := ownPath(r); err != nil {
		return nil, err
	}
	var req struct {
		Presence  string         `json:"presence"`
		StatusMsg jsontext.Value `json:"status_msg"`
	}
	if err := r.Decode(&req); err != nil {
		return nil, err
	}
	if req.Presence == "" {
		return nil, matrixerror.MissingParam("presence is missing")
	}
	set := &userapi.SetPresenceRequest{UserID: r.Device.UserID, Presence: req.Presence}
	switch req.StatusMsg.Kind() {
	case '"':
		text, err := jsontext.AppendUnquote(nil, req.StatusMsg)
		if err != nil {
			return nil, matrixerror.BadJSON("status_msg is not a string")
		}
		set.StatusMsg = string(text)
	case 'n', jsontext.KindInvalid:
	default:
		return nil, matrixerror.BadJSON("status_msg is not a string")
	}
	_, err := userapi.SetPresence.Call(r.Context(), s.caller, set)
	return nil, err
}
