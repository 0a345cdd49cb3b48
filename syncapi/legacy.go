package syncapi

import (
	"context"
	"math"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/filters"
	"github.com/matrix-org/dendrite/common/httpapi"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// The endpoints of this file are those before /sync. They are answered from
// the same parts, as far as deprecated endpoints have to be.

// roomInitialSync answers GET /rooms/{roomId}/initialSync, the preview of a room.
// spec: client-server-api §get_matrixclientv3roomsroomidinitialsync
func (s *Server) roomInitialSync(r *httpapi.Request) (any, error) {
	roomID, err := s.pathID(r, "roomId")
	if err != nil {
		return nil, err
	}
	limit, err := pageLimit(r.Query())
	if err != nil {
		return nil, err
	}
	v, err := s.viewer(r, roomID)
	if err != nil {
		return nil, err
	}
	body, err := s.appendRoomInfo(r.Context(), nil, v, limit)
	return jsontext.Value(body), err
}

// appendRoomInfo appends a room with its last events and its state then.
func (s *Server) appendRoomInfo(ctx context.Context, body []byte, v *viewer, limit int) ([]byte, error) {
	p, err := s.page(ctx, v, &filters.None().Room.Timeline, history{backwards: true, limit: limit})
	if err != nil {
		return nil, err
	}
	req := &roomapi.StateRequest{RoomID: v.roomID}
	membership := memberAt(v.changes, 1<<62)
	if membership == "leave" || membership == "ban" {
		req.AtSeq = v.changes[len(v.changes)-1].Seq
	}
	state, err := roomapi.QueryState.Call(ctx, s.caller, req)
	if err != nil {
		return nil, err
	}
	account, err := userapi.QueryAccountData.Call(ctx, s.caller, &userapi.AccountDataRequest{UserID: v.userID, RoomIDs: []string{v.roomID}})
	if err != nil {
		return nil, err
	}
	sh, err := s.shownTo(ctx, v, p.events)
	if err != nil {
		return nil, err
	}
	body = appendString(append(comma(body), `{"room_id":`...), v.roomID)
	if membership != "" {
		body = appendString(append(body, `,"membership":`...), membership)
	}
	body = append(body, `,"messages":{"chunk":[`...)
	for i := len(p.events) - 1; i >= 0; i-- { // oldest first
		body = sh.appendEvent(comma(body), p.events[i])
	}
	body = appendString(append(body, `],"start":`...), timelineToken(p.next))
	body = appendString(append(body, `,"end":`...), timelineToken(p.from))
	sh.extra = nil
	body = sh.appendEvents(append(body, `},"state":`...), fromAllStored(state.Events))
	body = append(body, `,"account_data":[`...)
	for _, c := range changesFrom(account.Data[v.roomID]) {
		body = appendPlain(comma(body), c.typ, c.content)
	}
	return append(body, `]}`...), nil
}

// maxInitialRooms bounds the rooms in an answer of the old initialSync.
const maxInitialRooms = 1000

// initialSync answers GET /initialSync.
// spec: client-server-api §get_matrixclientv3initialsync
func (s *Server) initialSync(r *httpapi.Request) (any, error) {
	ctx := r.Context()
	limit, err := pageLimit(r.Query())
	if err != nil {
		return nil, err
	}
	if err := s.catchUp(ctx, nil); err != nil {
		return nil, err
	}
	at := s.view.applied.Load()
	u, err := s.view.user(ctx, r.Device.UserID)
	if err != nil {
		return nil, err
	}
	defer s.view.release(u)
	a := newAnswer(s, &syncRequest{filter: s.unfiltered}, u, r.Device.DeviceID)
	if err := a.collect(ctx); err != nil {
		return nil, err
	}
	body := appendString([]byte(`{"end":`), at.String())
	body = append(body, `,"presence":[],"account_data":[`...)
	account, err := a.allAccount(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range changesFrom(account[""]) {
		body = appendPlain(comma(body), c.typ, c.content)
	}
	body = append(body, `],"rooms":[`...)
	for _, p := range a.parts[:min(len(a.parts), maxInitialRooms)] {
		switch p.now.Membership {
		case "join":
			v := &viewer{userID: u.id, deviceID: a.deviceID, roomID: p.room.id, ignored: a.ignored, changes: p.changes, member: true, now: a.now.UnixMilli()}
			if v.expired, err = s.expiredBefore(ctx, p.room, p.room.id); err != nil {
				return nil, err
			}
			if body, err = s.appendRoomInfo(ctx, body, v, limit); err != nil {
				return nil, err
			}
		case "invite":
			body = appendString(append(comma(body), `{"membership":"invite","room_id":`...), p.room.id)
			body = append(body, '}')
		}
	}
	return jsontext.Value(append(body, `]}`...)), nil
}

// events answers GET /events: the timeline events since a token, of all the
// user's rooms or of one, which they may only look into.
// spec: client-server-api §get_matrixclientv3events
func (s *Server) events(r *httpapi.Request) (any, error) {
	q := r.Query()
	req, err := s.parseSync(r)
	if err != nil {
		return nil, err
	}
	if token := q.Get("from"); token != "" {
		if req.since, err = parseVector(token, s.view.shape); err != nil {
			return nil, err
		}
	}
	if err := s.catchUp(r.Context(), req.since); err != nil {
		return nil, err
	}
	if req.since == nil {
		req.since = s.view.applied.Load()
	}
	roomID := q.Get("room_id")
	if roomID != "" {
		v, err := s.viewer(r, roomID)
		if err != nil {
			return nil, err
		}
		if memberAt(v.changes, math.MaxInt64) != "join" {
			return s.peek(r, req, v)
		}
	}
	u, err := s.view.user(r.Context(), r.Device.UserID)
	if err != nil {
		return nil, err
	}
	defer s.view.release(u)
	return s.pollEvents(r, req, u, roomID)
}

func (s *Server) pollEvents(r *httpapi.Request, req *syncRequest, u *user, roomID string) (any, error) {
	ctx, cancel := context.WithTimeout(r.Context(), req.timeout)
	defer cancel()
	s.view.audience.enter()
	defer s.view.audience.leave()
	for {
		woken := u.waiting()
		a := newAnswer(s, req, u, r.Device.DeviceID)
		chunk, err := s.limited(r.Context(), func(ctx context.Context) ([]byte, error) { return a.chunk(ctx, roomID) })
		if err != nil {
			return nil, err
		}
		end := a.cut
		done := len(chunk) > 2
		if !done {
			select {
			case <-woken:
				continue
			case <-ctx.Done():
				if err := r.Context().Err(); err != nil {
					return nil, err
				}
			case <-s.stopping:
				end = req.since
			}
		}
		body := appendString([]byte(`{"start":`), req.since.String())
		body = appendString(append(body, `,"end":`...), end.String())
		body = append(append(body, `,"chunk":`...), chunk...)
		return jsontext.Value(append(body, '}')), nil
	}
}

// chunk is the array of new events of the user's joined rooms, or of one.
func (a *answer) chunk(ctx context.Context, roomID string) ([]byte, error) {
	if err := a.collect(ctx); err != nil {
		return nil, err
	}
	out := []byte{'['}
	for _, p := range a.parts {
		if p.now.Membership != "join" || roomID != "" && p.room.id != roomID {
			continue
		}
		t, err := a.timeline(ctx, p)
		if err != nil {
			return nil, err
		}
		sh := a.shown(p)
		sh.withRoomID = true
		for _, ev := range t.events {
			out = sh.appendEvent(comma(out), ev)
		}
	}
	return append(out, ']'), nil
}
