package httpapi

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/telemetry/telemetrytest"
)

// tokens is an Authenticator that knows a few devices by their tokens.
type tokens map[string]*Device

func (t tokens) Authenticate(_ context.Context, token string) (*Device, error) {
	if d, ok := t[token]; ok {
		return d, nil
	}
	return nil, matrixerror.UnknownToken("Unknown token")
}

func people() tokens {
	return tokens{
		"user":   {UserID: "@user:a"},
		"guest":  {UserID: "@guest:a", IsGuest: true},
		"locked": {UserID: "@locked:a", Locked: true},
		"admin":  {UserID: "@admin:a", IsAdmin: true},
	}
}

func quiet(to io.Writer) *logrus.Entry {
	logger := logrus.New()
	logger.SetOutput(to)
	return logrus.NewEntry(logger)
}

func newRouter(t testing.TB, o Options, endpoints ...Endpoint) http.Handler {
	t.Helper()
	if o.Logger == nil {
		o.Logger = quiet(io.Discard)
	}
	if o.Authenticator == nil {
		o.Authenticator = people()
	}
	h, err := NewRouter(o, endpoints)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func ask(h http.Handler, method, target, token string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func answerOf(t *testing.T, w *httptest.ResponseRecorder) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("%d %q: %v", w.Code, w.Body, err)
	}
	return v
}

func checkError(t *testing.T, w *httptest.ResponseRecorder, status int, code string) {
	t.Helper()
	v := answerOf(t, w)
	if w.Code != status || v["errcode"] != code || v["error"] == "" {
		t.Errorf("answered %d %v, want %d %s", w.Code, v, status, code)
	}
	if w.Header().Get("Access-Control-Allow-Origin") != "*" || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("headers %v", w.Header())
	}
}

// echo answers with the values of the path.
func echo(names ...string) Handler {
	return func(r *Request) (any, error) {
		values := []string{r.Pattern}
		for _, name := range names {
			values = append(values, r.PathValue(name))
		}
		return map[string]string{"values": strings.Join(values, "|")}, nil
	}
}

func TestRouting(t *testing.T) {
	const room = "/_matrix/client/v3/rooms/{roomId}"
	h := newRouter(t, Options{},
		Endpoint{Method: "GET", Path: room + "/state/{eventType}", Handler: echo("roomId", "eventType")},
		Endpoint{Method: "GET", Path: room + "/state/{eventType}/{$}", Handler: echo("roomId", "eventType")},
		Endpoint{Method: "GET", Path: room + "/state/{eventType}/{stateKey}", Handler: echo("roomId", "eventType", "stateKey")},
		Endpoint{Method: "PUT", Path: room + "/state/{eventType}/{stateKey}", Handler: echo("roomId", "eventType", "stateKey")},
		Endpoint{Method: "GET", Path: "/_matrix/client/v3/pushrules/{$}", Handler: echo()},
		Endpoint{Method: "GET", Path: "/{$}", Handler: echo()},
	)
	const base = "/_matrix/client/v3/rooms/"
	for _, c := range []struct {
		method, target string
		status         int
		want           string
	}{
		{"GET", base + "!a:b/state/m.x", 200, "!a:b|m.x"},
		{"GET", base + "%21a%3Ab/state/m.x/", 200, "!a:b|m.x"},
		{"GET", base + "!a:b/state/a%2Fb/k%20%25%2F", 200, "!a:b|a/b|k %/"},
		{"GET", base + "!a/state/%2e%2e/%2E", 200, "!a|..|."},
		{"PUT", base + "!a:b/state/m.x/k", 200, "!a:b|m.x|k"},
		{"GET", "/_matrix/client/r0/rooms/!a/state/m.x", 200, "!a|m.x"},
		{"GET", "/_matrix/client/v3/pushrules", 200, "pushrules"},
		{"GET", "/_matrix/client/v3/pushrules/", 200, "pushrules"},
		{"GET", "/", 200, "GET /"},
		{"HEAD", "/", 200, ""},
		{"DELETE", base + "!a:b/state/m.x", 405, "M_UNRECOGNIZED"},
		{"POST", "/", 405, "M_UNRECOGNIZED"},
		{"GET", "/_matrix/client/v1/nothing", 404, "M_UNRECOGNIZED"},
		{"GET", "/_matrix/federation/v1/nothing", 404, "M_UNRECOGNIZED"},
		{"GET", "/nothing", 404, "M_UNRECOGNIZED"},
		{"GET", base + "/state/m.x", 404, "M_UNRECOGNIZED"}, // an empty room ID
		{"GET", base + "!a/../!b/state/m.x", 404, "M_UNRECOGNIZED"},
		{"GET", base + "!a/state/m.x/.", 404, "M_UNRECOGNIZED"},
		{"PROPFIND", "/", 405, "M_UNRECOGNIZED"},
	} {
		t.Run(c.method+" "+c.target, func(t *testing.T) {
			w := ask(h, c.method, c.target, "")
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.want) {
				t.Errorf("answered %d %s", w.Code, w.Body)
			}
			if id := w.Header().Get("X-Request-ID"); len(id) != 16 {
				t.Errorf("the request's ID is %q", id)
			}
		})
	}
	if allow := ask(h, "POST", base+"!a/state/m.x/k", "").Header().Get("Allow"); allow != "GET, HEAD, PUT, OPTIONS" {
		t.Errorf("allowed are %s", allow)
	}
}

