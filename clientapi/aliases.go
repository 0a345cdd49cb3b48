package clientapi

import (
	"context"
	"strings"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	directory "github.com/matrix-org/dendrite/directoryapi/api"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
)

// aliasResponse answers GET /directory/room/{roomAlias}.
type aliasResponse struct {
	RoomID  string   `json:"room_id"`
	Servers []string `json:"servers"`
}

// getAlias serves GET /directory/room/{roomAlias}.
// spec: client-server-api §get_matrixclientv3directoryroomroomalias
func (s *Server) getAlias(r *httpapi.Request) (any, error) {
	roomID, err := s.resolveAlias(r.Context(), r.PathValue("roomAlias"))
	if err != nil {
		return nil, err
	}
	return &aliasResponse{RoomID: roomID, Servers: []string{s.serverName}}, nil
}

// putAlias serves PUT /directory/room/{roomAlias}: members of a room may give
// it aliases.
// spec: client-server-api §put_matrixclientv3directoryroomroomalias
func (s *Server) putAlias(r *httpapi.Request) (any, error) {
	ctx := r.Context()
	if err := notSuspended(r.Device); err != nil {
		return nil, err
	}
	alias := r.PathValue("roomAlias")
	if err := s.checkOwnAlias(alias); err != nil {
		return nil, err
	}
	var req struct {
		RoomID string `json:"room_id"`
	}
	if err := r.Decode(&req); err != nil {
		return nil, err
	}
	if req.RoomID == "" {
		return nil, matrixerror.MissingParam("room_id is missing")
	}
	if err := checkRoomID(req.RoomID); err != nil {
		return nil, err
	}
	current, err := s.membership(ctx, req.RoomID, r.Device.UserID)
	if err != nil {
		return nil, hideUnknown(err)
	}
	if current != "join" && !r.Device.IsAdmin {
		return nil, matrixerror.Forbidden("Only members of a room may give it an alias")
	}
	existing, err := directory.QueryAlias.Call(ctx, s.caller, &directory.AliasRequest{Alias: alias})
	if err == nil {
		return nil, matrixerror.New(409, "M_UNKNOWN", "Room alias %s already exists: it points to %s", alias, existing.RoomID)
	}
	if !matrixerror.Is(err, "M_NOT_FOUND") {
		return nil, err
	}
	_, err = directory.PutAlias.Call(ctx, s.caller, &directory.PutAliasRequest{
		Alias: alias, RoomID: req.RoomID, Creator: r.Device.UserID,
	})
	if matrixerror.Is(err, "M_ROOM_IN_USE") {
		return nil, matrixerror.New(409, "M_UNKNOWN", "Room alias %s already exists", alias)
	}
	return nil, err
}

// deleteAlias serves DELETE /directory/room/{roomAlias}: who made the alias,
// who may set the room's canonical alias, and administrators may remove it. A
// canonical alias event that names it is brought up to date where the user may.
// spec: client-server-api §delete_matrixclientv3directoryroomroomalias
func (s *Server) deleteAlias(r *httpapi.Request) (any, error) {
	ctx := r.Context()
	alias := r.PathValue("roomAlias")
	if err := s.checkOwnAlias(alias); err != nil {
		return nil, err
	}
	existing, err := directory.QueryAlias.Call(ctx, s.caller, &directory.AliasRequest{Alias: alias})
	if err != nil {
		return nil, err
	}
	powers, err := s.powersIn(ctx, existing.RoomID, r.Device.UserID)
	if err != nil && !matrixerror.Is(err, "M_NOT_FOUND") {
		return nil, err
	}
	mayCanonical := err == nil && powers.maySend(typeCanonicalAlias)
	if existing.Creator != r.Device.UserID && !r.Device.IsAdmin && !mayCanonical {
		return nil, matrixerror.Forbidden("Only who made the alias or a moderator of its room may remove it")
	}
	if _, err := directory.DeleteAlias.Call(ctx, s.caller, &directory.DeleteAliasRequest{Alias: alias}); err != nil {
		return nil, err
	}
	if mayCanonical {
		s.dropCanonicalAlias(ctx, r.Device, existing.RoomID, alias)
	}
	return nil, nil
}

// getRoomAliases serves GET /rooms/{roomId}/aliases.
// spec: client-server-api §get_matrixclientv3roomsroomidaliases
func (s *Server) getRoomAliases(r *httpapi.Request) (any, error) {
	ctx := r.Context()
	roomID, err := pathRoomID(r)
	if err != nil {
		return nil, err
	}
	if !r.Device.IsAdmin {
		view, err := s.viewOf(ctx, roomID, r.Device.UserID)
		if err != nil {
			return nil, err
		}
		if !view.current {
			return nil, errNotInRoom()
		}
	}
	res, err := directory.QueryAliases.Call(ctx, s.caller, &directory.AliasesRequest{RoomID: roomID})
	if err != nil {
		return nil, err
	}
	aliases := res.Aliases
	if aliases == nil {
		aliases = []string{}
	}
	return struct {
		Aliases []string `json:"aliases"`
	}{aliases}, nil
}

// checkOwnAlias checks that an alias is one, and this server's to give.
// spec: appendices §room-aliases
func (s *Server) checkOwnAlias(alias string) error {
	_, server, err := gomatrixserverlib.ParseRoomAlias(alias)
	if err != nil || !cleanText(alias) {
		return matrixerror.InvalidParam("Room alias invalid")
	}
	if server != s.serverName {
		return matrixerror.InvalidParam("Only aliases that end in :%s can be changed here", s.serverName)
	}
	return nil
}

// resolveAlias finds the room of an alias: 404 M_NOT_FOUND when there is none.
func (s *Server) resolveAlias(ctx context.Context, alias string) (string, error) {
	_, server, err := gomatrixserverlib.ParseRoomAlias(alias)
	if err != nil {
		return "", matrixerror.InvalidParam("Room alias invalid")
	}
	if server != s.serverName {
		return "", matrixerror.NotFound("Room alias %s not found: this server asks no others", alias)
	}
	res, err := directory.QueryAlias.Call(ctx, s.caller, &directory.AliasRequest{Alias: alias})
	if err != nil {
		return "", err
	}
	return res.RoomID, nil
}

// resolveRoom reads a path value that is a room ID or an alias.
func (s *Server) resolveRoom(ctx context.Context, idOrAlias string) (string, error) {
	if strings.HasPrefix(idOrAlias, "#") {
		return s.resolveAlias(ctx, idOrAlias)
	}
	return idOrAlias, checkRoomID(idOrAlias)
}
