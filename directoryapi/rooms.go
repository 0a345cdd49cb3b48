package directoryapi

import (
	"context"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/directoryapi/api"
	"github.com/matrix-org/dendrite/directoryapi/storage"
)

// Bounds of answers.
const (
	defaultPage = 100
	maxPage     = 500
	maxRooms    = 1000
)

func (s *Server) queryPublished(ctx context.Context, req *api.PublishedRequest) (*api.PublishedResponse, error) {
	published, err := s.db.Published(ctx, req.RoomID)
	if err != nil {
		return nil, err
	}
	return &api.PublishedResponse{Published: published}, nil
}

func (s *Server) setPublished(ctx context.Context, req *api.SetPublishedRequest) (*api.SetPublishedResponse, error) {
	if err := s.db.SetPublished(ctx, req.RoomID, req.Published); err != nil {
		return nil, err
	}
	return &api.SetPublishedResponse{}, nil
}

func (s *Server) queryRooms(ctx context.Context, req *api.RoomsRequest) (*api.RoomsResponse, error) {
	if len(req.RoomIDs) > maxRooms {
		return nil, matrixerror.InvalidParam("At most %d rooms can be asked for", maxRooms)
	}
	if err := s.wait(ctx, req.AtLeast); err != nil {
		return nil, err
	}
	rooms, err := s.db.Rooms(ctx, req.RoomIDs)
	if err != nil {
		return nil, err
	}
	return &api.RoomsResponse{Rooms: rooms}, nil
}

func (s *Server) queryUserRooms(ctx context.Context, req *api.UserRoomsRequest) (*api.UserRoomsResponse, error) {
	if err := s.wait(ctx, req.AtLeast); err != nil {
		return nil, err
	}
	rooms, err := s.db.UserRooms(ctx, req.UserID)
	if err != nil {
		return nil, err
	}
	if req.Membership != nil {
		rooms = slices.DeleteFunc(rooms, func(r api.UserRoom) bool { return !slices.Contains(req.Membership, r.Membership) })
	}
	return &api.UserRoomsResponse{Rooms: rooms}, nil
}

func (s *Server) queryVisibleUsers(ctx context.Context, req *api.VisibleUsersRequest) (*api.VisibleUsersResponse, error) {
	if len(req.UserIDs) > maxRooms {
		return nil, matrixerror.InvalidParam("At most %d users can be asked for", maxRooms)
	}
	if err := s.wait(ctx, req.AtLeast); err != nil {
		return nil, err
	}
	users, err := s.db.VisibleUsers(ctx, req.Viewer, req.UserIDs)
	return &api.VisibleUsersResponse{UserIDs: users}, err
}

func (s *Server) queryAnnotation(ctx context.Context, req *api.AnnotationRequest) (*api.AnnotationResponse, error) {
	if err := s.wait(ctx, req.AtLeast); err != nil {
		return nil, err
	}
	id, err := s.db.AnnotationOf(ctx, storage.Annotation{
		RoomID: req.RoomID, Parent: req.EventID, Sender: req.Sender, Type: req.Type, Key: req.Key,
	})
	if err != nil {
		return nil, err
	}
	return &api.AnnotationResponse{EventID: id}, nil
}

func (s *Server) queryPublicRooms(ctx context.Context, req *api.PublicRoomsRequest) (*api.PublicRoomsResponse, error) {
	q := storage.PublicQuery{Search: strings.ToLower(req.Search), Types: req.Types, Limit: defaultPage}
	if req.Limit > 0 {
		q.Limit = min(req.Limit, maxPage)
	}
	if req.Since != "" {
		place, back, err := parseToken(req.Since)
		if err != nil {
			return nil, err
		}
		if back {
			q.Before = place
		} else {
			q.After = place
		}
	}
	if err := s.wait(ctx, req.AtLeast); err != nil {
		return nil, err
	}
	rooms, more, total, err := s.db.PublicRooms(ctx, q)
	if err != nil {
		return nil, err
	}
	res := &api.PublicRoomsResponse{Rooms: rooms, Total: total}
	if len(rooms) == 0 {
		return res, nil
	}
	first, last := &rooms[0], &rooms[len(rooms)-1]
	if q.Before != nil || more {
		res.Next = token('n', last)
	}
	if q.After != nil || q.Before != nil && more {
		res.Prev = token('p', first)
	}
	return res, nil
}

// token makes a token for the rooms behind ('n') or before ('p') a room: a
// place in the order, so pages stay right while rooms come and go.
func token(direction byte, room *api.Room) string {
	place := strconv.Itoa(room.JoinedCount) + " " + room.RoomID
	return string(direction) + base64.RawURLEncoding.EncodeToString([]byte(place))
}

// parseToken reads what token made; anything else is 400 M_INVALID_PARAM.
func parseToken(s string) (place *storage.Place, back bool, err error) {
	bad := matrixerror.InvalidParam("since is not a token of this directory")
	if len(s) < 2 || len(s) > 1024 || s[0] != 'n' && s[0] != 'p' {
		return nil, false, bad
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s[1:])
	if err != nil {
		return nil, false, bad
	}
	count, roomID, ok := strings.Cut(string(raw), " ")
	joined, err := strconv.ParseInt(count, 10, 32)
	if err != nil || !ok || joined < 0 || !strings.HasPrefix(roomID, "!") || strings.ToValidUTF8(roomID, "") != roomID || strings.IndexByte(roomID, 0) >= 0 {
		return nil, false, bad
	}
	return &storage.Place{Joined: int(joined), RoomID: roomID}, s[0] == 'p', nil
}

func (s *Server) queryAvatars(ctx context.Context, req *api.AvatarsRequest) (*api.AvatarsResponse, error) {
	used, err := s.db.Avatars(ctx, req.URIs)
	if err != nil {
		return nil, err
	}
	return &api.AvatarsResponse{Used: used}, nil
}
