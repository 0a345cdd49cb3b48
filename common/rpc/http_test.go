package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/sqldb"
)

func TestSecrets(t *testing.T) {
	for _, bad := range []string{"", "short", strings.Repeat("a", MinSecret-1), "a secret with spaces in it", "a-secret-with-é-in-it", "a-secret-with-newline\n"} {
		if _, err := NewHTTPHandler(HandlerOptions{Server: NewServer(), Secret: bad, Logger: quiet()}); err == nil {
			t.Errorf("the handler takes the secret %q", bad)
		}
		if _, err := NewHTTPClient(ClientOptions{Secret: bad, Logger: quiet()}); err == nil {
			t.Errorf("the client takes the secret %q", bad)
		}
	}
}

func TestHandler(t *testing.T) {
	s := testServer(nil, nil)
	NewMethod[struct{}, struct{}]("test", "panicking").Serve(s, func(context.Context, *struct{}) (*struct{}, error) { panic("no") })
	NewMethod[struct{}, everything]("test", "large").Serve(s, func(context.Context, *struct{}) (*everything, error) {
		return &everything{Text: strings.Repeat("a", 5000)}, nil
	})
	failing := NewMethod[struct{}, struct{}]("test", "unsendable")
	failing.Serve(s, func(context.Context, *struct{}) (*struct{}, error) {
		return nil, &matrixerror.Error{Status: 400, Code: "M_X", Fields: map[string]any{"f": func() {}}}
	})
	address := serveHTTP(t, HandlerOptions{Server: s, MaxRequest: 1000, MaxResponse: 4000, Timeout: time.Minute})
	const right = bearer + testSecret
	for _, c := range []struct {
		name, method, path, secret, body string
		status                           int
		answer                           string
	}{
		{"call", "POST", "/internal/v1/test/failing", right, `{"Case":"none","unknown":1}`, 204, ""},
		{"matrix error", "POST", "/internal/v1/test/failing", right, `{"Case":"wrapped"}`, 422, `{"status":404,"errcode":"M_NOT_FOUND","error":"no such room"}`},
		{"error", "POST", "/internal/v1/test/failing", right, `{"Case":"plain"}`, 500, "the disk is full"},
		{"panic", "POST", "/internal/v1/test/panicking", right, `{}`, 500, "panic: no"},
		{"unsendable error", "POST", "/internal/v1/test/unsendable", right, `{}`, 500, "fields of M_X"},
		{"no secret", "POST", "/internal/v1/test/echo", "", `{}`, 401, "secret"},
		{"empty secret", "POST", "/internal/v1/test/echo", bearer, `{}`, 401, "secret"},
		{"wrong secret", "POST", "/internal/v1/test/echo", right + "x", `{}`, 401, "secret"},
		{"prefix of the secret", "POST", "/internal/v1/test/echo", right[:len(right)-1], `{}`, 401, "secret"},
		{"secret without scheme", "POST", "/internal/v1/test/echo", testSecret, `{}`, 401, "secret"},
		{"unknown method", "POST", "/internal/v1/test/none", right, `{}`, 404, "test/none"},
		{"unknown path", "POST", "/internal/v2/test/echo", right, `{}`, 404, ""},
		{"unknown path without secret", "POST", "/", "", `{}`, 401, ""},
		{"escaped slash", "POST", "/internal/v1/test%2Fecho/x", right, `{}`, 404, ""},
		{"GET", "GET", "/internal/v1/test/echo", right, ``, 405, ""},
		{"empty body", "POST", "/internal/v1/test/echo", right, ``, 400, "not understood"},
		{"not JSON", "POST", "/internal/v1/test/echo", right, `{"Text":`, 400, "not understood"},
		{"wrong type", "POST", "/internal/v1/test/echo", right, `{"Text":1}`, 400, "not understood"},
		{"wrong raw value", "POST", "/internal/v1/test/echo", right, `{"Raw":{}}`, 400, "not understood"},
		{"wrong duration", "POST", "/internal/v1/test/echo", right, `{"Wait":"1s"}`, 400, "not understood"},
		{"more than one value", "POST", "/internal/v1/test/echo", right, `{}{}`, 400, "not understood"},
		{"as large as may be", "POST", "/internal/v1/test/failing", right, `{"Case":""}` + strings.Repeat(" ", 1000-11), 204, ""},
		{"too large", "POST", "/internal/v1/test/failing", right, `{"Case":""}` + strings.Repeat(" ", 1000-10), 413, "1000 bytes"},
		{"too large an answer", "POST", "/internal/v1/test/large", right, `{}`, 500, "cannot be sent"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, chunked := range []bool{false, true} {
				var body io.Reader = strings.NewReader(c.body)
				if chunked {
					body = io.MultiReader(body) // hides its length
				}
				req, err := http.NewRequest(c.method, address+c.path, body)
				if err != nil {
					t.Fatal(err)
				}
				if c.secret != "" {
					req.Header.Set("Authorization", c.secret)
				}
				res, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				answer, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err != nil || res.StatusCode != c.status || !strings.Contains(string(answer), c.answer) {
					t.Errorf("chunked %t: %d %q, %v", chunked, res.StatusCode, answer, err)
				}
			}
		})
	}
}

