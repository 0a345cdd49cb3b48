package clientapi

import (
	"io"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/httpapi"
)

func TestDiscovery(t *testing.T) {
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	full := config.Global{
		WellKnownClientBaseURL: "https://m.example.org/<x>", WellKnownServerName: "m.example.org:443",
		PolicyServerKey: "6yhHGKhCiXTSEN2ksjV7kX/N6rBQZ3Xb+M7LlC6NS+s",
		Support:         config.Support{Email: "help@example.org", Page: "https://example.org/help"},
	}
	for _, c := range []struct {
		name   string
		global config.Global
		path   string
		status int
		want   []string
	}{
		{"versions", config.Global{}, "/_matrix/client/versions", 200, []string{`"v1.19"`, `"v1.1"`, `"r0.6.1"`, `"org.matrix.msc4143":false`, `"org.matrix.msc3814":true`}},
		{"no client", config.Global{}, "/.well-known/matrix/client", 404, []string{"M_NOT_FOUND"}},
		{"no server", config.Global{}, "/.well-known/matrix/server", 404, []string{"M_NOT_FOUND"}},
		{"no support", config.Global{}, "/.well-known/matrix/support", 404, []string{"M_NOT_FOUND"}},
		{"client", full, "/.well-known/matrix/client", 200, []string{`{"m.homeserver":{"base_url":"https://m.example.org/<x>"}}`}},
		{"server", full, "/.well-known/matrix/server", 200, []string{`{"m.server":"m.example.org:443"}`}},
		{"support", full, "/.well-known/matrix/support", 200, []string{`{"contacts":[{"role":"m.role.admin","email_address":"help@example.org"}],"support_page":"https://example.org/help"}`}},
		{"no policy server", config.Global{}, "/.well-known/matrix/policy_server", 404, []string{"M_NOT_FOUND"}},
		{"policy server", full, "/.well-known/matrix/policy_server", 200, []string{`{"public_keys":{"ed25519":"6yhHGKhCiXTSEN2ksjV7kX/N6rBQZ3Xb+M7LlC6NS+s"}}`}},
		{"landing", full, "/", 200, []string{"<h1>example.org</h1>", "https://m.example.org/&lt;x&gt;"}},
		{"health", full, "/health", 200, []string{"{}"}},
		{"capabilities need a token", full, "/_matrix/client/v3/capabilities", 401, []string{"M_MISSING_TOKEN"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &Server{global: c.global, serverName: "example.org"}
			router, err := httpapi.NewRouter(httpapi.Options{Logger: logrus.NewEntry(logger)}, s.discoveryEndpoints())
			if err != nil {
				t.Fatal(err)
			}
			w := httptest.NewRecorder()
			router.ServeHTTP(w, httptest.NewRequest("GET", c.path, nil))
			if w.Code != c.status {
				t.Errorf("%s: %d %s", c.path, w.Code, w.Body)
			}
			for _, want := range c.want {
				if !strings.Contains(w.Body.String(), want) {
					t.Errorf("%s is not in %s", want, w.Body)
				}
			}
		})
	}
}

func TestCapabilities(t *testing.T) {
	s := &Server{config: config.ClientAPI{DefaultRoomVersion: "11"}}
	value, err := s.getCapabilities(&httpapi.Request{Device: &httpapi.Device{}})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"default":"11"`, `"12":"stable"`, `"m.3pid_changes":{"enabled":false}`, `"m.change_password":{"enabled":true}`, `"m.get_login_token":{"enabled":true}`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s is not in %s", want, text)
		}
	}
}