func TestRouterConflicts(t *testing.T) {
	e := Endpoint{Method: "GET", Path: "/_matrix/client/v3/x", Handler: echo()}
	for _, list := range [][]Endpoint{{e, e}, {{Method: "GET", Path: "x", Handler: echo()}}, {{Method: "GET", Path: "/{x", Handler: echo()}}} {
		if _, err := NewRouter(Options{Logger: quiet(io.Discard)}, list); err == nil {
			t.Errorf("%v is accepted", list)
		}
	}
}

func TestPreflight(t *testing.T) {
	called := false
	h := newRouter(t, Options{}, Endpoint{Method: "GET", Path: "/x", Access: User, Handler: func(*Request) (any, error) {
		called = true
		return nil, nil
	}})
	for _, path := range []string{"/x", "/nothing"} {
		w := ask(h, "OPTIONS", path, "")
		if w.Code != 204 || called || w.Body.Len() != 0 ||
			w.Header().Get("Access-Control-Allow-Headers") != "X-Requested-With, Content-Type, Authorization" ||
			w.Header().Get("Access-Control-Allow-Methods") != "GET, POST, PUT, DELETE, OPTIONS" {
			t.Errorf("%s: %d %v", path, w.Code, w.Header())
		}
	}
}

func TestAccess(t *testing.T) {
	levels := map[string]Access{"public": Public, "optional": Optional, "user": User, "guest": Guest, "locked": Locked, "admin": Admin}
	var endpoints []Endpoint
	for name, access := range levels {
		endpoints = append(endpoints, Endpoint{Method: "GET", Path: "/" + name, Access: access, Handler: func(r *Request) (any, error) {
			if r.Device == nil {
				return map[string]string{}, nil
			}
			return map[string]string{"user": r.Device.UserID}, nil
		}})
	}
	h := newRouter(t, Options{}, endpoints...)
	const missing, unknown, locked, guests, forbidden = "M_MISSING_TOKEN", "M_UNKNOWN_TOKEN", "M_USER_LOCKED", "M_GUEST_ACCESS_FORBIDDEN", "M_FORBIDDEN"
	status := map[string]int{missing: 401, unknown: 401, locked: 401, guests: 403, forbidden: 403}
	for name, want := range map[string]map[string]string{ // endpoint → token → errcode
		"public":   {"": "", "user": "", "wrong": "", "locked": ""},
		"optional": {"": "", "user": "", "guest": "", "wrong": unknown, "locked": locked},
		"user":     {"": missing, "user": "", "guest": guests, "wrong": unknown, "locked": locked, "admin": ""},
		"guest":    {"": missing, "user": "", "guest": "", "wrong": unknown, "locked": locked},
		"locked":   {"": missing, "user": "", "guest": "", "wrong": unknown, "locked": ""},
		"admin":    {"": missing, "user": forbidden, "guest": forbidden, "locked": locked, "admin": ""},
	} {
		for token, code := range want {
			t.Run(name+" "+token, func(t *testing.T) {
				w := ask(h, "GET", "/"+name, token)
				if code != "" {
					checkError(t, w, status[code], code)
					if soft, _ := answerOf(t, w)["soft_logout"].(bool); soft != (code == locked) {
						t.Errorf("soft_logout is %v", soft)
					}
					return
				}
				user := answerOf(t, w)["user"]
				if w.Code != 200 || (token != "" && name != "public" && user != "@"+token+":a") {
					t.Errorf("%d %v", w.Code, user)
				}
			})
		}
	}
	for _, c := range []struct {
		target, header string
		code           string
	}{
		{"/user?access_token=user", "", ""},
		{"/user?access_token=wrong", "Bearer user", ""},
		{"/user", "bearer user", ""},
		{"/user", "Basic user", missing},
		{"/user", "Bearer ", missing},
		{"/user?access_token=", "", missing},
		{"/user", "Bearer " + strings.Repeat("x", 5000), unknown},
	} {
		w := ask(h, "GET", c.target, "", "Authorization", c.header)
		if got, _ := answerOf(t, w)["errcode"].(string); got != c.code {
			t.Errorf("%s with %.20q: %q, want %q", c.target, c.header, got, c.code)
		}
	}
}

