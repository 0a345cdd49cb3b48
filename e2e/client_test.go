package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// object is a JSON object of which a test reads what it knows.
type object = map[string]any

// user is a client of the plainest kind: it speaks HTTP and keeps a token.
type user struct {
	s      site
	id     string
	token  string
	device string
	http   *http.Client
}

// answer is what the server said.
type answer struct {
	status  int
	body    object
	raw     []byte
	headers http.Header
}

func (a *answer) errcode() string { code, _ := a.body["errcode"].(string); return code }

func (a *answer) str(key string) string { v, _ := a.body[key].(string); return v }

// site is what clients reach: a server, or the door of a cluster.
type site interface {
	// base waits until requests can be made, and returns the URL for them.
	base() string
	// watched is a transport whose answers are seen, unless they are seen elsewhere.
	watched(http.RoundTripper) http.RoundTripper
}

// anonymous makes a client without an account.
func anonymous(s site) *user {
	return &user{s: s, http: &http.Client{
		Timeout:   60 * time.Second,
		Transport: s.watched(&http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}),
	}}
}

// try sends a request once; an error means that no whole answer came.
func (u *user) try(method, path string, body any) (*answer, error) {
	return u.tryIn(context.Background(), method, path, body)
}

func (u *user) tryIn(ctx context.Context, method, path string, body any) (*answer, error) {
	var data []byte
	switch b := body.(type) {
	case nil:
	case []byte:
		data = b
	case string:
		data = []byte(b)
	default:
		var err error
		if data, err = json.Marshal(b); err != nil {
			return nil, err
		}
	}
	if !strings.HasPrefix(path, "/_") && !strings.HasPrefix(path, "/.") {
		path = "/_matrix/client/v3" + path
	}
	req, err := http.NewRequestWithContext(ctx, method, u.s.base()+path, bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	if u.token != "" {
		req.Header.Set("Authorization", "Bearer "+u.token)
	}
	res, err := u.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	a := &answer{status: res.StatusCode, headers: res.Header}
	if a.raw, err = io.ReadAll(res.Body); err != nil {
		return nil, err
	}
	_ = json.Unmarshal(a.raw, &a.body) // not every answer is an object; tests look at what they need
	return a, nil
}

// call sends a request and expects 200.
func (u *user) call(t testing.TB, method, path string, body any) *answer {
	t.Helper()
	a, err := u.try(method, path, body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	if a.status != http.StatusOK {
		t.Fatalf("%s %s: %d %s", method, path, a.status, a.raw)
	}
	return a
}

// refused sends a request and expects that status and errcode.
func (u *user) refused(t testing.TB, status int, errcode, method, path string, body any) *answer {
	t.Helper()
	a, err := u.try(method, path, body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	if a.status != status || a.errcode() != errcode {
		t.Fatalf("%s %s: %d %s, want %d %s", method, path, a.status, a.raw, status, errcode)
	}
	return a
}

// register makes an account.
func register(t testing.TB, s site, name string) *user {
	t.Helper()
	u := anonymous(s)
	a := u.call(t, "POST", "/register", object{
		"username": name, "password": "correct horse", "auth": object{"type": "m.login.dummy"},
	})
	u.id, u.token, u.device = a.str("user_id"), a.str("access_token"), a.str("device_id")
	return u
}

func (u *user) createRoom(t testing.TB, body object) string {
	t.Helper()
	return u.call(t, "POST", "/createRoom", body).str("room_id")
}

func (u *user) send(t testing.TB, room, txn, text string) string {
	t.Helper()
	return u.call(t, "PUT", fmt.Sprintf("/rooms/%s/send/m.room.message/%s", url.PathEscape(room), txn),
		object{"msgtype": "m.text", "body": text}).str("event_id")
}

func (u *user) join(t testing.TB, room string) {
	t.Helper()
	u.call(t, "POST", "/join/"+url.PathEscape(room), object{})
}

// syncOnce makes one /sync.
func (u *user) syncOnce(t testing.TB, since, timeout string) *answer {
	t.Helper()
	q := url.Values{"timeout": {timeout}}
	if since != "" {
		q.Set("since", since)
	}
	return u.call(t, "GET", "/sync?"+q.Encode(), nil)
}

// dig walks into nested objects; nil where there is nothing.
func dig(v any, path ...string) any {
	for _, p := range path {
		m, ok := v.(object)
		if !ok {
			return nil
		}
		v = m[p]
	}
	return v
}

func list(v any) []any { l, _ := v.([]any); return l }
