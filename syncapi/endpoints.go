package syncapi

import (
	"net/http"

	"github.com/matrix-org/dendrite/common/httpapi"
)

// Endpoints are the public endpoints that the sync-api serves.
func (s *Server) Endpoints() []httpapi.Endpoint {
	get := func(path string, access httpapi.Access, h httpapi.Handler) httpapi.Endpoint {
		return httpapi.Endpoint{Method: http.MethodGet, Path: path, Access: access, Handler: h}
	}
	post := func(path string, h httpapi.Handler) httpapi.Endpoint {
		return httpapi.Endpoint{Method: http.MethodPost, Path: path, Access: httpapi.User, Handler: h}
	}
	const v1, v3 = "/_matrix/client/v1", "/_matrix/client/v3"
	list := []httpapi.Endpoint{
		get(v3+"/sync", httpapi.Guest, s.sync),
		get(v3+"/notifications", httpapi.User, s.notifications),
		get(v3+"/keys/changes", httpapi.User, s.keysChanges),
		post("/_matrix/client/v4/sync", s.sliding),
		post("/_matrix/client/unstable/org.matrix.simplified_msc3575/sync", s.slidingDraft),
		get(v3+"/events", httpapi.Guest, s.events),
		get(v3+"/events/{eventId}", httpapi.User, s.anyEvent),
		get(v3+"/initialSync", httpapi.User, s.initialSync),
		get(v3+"/rooms/{roomId}/messages", httpapi.Guest, s.messages),
		get(v3+"/rooms/{roomId}/context/{eventId}", httpapi.Guest, s.context),
		get(v3+"/rooms/{roomId}/event/{eventId}", httpapi.Guest, s.event),
		get(v3+"/rooms/{roomId}/initialSync", httpapi.Guest, s.roomInitialSync),
		get(v1+"/rooms/{roomId}/relations/{eventId}", httpapi.Guest, s.relations),
		get(v1+"/rooms/{roomId}/relations/{eventId}/{relType}", httpapi.Guest, s.relations),
		get(v1+"/rooms/{roomId}/relations/{eventId}/{relType}/{eventType}", httpapi.Guest, s.relations),
		get(v1+"/rooms/{roomId}/threads", httpapi.User, s.threads),
		get("/_matrix/client/unstable/io.element.msc4360/thread_updates", httpapi.User, s.threadsUpdated),
		get(v1+"/rooms/{roomId}/timestamp_to_event", httpapi.User, s.timestampToEvent),
	}
	if !s.noThreads {
		list = append(list, get("/_matrix/client/unstable/io.element.msc4308/thread_subscriptions", httpapi.User, s.threadSubscriptions))
	}
	return list
}