func TestErrors(t *testing.T) {
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range []struct {
		name    string
		handler Handler
		status  int
		code    string
		logged  string
		body    string
	}{
		{"matrix", fail(fmt.Errorf("op: %w", matrixerror.Forbidden("no \xff"))), 403, "M_FORBIDDEN", "", "no \uFFFD"},
		{"fields", fail(&matrixerror.Error{Status: 400, Code: "M_X", Message: "m", Fields: map[string]any{"room_version": "9", "errcode": "other"}}), 400, "M_X", "", `"room_version":"9"`},
		{"bad fields", fail(&matrixerror.Error{Status: 400, Code: "M_X", Message: "m", Fields: map[string]any{"f": func() {}}}), 400, "M_UNKNOWN", "", ""},
		{"retry", fail(matrixerror.LimitExceeded(1500 * time.Millisecond)), 429, "M_LIMIT_EXCEEDED", "", `"retry_after_ms":1500`},
		{"soft logout", fail(&matrixerror.Error{Status: 401, Code: "M_UNKNOWN_TOKEN", Message: "m", SoftLogout: true}), 401, "M_UNKNOWN_TOKEN", "", `"soft_logout":true`},
		{"limit of a user", fail(matrixerror.UserLimit(403, "m")), 403, "M_USER_LIMIT_EXCEEDED", "", `"info_uri":"https://i/"`},
		{"log away", fail(fmt.Errorf("append: %w", eventlog.ErrUnavailable)), 503, "M_UNKNOWN", "", `"retry_after_ms":2000`},
		{"store away", fail(fmt.Errorf("account: %w", sqldb.ErrUnavailable)), 503, "M_UNKNOWN", "unavailable", `"retry_after_ms":2000`},
		{"other", fail(errors.New("secret detail")), 500, "M_UNKNOWN", "secret detail", ""},
		{"late", fail(context.DeadlineExceeded), 504, "M_UNKNOWN", "deadline", ""},
		{"panic", func(*Request) (any, error) { panic("secret cause") }, 500, "M_UNKNOWN", "secret cause", ""},
		{"cannot be encoded", func(*Request) (any, error) { return func() {}, nil }, 500, "M_UNKNOWN", "encoding", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var logs bytes.Buffer
			h := newRouter(t, Options{Logger: quiet(&logs), InfoURI: "https://i/"}, Endpoint{Method: "GET", Path: "/x", Handler: c.handler})
			w := ask(h, "GET", "/x", "")
			checkError(t, w, c.status, c.code)
			if !strings.Contains(w.Body.String(), c.body) || strings.Contains(w.Body.String(), "secret") {
				t.Errorf("answered %s", w.Body)
			}
			if !strings.Contains(logs.String(), c.logged) || (c.logged == "") != (logs.Len() == 0) {
				t.Errorf("logged %s", logs.String())
			}
			if c.name == "panic" && !strings.Contains(logs.String(), "route_test.go") {
				t.Errorf("no stack in %s", logs.String())
			}
			if c.name == "retry" && w.Header().Get("Retry-After") != "2" {
				t.Errorf("Retry-After is %q", w.Header().Get("Retry-After"))
			}
		})
	}
	var logs bytes.Buffer
	h := newRouter(t, Options{Logger: quiet(&logs)}, Endpoint{Method: "GET", Path: "/x", Handler: fail(context.Canceled)})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/x", nil).WithContext(gone))
	if w.Body.Len() != 0 || logs.Len() != 0 {
		t.Errorf("a client that went was told %s, logged %s", w.Body, logs.String())
	}
}

