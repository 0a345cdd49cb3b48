package clientapi

import (
	"math"
	"unicode/utf8"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	directory "github.com/matrix-org/dendrite/directoryapi/api"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// Bounds of requests for the published directory.
const (
	maxSearchTerm = 200 // bytes
	maxRoomTypes  = 50
)

// publicRoom is a room in the published directory.
// spec: client-server-api §get_matrixclientv3publicrooms
type publicRoom struct {
	RoomID         string `json:"room_id"`
	JoinedCount    int    `json:"num_joined_members"`
	WorldReadable  bool   `json:"world_readable"`
	GuestCanJoin   bool   `json:"guest_can_join"`
	Name           string `json:"name,omitzero"`
	Topic          string `json:"topic,omitzero"`
	CanonicalAlias string `json:"canonical_alias,omitzero"`
	AvatarURL      string `json:"avatar_url,omitzero"`
	JoinRule       string `json:"join_rule,omitzero"`
	RoomType       string `json:"room_type,omitzero"`
}

type publicRoomsResponse struct {
	Chunk     []publicRoom `json:"chunk"`
	NextBatch string       `json:"next_batch,omitzero"`
	PrevBatch string       `json:"prev_batch,omitzero"`
	Estimate  int          `json:"total_room_count_estimate"`
}

// publicRoomsRequest is the body of POST /publicRooms.
type publicRoomsRequest struct {
	Limit  *int   `json:"limit"`
	Since  string `json:"since"`
	Filter struct {
		SearchTerm string    `json:"generic_search_term"`
		RoomTypes  []*string `json:"room_types"`
	} `json:"filter"`
	AllNetworks bool   `json:"include_all_networks"`
	Network     string `json:"third_party_instance_id"`
}

// getPublicRooms serves GET /publicRooms.
// spec: client-server-api §get_matrixclientv3publicrooms
func (s *Server) getPublicRooms(r *httpapi.Request) (any, error) {
	req := publicRoomsRequest{Since: r.QueryString("since")}
	if r.QueryString("limit") != "" {
		limit, err := r.QueryInt("limit", 0)
		if err != nil {
			return nil, err
		}
		n := int(min(limit, math.MaxInt32))
		req.Limit = &n
	}
	return s.publicRooms(r, &req)
}

// postPublicRooms serves POST /publicRooms.
// spec: client-server-api §post_matrixclientv3publicrooms
func (s *Server) postPublicRooms(r *httpapi.Request) (any, error) {
	var req publicRoomsRequest
	if err := r.DecodeOptional(&req); err != nil {
		return nil, err
	}
	return s.publicRooms(r, &req)
}

func (s *Server) publicRooms(r *httpapi.Request, req *publicRoomsRequest) (any, error) {
	if s.config.PublicRoomsRequireAuth && r.Device == nil {
		return nil, matrixerror.New(401, "M_MISSING_TOKEN", "The room directory is for users of this server")
	}
	if server := r.QueryString("server"); server != "" && server != s.serverName {
		return nil, matrixerror.NotFound("This server does not ask others for their directories")
	}
	ask := &directory.PublicRoomsRequest{Since: req.Since, Search: req.Filter.SearchTerm}
	switch {
	case req.Limit == nil:
	case *req.Limit < 0:
		return nil, matrixerror.InvalidParam("limit is negative")
	case *req.Limit == 0:
		return &publicRoomsResponse{Chunk: []publicRoom{}}, nil
	default:
		ask.Limit = *req.Limit
	}
	if len(ask.Search) > maxSearchTerm || !utf8.ValidString(ask.Search) {
		return nil, matrixerror.InvalidParam("The search term is longer than %d bytes", maxSearchTerm)
	}
	if len(req.Filter.RoomTypes) > maxRoomTypes {
		return nil, matrixerror.InvalidParam("At most %d room types can be asked for", maxRoomTypes)
	}
	if req.Network != "" {
		if req.AllNetworks {
			return nil, matrixerror.InvalidParam("third_party_instance_id excludes include_all_networks")
		}
		// No application service has registered a network, so none has rooms.
		return &publicRoomsResponse{Chunk: []publicRoom{}}, nil
	}
	for _, t := range req.Filter.RoomTypes {
		if t == nil {
			ask.Types = append(ask.Types, "")
		} else {
			ask.Types = append(ask.Types, *t)
		}
	}
	// What the client was told has happened, it sees: the directory's view is waited for.
	heads, err := api.Heads(r.Context(), s.caller, false)
	if err != nil {
		return nil, err
	}
	ask.AtLeast = heads
	res, err := directory.QueryPublicRooms.Call(r.Context(), s.caller, ask)
	if err != nil {
		return nil, err
	}
	out := &publicRoomsResponse{Chunk: make([]publicRoom, 0, len(res.Rooms)), NextBatch: res.Next, PrevBatch: res.Prev, Estimate: res.Total}
	for i := range res.Rooms {
		out.Chunk = append(out.Chunk, asPublic(&res.Rooms[i]))
	}
	return out, nil
}

func asPublic(room *directory.Room) publicRoom {
	return publicRoom{
		RoomID: room.RoomID, JoinedCount: room.JoinedCount,
		WorldReadable: room.WorldReadable, GuestCanJoin: room.GuestCanJoin,
		Name: room.Name, Topic: room.Topic, CanonicalAlias: room.CanonicalAlias,
		AvatarURL: room.AvatarURL, JoinRule: room.JoinRule, RoomType: room.Type,
	}
}

// visibility is the body of and the answer to /directory/list/room.
type visibility struct {
	Visibility string `json:"visibility"`
}

// getVisibility serves GET /directory/list/room/{roomId}.
// spec: client-server-api §get_matrixclientv3directorylistroomroomid
func (s *Server) getVisibility(r *httpapi.Request) (any, error) {
	ctx := r.Context()
	roomID, err := pathRoomID(r)
	if err != nil {
		return nil, err
	}
	if _, err := api.QueryRoom.Call(ctx, s.caller, &api.RoomRequest{RoomID: roomID}); err != nil {
		return nil, unknownRoom(err)
	}
	res, err := directory.QueryPublished.Call(ctx, s.caller, &directory.PublishedRequest{RoomID: roomID})
	if err != nil {
		return nil, err
	}
	if res.Published {
		return &visibility{"public"}, nil
	}
	return &visibility{"private"}, nil
}

// putVisibility serves PUT /directory/list/room/{roomId}: whoever may set the
// room's canonical alias may publish it, unless administrators alone may.
// spec: client-server-api §put_matrixclientv3directorylistroomroomid
func (s *Server) putVisibility(r *httpapi.Request) (any, error) {
	ctx := r.Context()
	if err := notSuspended(r.Device); err != nil {
		return nil, err
	}
	roomID, err := pathRoomID(r)
	if err != nil {
		return nil, err
	}
	var req visibility
	if err := r.DecodeOptional(&req); err != nil {
		return nil, err
	}
	switch req.Visibility {
	case "":
		req.Visibility = "public"
	case "public", "private":
	default:
		return nil, matrixerror.InvalidParam("visibility is public or private")
	}
	powers, err := s.powersIn(ctx, roomID, r.Device.UserID)
	if err != nil {
		return nil, unknownRoom(err)
	}
	public := req.Visibility == "public"
	if !r.Device.IsAdmin {
		if public && s.config.DirectoryRequiresAdmin {
			return nil, matrixerror.Forbidden("Only administrators may publish rooms on this server")
		}
		if !powers.maySend(typeCanonicalAlias) {
			return nil, matrixerror.Forbidden("You need the power to set the room's canonical alias")
		}
	}
	_, err = directory.SetPublished.Call(ctx, s.caller, &directory.SetPublishedRequest{RoomID: roomID, Published: public})
	return nil, err
}
