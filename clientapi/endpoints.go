package clientapi

import "github.com/matrix-org/dendrite/common/httpapi"

// Limits of bodies, in bytes.
const (
	maxEventBody  = 128 << 10 // an event's content, before it is made canonical
	maxCreateBody = 1 << 20
)

// v3 is the prefix of what is served here; the edge serves r0 with it.
const v3 = "/_matrix/client/v3"

// roomEndpoints lists what this part of the package serves.
func (s *Server) roomEndpoints() []httpapi.Endpoint {
	publicRooms := httpapi.User
	if !s.config.PublicRoomsRequireAuth {
		publicRooms = httpapi.Optional
	}
	const room = v3 + "/rooms/{roomId}"
	return []httpapi.Endpoint{
		{Method: "POST", Path: v3 + "/createRoom", Access: httpapi.User, Limit: httpapi.LimitCreateRoom, MaxBody: maxCreateBody, Handler: s.createRoom},
		{Method: "POST", Path: room + "/upgrade", Access: httpapi.User, Limit: httpapi.LimitCreateRoom, Handler: s.upgrade},

		{Method: "POST", Path: v3 + "/join/{roomIdOrAlias}", Access: httpapi.Guest, Limit: httpapi.LimitJoin, Handler: s.joinByIDOrAlias},
		{Method: "POST", Path: room + "/join", Access: httpapi.Guest, Limit: httpapi.LimitJoin, Handler: s.joinByID},
		{Method: "POST", Path: v3 + "/knock/{roomIdOrAlias}", Access: httpapi.User, Limit: httpapi.LimitJoin, Handler: s.knock},
		{Method: "POST", Path: room + "/invite", Access: httpapi.User, Limit: httpapi.LimitInvite, Handler: s.invite},
		{Method: "POST", Path: room + "/leave", Access: httpapi.Guest, Limit: httpapi.LimitRequest, Handler: s.leave},
		{Method: "POST", Path: room + "/kick", Access: httpapi.User, Limit: httpapi.LimitRequest, Handler: s.kick},
		{Method: "POST", Path: room + "/ban", Access: httpapi.User, Limit: httpapi.LimitRequest, Handler: s.ban},
		{Method: "POST", Path: room + "/unban", Access: httpapi.User, Limit: httpapi.LimitRequest, Handler: s.unban},
		{Method: "POST", Path: room + "/forget", Access: httpapi.Guest, Limit: httpapi.LimitRequest, Handler: s.forget},
		{Method: "GET", Path: v3 + "/joined_rooms", Access: httpapi.Guest, Limit: httpapi.LimitRequest, Handler: s.getJoinedRooms},

		{Method: "PUT", Path: room + "/send/{eventType}/{txnId}", Access: httpapi.Guest, Limit: httpapi.LimitMessage, MaxBody: maxEventBody, Handler: s.send},
		{Method: "PUT", Path: room + "/redact/{eventId}/{txnId}", Access: httpapi.User, Limit: httpapi.LimitMessage, MaxBody: maxEventBody, Handler: s.redact},
		{Method: "PUT", Path: room + "/state/{eventType}", Access: httpapi.Guest, Limit: httpapi.LimitMessage, MaxBody: maxEventBody, Handler: s.putState},
		{Method: "PUT", Path: room + "/state/{eventType}/{$}", Access: httpapi.Guest, Limit: httpapi.LimitMessage, MaxBody: maxEventBody, Handler: s.putState},
		{Method: "PUT", Path: room + "/state/{eventType}/{stateKey}", Access: httpapi.Guest, Limit: httpapi.LimitMessage, MaxBody: maxEventBody, Handler: s.putState},

		{Method: "GET", Path: room + "/state", Access: httpapi.Guest, Limit: httpapi.LimitRequest, Handler: s.getState},
		{Method: "GET", Path: room + "/state/{$}", Access: httpapi.Guest, Limit: httpapi.LimitRequest, Handler: s.getState},
		{Method: "GET", Path: room + "/state/{eventType}", Access: httpapi.Guest, Limit: httpapi.LimitRequest, Handler: s.getStateEvent},
		{Method: "GET", Path: room + "/state/{eventType}/{$}", Access: httpapi.Guest, Limit: httpapi.LimitRequest, Handler: s.getStateEvent},
		{Method: "GET", Path: room + "/state/{eventType}/{stateKey}", Access: httpapi.Guest, Limit: httpapi.LimitRequest, Handler: s.getStateEvent},
		{Method: "GET", Path: room + "/members", Access: httpapi.Guest, Limit: httpapi.LimitRequest, Handler: s.getMembers},
		{Method: "GET", Path: room + "/joined_members", Access: httpapi.User, Limit: httpapi.LimitRequest, Handler: s.getJoinedMembers},
		{Method: "GET", Path: room + "/aliases", Access: httpapi.User, Limit: httpapi.LimitRequest, Handler: s.getRoomAliases},

		{Method: "GET", Path: v3 + "/directory/room/{roomAlias}", Access: httpapi.Public, Limit: httpapi.LimitRequest, Handler: s.getAlias},
		{Method: "PUT", Path: v3 + "/directory/room/{roomAlias}", Access: httpapi.User, Limit: httpapi.LimitRequest, Handler: s.putAlias},
		{Method: "DELETE", Path: v3 + "/directory/room/{roomAlias}", Access: httpapi.User, Limit: httpapi.LimitRequest, Handler: s.deleteAlias},
		{Method: "GET", Path: v3 + "/directory/list/room/{roomId}", Access: httpapi.Public, Limit: httpapi.LimitRequest, Handler: s.getVisibility},
		{Method: "PUT", Path: v3 + "/directory/list/room/{roomId}", Access: httpapi.User, Limit: httpapi.LimitRequest, Handler: s.putVisibility},
		{Method: "GET", Path: "/_matrix/client/v1/room_summary/{roomIdOrAlias}", Access: httpapi.Optional, Limit: httpapi.LimitRequest, Handler: s.getRoomSummary},
		{Method: "GET", Path: unstable + "/im.nheko.summary/summary/{roomIdOrAlias}", Access: httpapi.Optional, Limit: httpapi.LimitRequest, Handler: s.getDraftRoomSummary},
		{Method: "GET", Path: unstable + "/im.nheko.summary/rooms/{roomIdOrAlias}/summary", Access: httpapi.Optional, Limit: httpapi.LimitRequest, Handler: s.getDraftRoomSummary},
		{Method: "GET", Path: "/_matrix/client/v1/rooms/{roomId}/hierarchy", Access: httpapi.User, Limit: httpapi.LimitRequest, Handler: s.getHierarchy},
		{Method: "GET", Path: "/_matrix/client/v1/mutual_rooms", Access: httpapi.User, Limit: httpapi.LimitRequest, Handler: s.getMutualRooms},
		{Method: "POST", Path: v3 + "/user_directory/search", Access: httpapi.User, Limit: httpapi.LimitRequest, Handler: s.postUserSearch},
		{Method: "GET", Path: v3 + "/publicRooms", Access: publicRooms, Limit: httpapi.LimitRequest, Handler: s.getPublicRooms},
		{Method: "POST", Path: v3 + "/publicRooms", Access: httpapi.User, Limit: httpapi.LimitRequest, Handler: s.postPublicRooms},
	}
}