func fail(err error) Handler { return func(*Request) (any, error) { return nil, err } }

func TestAnswers(t *testing.T) {
	large := jsontext.Value(`"` + strings.Repeat("x", 10_000) + `"`)
	h := newRouter(t, Options{},
		Endpoint{Method: "GET", Path: "/nil", Handler: func(*Request) (any, error) { return nil, nil }},
		Endpoint{Method: "GET", Path: "/raw", Handler: func(*Request) (any, error) { return jsontext.Value(`{"b": 1, "a":2}`), nil }},
		Endpoint{Method: "GET", Path: "/large", Handler: func(*Request) (any, error) { return large, nil }},
		Endpoint{Method: "GET", Path: "/image", Handler: func(*Request) (any, error) {
			return &Raw{Status: 201, Header: http.Header{"Content-Type": {"image/png"}}, Body: []byte(large)}, nil
		}},
		Endpoint{Method: "GET", Path: "/moved", Handler: func(*Request) (any, error) {
			return &Raw{Status: 302, Header: http.Header{"Location": {"https://example.org/"}}}, nil
		}},
	)
	for path, want := range map[string]string{"/nil": "{}", "/raw": `{"b": 1, "a":2}`, "/large": string(large)} {
		w := ask(h, "GET", path, "")
		if w.Code != 200 || w.Body.String() != want || w.Header().Get("Content-Length") != fmt.Sprint(len(want)) {
			t.Errorf("%s: %d %.100s %v", path, w.Code, w.Body, w.Header())
		}
	}
	for accept, zipped := range map[string]bool{"gzip": true, "br;q=1, GZIP ; q=0.5": true, "gzip;q=0": false, "br": false, "": false} {
		w := ask(h, "GET", "/large", "", "Accept-Encoding", accept)
		if got := w.Header().Get("Content-Encoding") == "gzip"; got != zipped || w.Header().Get("Vary") != "Accept-Encoding" {
			t.Errorf("%q: %v", accept, w.Header())
		}
		if !zipped {
			continue
		}
		z, err := gzip.NewReader(w.Body)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(z); err != nil || !bytes.Equal(body, large) {
			t.Errorf("%q: %d bytes, %v", accept, len(body), err)
		}
	}
	if w := ask(h, "GET", "/nil", "", "Accept-Encoding", "gzip"); w.Header().Get("Content-Encoding") != "" {
		t.Error("a short answer is compressed")
	}
	if w := ask(h, "GET", "/image", "", "Accept-Encoding", "gzip"); w.Code != 201 || w.Header().Get("Content-Encoding") != "" || w.Header().Get("Content-Type") != "image/png" {
		t.Errorf("image: %d %v", w.Code, w.Header())
	}
	if w := ask(h, "GET", "/moved", ""); w.Code != 302 || w.Header().Get("Location") == "" {
		t.Errorf("moved: %d %v", w.Code, w.Header())
	}
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	o := Options{Metrics: registry}
	newRouter(t, o) // shares the registry
	h := newRouter(t, o, Endpoint{Method: "GET", Path: "/x/{id}", Access: User, Handler: echo("id")})
	ask(h, "GET", "/x/1", "user")
	ask(h, "GET", "/x/2", "user")
	ask(h, "GET", "/x/2", "")
	ask(h, "BREW", "/nothing", "")
	got := telemetrytest.Values(t, registry)
	maps.DeleteFunc(got, func(name string, _ float64) bool { return strings.Contains(name, "_sum{") })
	want := map[string]float64{
		"dendrite_http_requests_total{endpoint=/x/{id},method=GET,status=200}":        2,
		"dendrite_http_requests_total{endpoint=/x/{id},method=GET,status=401}":        1,
		"dendrite_http_requests_total{endpoint=unrecognized,method=other,status=404}": 1,
		"dendrite_http_request_seconds_count{endpoint=/x/{id},method=GET,status=200}": 2,
		"dendrite_http_request_seconds_count{endpoint=/x/{id},method=GET,status=401}": 1,
	}
	if !maps.Equal(got, want) {
		t.Errorf("counted %v", got)
	}
}