func TestTimeoutOfServer(t *testing.T) {
	entered, left := make(chan bool, 2), make(chan bool, 2)
	address := serveHTTP(t, HandlerOptions{Server: testServer(entered, left), Timeout: 10 * time.Millisecond})
	_, err := waiting.Harmless().Call(t.Context(), client(t, address, ClientOptions{}), &struct{}{})
	if e := matrixerror.From(err); e == nil || e.Status != 503 || e.RetryAfter == 0 {
		t.Errorf("got %v", err)
	}
	if len(entered) != 1 {
		t.Errorf("a call that is too slow was made %d times", len(entered))
	}
}

func TestTimeoutOfClient(t *testing.T) {
	entered, left := make(chan bool, 2), make(chan bool, 2)
	address := serveHTTP(t, HandlerOptions{Server: testServer(entered, left)})
	_, err := waiting.Harmless().Call(t.Context(), client(t, address, ClientOptions{Timeout: 10 * time.Millisecond}), &struct{}{})
	if e := matrixerror.From(err); e == nil || e.Status != 503 || e.RetryAfter == 0 {
		t.Errorf("got %v", err)
	}
	if len(entered) > 1 {
		t.Errorf("a call over its time was made %d times", len(entered))
	}
}

// TestForNow: what a method cannot do now arrives as something to try again.
func TestForNow(t *testing.T) {
	causes := map[string]error{
		"log": fmt.Errorf("append: %w: %w", eventlog.ErrUnavailable, errors.New("disk full")), "store": fmt.Errorf("read: %w", sqldb.ErrUnavailable),
		"deadline": fmt.Errorf("ask: %w", context.DeadlineExceeded), "said": fmt.Errorf("%w: %w", matrixerror.Forbidden("no"), sqldb.ErrUnavailable),
	}
	s := NewServer()
	broken := NewMethod[struct{ Case string }, struct{}]("test", "broken")
	broken.Serve(s, func(_ context.Context, r *struct{ Case string }) (*struct{}, error) { return nil, causes[r.Case] })
	c := client(t, serveHTTP(t, HandlerOptions{Server: s}), ClientOptions{})
	for name, want := range map[string]struct {
		status int
		again  bool
	}{"log": {503, true}, "store": {503, true}, "deadline": {504, false}, "said": {403, false}} {
		_, err := broken.Call(t.Context(), c, &struct{ Case string }{name})
		if e := matrixerror.From(err); e == nil || e.Status != want.status || (e.RetryAfter > 0) != want.again || strings.Contains(e.Message, "disk") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTooManyCalls(t *testing.T) {
	entered, left := make(chan bool, 1), make(chan bool, 1)
	c := client(t, serveHTTP(t, HandlerOptions{Server: testServer(entered, left), MaxCalls: 1}), ClientOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := waiting.Call(ctx, c, &struct{}{})
		ended <- err
	}()
	<-entered
	_, err := echo.Call(t.Context(), c, &everything{})
	if e := matrixerror.From(err); e == nil || e.Status != 503 || e.RetryAfter != retryOverloaded {
		t.Errorf("got %v", err)
	}
	cancel()
	<-ended
	<-left
}

func TestLimitsOfClient(t *testing.T) {
	address := serveHTTP(t, HandlerOptions{Server: testServer(nil, nil)})
	small := client(t, address, ClientOptions{MaxRequest: 5000, MaxResponse: 1000})
	if _, err := echo.Call(t.Context(), small, &everything{Text: strings.Repeat("a", 1000)}); err == nil || !strings.Contains(err.Error(), "answer is larger") {
		t.Errorf("got %v", err)
	}
	if _, err := echo.Call(t.Context(), small, &everything{Text: strings.Repeat("a", 5000)}); !errors.Is(err, errTooLarge) {
		t.Errorf("got %v", err)
	}
}

// TestAttempts has the first n answers fail on their way.
func TestAttempts(t *testing.T) {
	s := testServer(nil, nil)
	drop := func(http.ResponseWriter) { panic(http.ErrAbortHandler) }
	status := func(n int) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { w.WriteHeader(n) }
	}
	for _, c := range []struct {
		name     string
		fail     func(http.ResponseWriter)
		failures int64
		harmless bool
		attempts int64
		status   int // of the Matrix error; 0: no error, -1: another error
	}{
		{"no failure", nil, 0, true, 1, 0},
		{"dropped once", drop, 1, true, 2, 0},
		{"dropped for good", drop, 9, true, maxAttempts, 503},
		{"dropped, not harmless", drop, 1, false, 1, 503},
		{"gateway once", status(502), 1, true, 2, 0},
		{"gateway, not harmless", status(502), 1, false, 1, 503},
		{"unavailable once", status(503), 1, true, 2, 0},
		{"too slow", status(504), 1, true, 1, 503},
		{"internal error", status(500), 1, true, 1, -1},
		{"unauthorised", status(401), 1, true, 1, -1},
		{"not an answer", status(299), 1, true, 1, -1},
		{"half an answer", func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, `{"Text":"`)
		}, 1, true, 2, 0},
		{"an answer that is not JSON", func(w http.ResponseWriter) { _, _ = io.WriteString(w, `{`) }, 1, true, 1, -1},
		{"an error that is not JSON", status(422), 1, true, 1, -1},
		{"an error that is none", func(w http.ResponseWriter) {
			w.WriteHeader(422)
			_, _ = io.WriteString(w, `{"status":0,"errcode":"M_X"}`)
		}, 1, true, 1, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, err := NewHTTPHandler(HandlerOptions{Server: s, Secret: testSecret, Logger: quiet()})
			if err != nil {
				t.Fatal(err)
			}
			var attempts atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if attempts.Add(1) <= c.failures {
					c.fail(w)
					return
				}
				h.ServeHTTP(w, r)
			}))
			defer server.Close()
			m := echo
			if c.harmless {
				m = m.Harmless()
			}
			res, err := m.Call(t.Context(), client(t, server.URL, ClientOptions{}), &everything{Text: "x"})
			e := matrixerror.From(err)
			switch {
			case c.status == 0 && (err != nil || res.Text != "x"):
				t.Errorf("got %+v, %v", res, err)
			case c.status == -1 && (err == nil || e != nil):
				t.Errorf("got %+v, %v", res, err)
			case c.status > 0 && (e == nil || e.Status != c.status || e.RetryAfter == 0):
				t.Errorf("got %+v, %v", res, err)
			}
			if attempts.Load() != c.attempts {
				t.Errorf("%d attempts", attempts.Load())
			}
		})
	}
}

