package syncapi

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
)

const (
	defaultNotifications = 20
	maxNotifications     = 100
	// maxLooked bounds the events that are looked at for one page of notifications.
	maxLooked = 2000
)

// notifications answers GET /notifications. Nothing is kept of them: they are the
// events of the user's rooms, from the newest on, as the rules judge them that the
// user had when each was sent. See past.go.
// spec: client-server-api §get_matrixclientv3notifications
func (s *Server) notifications(r *httpapi.Request) (any, error) {
	q, ctx := r.Query(), r.Context()
	limit, err := boundedLimit(q, defaultNotifications, maxNotifications)
	if err != nil {
		return nil, err
	}
	only := q.Get("only")
	if only != "" && only != "highlight" {
		return nil, matrixerror.InvalidParam("only is not highlight")
	}
	from, err := s.parsePast(q.Get("from"))
	if err != nil {
		return nil, err
	}
	s.active(r, false, "")
	if err := s.catchUp(ctx, nil); err != nil {
		return nil, err
	}
	u, err := s.view.user(ctx, r.Device.UserID)
	if err != nil {
		return nil, err
	}
	defer s.view.release(u)
	body, err := s.limited(ctx, func(ctx context.Context) ([]byte, error) {
		p, err := s.newPast(ctx, u, from)
		if err != nil {
			return nil, err
		}
		list, err := p.read(ctx, limit, only == "highlight")
		if err != nil {
			return nil, err
		}
		return s.appendNotifications(ctx, p, r.Device.DeviceID, list)
	})
	return jsontext.Value(body), err
}

// parsePast reads a next_token: up to where the page before has not come.
func (s *Server) parsePast(token string) (*vector, error) {
	if token == "" {
		return nil, nil
	}
	v, err := parseVector(strings.TrimPrefix(token, "n"), s.view.shape)
	if err != nil || !strings.HasPrefix(token, "n") || len(v.rooms) != len(s.view.shape.rooms) {
		return nil, errToken()
	}
	return v, nil
}

// notification is an event that notified the user.
type notification struct {
	ev      *event
	stream  *pastStream
	actions []jsontext.Value
	read    bool
}

// appendNotifications makes the body of /notifications.
func (s *Server) appendNotifications(ctx context.Context, p *past, deviceID string, list []notification) ([]byte, error) {
	shown, err := s.shownPast(ctx, p, deviceID, list)
	if err != nil {
		return nil, err
	}
	body := []byte(`{"notifications":[`)
	for _, n := range list {
		body = append(appendKey(append(comma(body), '{'), "actions"), '[')
		for _, action := range n.actions {
			body = append(comma(body), action...)
		}
		body = shown[n.stream.room].appendEvent(appendKey(append(body, ']'), "event"), n.ev)
		body = strconv.AppendBool(appendKey(body, "read"), n.read)
		body = appendString(appendKey(body, "room_id"), n.stream.room.id)
		body = strconv.AppendInt(appendKey(body, "ts"), n.ev.OriginServerTS(), 10)
		body = append(body, '}')
	}
	body = append(body, ']')
	if rest := p.rest(); rest != nil {
		body = appendString(appendKey(body, "next_token"), "n"+rest.String())
	}
	return append(body, '}'), nil
}

// shownPast prepares how events of each room are shown.
func (s *Server) shownPast(ctx context.Context, p *past, deviceID string, list []notification) (map[*room]*shown, error) {
	events := map[*room][]*event{}
	for _, n := range list {
		events[n.stream.room] = append(events[n.stream.room], n.ev)
	}
	out := map[*room]*shown{}
	for _, n := range list {
		r := n.stream.room
		if out[r] != nil {
			continue
		}
		v := &viewer{userID: p.u.id, deviceID: deviceID, roomID: r.id, ignored: p.ignored, changes: n.stream.changes, expired: *n.stream.expired, now: s.now().UnixMilli()}
		sh, err := s.shownTo(ctx, v, slices.Clone(events[r]))
		if err != nil {
			return nil, err
		}
		sh.withRoomID = false
		out[r] = sh
	}
	return out, nil
}