func TestRemoteAddress(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	for _, c := range []struct{ peer, forwarded, want string }{
		{"192.0.2.1:5", "1.1.1.1", "192.0.2.1"},
		{"10.0.0.1:5", "", "10.0.0.1"},
		{"10.0.0.1:5", "1.1.1.1", "1.1.1.1"},
		{"[::ffff:10.0.0.1]:5", "9.9.9.9, 1.1.1.1, 10.0.0.2", "1.1.1.1"},
		{"[::1]:5", "2001:db8::1", "2001:db8::1"},
		{"10.0.0.1:5", "1.1.1.1:80", "1.1.1.1"},
		{"10.0.0.1:5", "9.9.9.9, rubbish, 10.0.0.2", "10.0.0.2"},
		{"@", "1.1.1.1", "@"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.peer
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-For", c.forwarded)
		}
		if got := remoteAddress(r, trusted); got != c.want {
			t.Errorf("%s for %q is %s, want %s", c.peer, c.forwarded, got, c.want)
		}
	}
}

// BenchmarkRequest is a request with a token, a path with values, limits,
// metrics and a small answer.
func BenchmarkRequest(b *testing.B) {
	h := newRouter(b, Options{
		Metrics: prometheus.NewRegistry(),
		Limits:  NewLimiter(map[Limit]Rate{LimitMessage: {PerSecond: 1e9, Burst: 1e9}}),
	}, Endpoint{
		Method: "PUT", Path: "/_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}", Access: User, Limit: LimitMessage,
		Handler: func(r *Request) (any, error) {
			if _, err := r.DecodeRaw(); err != nil {
				return nil, err
			}
			return struct {
				EventID string `json:"event_id"`
			}{"$" + r.PathValue("txnId")}, nil
		},
	})
	body := []byte(`{"msgtype":"m.text","body":"hello"}`)
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest("PUT", "/_matrix/client/v3/rooms/!abc:example.org/send/m.room.message/1", bytes.NewReader(body))
		r.Header.Set("Authorization", "Bearer user")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != 200 {
			b.Fatal(w.Code, w.Body)
		}
	}
}
