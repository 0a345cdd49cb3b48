package deploy

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/matrix-org/dendrite/clientapi"
	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/mediaapi"
	"github.com/matrix-org/dendrite/pushapi"
	"github.com/matrix-org/dendrite/searchapi"
	"github.com/matrix-org/dendrite/syncapi"
)

// naming answers with the role's name and what arrived.
func naming(role string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s %s", role, r.Method, r.RequestURI)
	})
}

// served lists every endpoint of every role, by its role.
func served() map[string][]httpapi.Endpoint {
	return map[string][]httpapi.Endpoint{
		"client-api":    new(clientapi.Server).Endpoints(),
		"sync-api":      new(syncapi.Server).Endpoints(),
		"media-api":     new(mediaapi.Server).Endpoints(),
		"push-server":   new(pushapi.Server).Endpoints(),
		"search-server": new(searchapi.Server).Endpoints(),
	}
}

// urls returns paths that an endpoint serves, with values that are hard on a
// proxy.
func urls(path string) []string {
	paths := []string{path}
	if bare, ok := strings.CutSuffix(path, "/{$}"); ok && bare != "" {
		paths = []string{bare, bare + "/"}
	}
	for _, p := range paths {
		if old := strings.Replace(p, "/v3/", "/r0/", 1); old != p {
			paths = append(paths, old)
		}
	}
	var all []string
	for _, p := range paths {
		p = strings.ReplaceAll(p, "{$}", "")
		for _, value := range []string{"x", "sync", "%21a%2Fb:example.org", "a%2F%2Fmessages%3F", "$%C3%A9%20"} {
			filled, rest := "", p
			for {
				before, after, found := strings.Cut(rest, "{")
				filled += before
				if !found {
					break
				}
				filled += value
				_, rest, _ = strings.Cut(after, "}")
			}
			all = append(all, filled, filled+"?access_token=a/messages&from=%2F")
		}
	}
	return all
}

func TestEveryEndpointReachesItsRole(t *testing.T) {
	n := proxyTo(t, naming)
	count := 0
	for role, endpoints := range served() {
		if len(endpoints) == 0 {
			t.Errorf("%s has no endpoints", role)
		}
		for _, e := range endpoints {
			for _, url := range urls(e.Path) {
				count++
				if _, got := n.call(t, e.Method, url, nil); got != fmt.Sprintf("%s %s %s", role, e.Method, url) {
					t.Errorf("%s %s of %s: reached %q", e.Method, url, role, got)
				}
			}
		}
	}
	t.Logf("%d requests", count)
}

func TestSpacesOfRoles(t *testing.T) {
	n := proxyTo(t, naming)
	for path, role := range map[string]string{
		"/":                                  "client-api",
		"/health":                            "client-api",
		"/_matrix/client/v3/nothing":         "client-api",
		"/_matrix/client/v3/syncs":           "client-api",
		"/_matrix/client/v3/rooms/x/message": "client-api",
		"/_matrix/client/v3/rooms/x/event":   "client-api",
		"/_matrix/client/v3/rooms/x/send/sync/events":                                 "client-api",
		"/_matrix/client/v3/profile/%2Frooms%2Fx%2Fmessages":                          "client-api",
		"/_matrix/client/v3/pushers?x":                                                "push-server",
		"/_matrix/client/v3/pushrules/":                                               "client-api",
		"/_matrix/client/v1/mediation":                                                "client-api",
		"/_matrix/federationx":                                                        "client-api",
		"/_synapse/admin/v1/register":                                                 "client-api",
		"/.well-known/matrix/client":                                                  "client-api",
		"/_matrix/client/v3//sync":                                                    "client-api",
		"/_matrix/media/v3/upload?filename=x":                                         "media-api",
		"/_matrix/media/r0/download/example.org/a%2Fb":                                "media-api",
		"/_matrix/client/v1/media/config":                                             "media-api",
		"/_matrix/federation/v1/version":                                              "federation-api",
		"/_matrix/federation/v1/event/%24a%2Fb":                                       "federation-api",
		"/_matrix/key/v2/server":                                                      "federation-api",
		"/_matrix/client/v1/rooms/x/relations/y/m.thread/m.room.a?b":                  "sync-api",
		"/_matrix/client/v3/keys/changes?from=a&to=b":                                 "sync-api",
		"/_matrix/client/v3/notifications?limit=1":                                    "sync-api",
		"/_matrix/client/unstable/io.element.msc4306/rooms/!r/thread/$e/subscription": "client-api",
		"/_matrix/client/v3/keys/query":                                               "client-api",
		"/_matrix/client/v4/syncs":                                                    "client-api",
		"/_matrix/client/unstable/orgxmatrix.simplified_msc3575/sync":                 "client-api",
		"/_matrix/client/v3/search?next_batch=x":                                      "search-server",
		"/_matrix/client/v3/user_directory/search":                                    "client-api",
	} {
		if _, got := n.call(t, http.MethodGet, path, nil); got != fmt.Sprintf("%s GET %s", role, path) {
			t.Errorf("%s should reach %s, got %q", path, role, got)
		}
	}
}
