package pushapi

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/httpapi"
)

// oneUser takes any token for alice's.
type oneUser struct{}

// Authenticate implements httpapi.Authenticator.
func (oneUser) Authenticate(context.Context, string) (*httpapi.Device, error) {
	return &httpapi.Device{UserID: alice, DeviceID: "D"}, nil
}

// TestEndpoints: pushers are set, listed and removed, and what is wrong is refused.
func TestEndpoints(t *testing.T) {
	w := newWorld(t)
	w.config.AnyURL = false
	s, _ := w.server()
	logger := logrus.New()
	logger.SetOutput(t.Output())
	router, err := httpapi.NewRouter(httpapi.Options{Authenticator: oneUser{}, Logger: logrus.NewEntry(logger)}, s.Endpoints())
	if err != nil {
		t.Fatal(err)
	}
	call := func(method, path, body string) (int, string) {
		r := httptest.NewRequest(method, "/_matrix/client/v3"+path, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer t")
		rec := httptest.NewRecorder()
		router.ServeHTTP(rec, r)
		return rec.Code, rec.Body.String()
	}
	const good = `{"kind":"http","app_id":"a","pushkey":"k","app_display_name":"A","device_display_name":"D","lang":"en","profile_tag":"p","data":{"url":"https://gateway.test/_matrix/push/v1/notify","x":1}}`
	for name, c := range map[string]struct{ old, now, code string }{
		"no kind":      {`"kind":"http",`, ``, "M_MISSING_PARAM"},
		"no key":       {`"pushkey":"k",`, ``, "M_MISSING_PARAM"},
		"no language":  {`"lang":"en",`, ``, "M_MISSING_PARAM"},
		"no data":      {`,"data":{"url":"https://gateway.test/_matrix/push/v1/notify","x":1}`, ``, "M_MISSING_PARAM"},
		"no URL":       {`"url":"https://gateway.test/_matrix/push/v1/notify",`, ``, "M_MISSING_PARAM"},
		"plain HTTP":   {`https:`, `http:`, "M_INVALID_PARAM"},
		"another path": {`/v1/notify`, `/v1/notify/x`, "M_INVALID_PARAM"},
		"no web":       {`https:`, `gopher:`, "M_INVALID_PARAM"},
		"a password":   {`https://`, `https://a:b@`, "M_INVALID_PARAM"},
		"strange kind": {`"http"`, `"pigeon"`, "M_INVALID_PARAM"},
		"mail":         {`"http"`, `"email"`, "M_THREEPID_NOT_FOUND"},
		"long app":     {`"app_id":"a"`, `"app_id":"` + strings.Repeat("a", 65) + `"`, "M_INVALID_PARAM"},
		"long key":     {`"pushkey":"k"`, `"pushkey":"` + strings.Repeat("k", 513) + `"`, "M_INVALID_PARAM"},
		"large data":   {`"x":1`, `"x":"` + strings.Repeat("x", maxData) + `"`, "M_TOO_LARGE"},
	} {
		if status, body := call("POST", "/pushers/set", strings.Replace(good, c.old, c.now, 1)); status/100 != 4 || !strings.Contains(body, c.code) {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	const none = `{"pushers":[]}`
	if _, body := call("GET", "/pushers", ""); body != none {
		t.Errorf("after refusals: %s", body)
	}
	if status, body := call("POST", "/pushers/set", good); status != http.StatusOK || body != "{}" {
		t.Fatalf("%d %s", status, body)
	}
	if u := s.people.get(alice); u == nil || u.pushers[0].Pushkey != "k" {
		t.Error("the pusher is not known when it was set")
	}
	const want = `{"pushers":[{"pushkey":"k","kind":"http","app_id":"a","app_display_name":"A","device_display_name":"D","profile_tag":"p","lang":"en","data":{"url":"https://gateway.test/_matrix/push/v1/notify","x":1}}]}`
	if _, body := call("GET", "/pushers", ""); body != want {
		t.Errorf("%s, not %s", body, want)
	}
	for range 2 { // also one that is not there
		if status, body := call("POST", "/pushers/set", `{"kind":null,"app_id":"a","pushkey":"k"}`); status != http.StatusOK {
			t.Errorf("%d %s", status, body)
		}
	}
	if _, body := call("GET", "/pushers", ""); body != none {
		t.Errorf("after the removal: %s", body)
	}
}