type routed struct{ RoomID string }

func (r *routed) RoutingKey() string { return r.RoomID }

// TestAddress has the owner of a room move between two attempts.
func TestAddress(t *testing.T) {
	m := NewMethod[routed, routed]("test", "routed").Harmless()
	s := NewServer()
	m.Serve(s, func(_ context.Context, r *routed) (*routed, error) { return r, nil })
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	addresses := []string{gone.URL, serveHTTP(t, HandlerOptions{Server: s})}
	var asked []string
	c := client(t, "", ClientOptions{Address: func(_ context.Context, service, key string) (string, error) {
		asked = append(asked, service+" "+key)
		return addresses[len(asked)-1], nil
	}})
	res, err := m.Call(t.Context(), c, &routed{"!a:b"})
	if err != nil || res.RoomID != "!a:b" || strings.Join(asked, ",") != "test !a:b,test !a:b" {
		t.Errorf("got %+v, %v; asked %q", res, err, asked)
	}
	nobody := client(t, "", ClientOptions{Address: func(context.Context, string, string) (string, error) {
		return "", errors.New("nobody has the lease")
	}})
	if _, err := m.Call(t.Context(), nobody, &routed{}); matrixerror.From(err) == nil || !strings.Contains(err.Error(), "nobody has the lease") {
		t.Errorf("got %v", err)
	}
	bad := client(t, "::", ClientOptions{})
	if _, err := m.Call(t.Context(), bad, &routed{}); err == nil || matrixerror.From(err) != nil {
		t.Errorf("got %v", err)
	}
}

// TestRedirect shows that the secret goes nowhere else.
func TestRedirect(t *testing.T) {
	var elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	for _, code := range []int{301, 303, 307, 308} {
		first := httptest.NewServer(http.RedirectHandler(other.URL, code))
		if _, err := echo.Harmless().Call(t.Context(), client(t, first.URL, ClientOptions{}), &everything{}); err == nil {
			t.Errorf("a redirect %d is an answer", code)
		}
		first.Close()
	}
	if elsewhere.Load() != 0 {
		t.Error("a redirect was followed")
	}
}

// TestLogs shows that neither secret nor bodies are logged, at any level.
func TestLogs(t *testing.T) {
	var out bytes.Buffer
	logger := logrus.New()
	logger.SetOutput(&out)
	logger.SetLevel(logrus.TraceLevel)
	s := testServer(nil, nil)
	h, err := NewHTTPHandler(HandlerOptions{Server: s, Secret: testSecret, Logger: logrus.NewEntry(logger), MaxResponse: 10})
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{`{"Text":"the content"}`, `{"Text":"the content"`, `{"Text":["the content"]}`} {
		for _, secret := range []string{testSecret, testSecret + "x"} {
			r := httptest.NewRequest("POST", pathPrefix+"test/echo", strings.NewReader(body))
			r.Header.Set("Authorization", bearer+secret)
			h.ServeHTTP(httptest.NewRecorder(), r)
		}
	}
	if text := out.String(); strings.Contains(text, testSecret) || strings.Contains(text, "the content") || text == "" {
		t.Errorf("logged: %s", text)
	}
}
