package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/cmd/roles"
	"github.com/matrix-org/dendrite/common/config"
)

// home is an installation and the process that runs on it, sometimes.
type home struct {
	testing.TB
	config *config.Dendrite
	url    string
	stop   func()
}

// newHome makes an installation on an embedded log and SQLite files.
func newHome(t testing.TB) *home {
	t.Helper()
	c := config.Default()
	c.Global.DataDir, c.Global.ServerName, c.Global.PrivateKey = t.TempDir(), "localhost", t.TempDir()+"/signing.key"
	c.HTTP.Listen, c.Registration.Open, c.RateLimiting.Enabled = "127.0.0.1:0", true, false
	c.EventLog.Partitions = 4
	return &home{TB: t, config: c}
}

// sibling is another place for the same server, with nothing in it.
func (h *home) sibling() *home {
	o := newHome(h.TB)
	o.config.Global.PrivateKey = h.config.Global.PrivateKey
	return o
}

// start starts all roles; it returns why they did not start.
func (h *home) start() error {
	ctx, cancel := context.WithCancel(context.Background())
	logger := logrus.New()
	logger.SetOutput(h.Output())
	address, done := make(chan net.Addr, 1), make(chan error, 1)
	go func() {
		done <- roles.Run(ctx, h.config, logger, nil, func(at roles.Addresses) { address <- at.Public })
	}()
	select {
	case a := <-address:
		h.url = "http://" + a.String()
	case err := <-done:
		cancel()
		return err
	}
	h.stop = func() {
		cancel()
		if err := <-done; err != nil {
			h.Error(err)
		}
		h.stop = nil
	}
	h.Cleanup(func() {
		if h.stop != nil {
			h.stop()
		}
	})
	return nil
}

func (h *home) mustStart() {
	h.Helper()
	if err := h.start(); err != nil {
		h.Fatal(err)
	}
}

// open opens the installation for a tool, until the end of f.
func (h *home) open(f func(*Installation) error) error {
	return h.run(io.Discard).open(h.Context(), h.config, false, f)
}

// moveTo moves the installation.
func (h *home) moveTo(ctx context.Context, to *home, out io.Writer) error {
	return h.run(out).between(ctx, h.config, to.config, Move)
}

// repartitionTo moves the installation to one with other partitions.
func (h *home) repartitionTo(ctx context.Context, to *home, out io.Writer) error {
	return h.run(out).repartition(ctx, h.config, to.config)
}

// run is a run of dendrite-admin.
func (h *home) run(out io.Writer) *run {
	logger := logrus.New()
	logger.SetOutput(h.Output())
	return &run{out: out, logger: logger}
}

// user is a client.
type user struct{ id, token string }

type object = map[string]any

var client = &http.Client{Timeout: 30 * time.Second}

// call makes a request that is to succeed.
func (h *home) call(u user, method, path string, body any) object {
	h.Helper()
	status, answer := h.try(u, method, path, body)
	if status != http.StatusOK {
		h.Fatalf("%s %s: %d %v", method, path, status, answer)
	}
	return answer
}

func (h *home) try(u user, method, path string, body any) (int, object) {
	h.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		h.Fatal(err)
	}
	req, err := http.NewRequestWithContext(h.Context(), method, h.url+"/_matrix/client/v3"+path, bytes.NewReader(data))
	if err != nil {
		h.Fatal(err)
	}
	if u.token != "" {
		req.Header.Set("Authorization", "Bearer "+u.token)
	}
	res, err := client.Do(req)
	if err != nil {
		h.Fatal(err)
	}
	defer res.Body.Close()
	var out object
	if err := json.NewDecoder(res.Body).Decode(&out); err != nil {
		h.Fatalf("%s %s: %d: %v", method, path, res.StatusCode, err)
	}
	return res.StatusCode, out
}

func (h *home) register(name string) user {
	h.Helper()
	a := h.call(user{}, "POST", "/register", object{"username": name, "password": "correct horse", "auth": object{"type": "m.login.dummy"}})
	return user{a["user_id"].(string), a["access_token"].(string)}
}

func (h *home) send(u user, room, txn, body string) string {
	h.Helper()
	return h.call(u, "PUT", fmt.Sprintf("/rooms/%s/send/m.room.message/%s", url.PathEscape(room), txn),
		object{"msgtype": "m.text", "body": body})["event_id"].(string)
}

// sync waits for something new, if there is a token and nothing yet.
func (h *home) sync(u user, since string) object {
	h.Helper()
	q := url.Values{"timeout": {"10000"}, "filter": {`{"room":{"timeline":{"limit":100}},"presence":{"types":[]}}`}}
	if since != "" {
		q.Set("since", since)
	}
	return h.call(u, "GET", "/sync?"+q.Encode(), object{})
}

// timeline is what a sync answer tells of a room: the IDs of its events.
func timeline(answer object, room string) []string {
	var out []string
	for _, e := range list(dig(answer, "rooms", "join", room, "timeline", "events")) {
		out = append(out, e.(object)["event_id"].(string))
	}
	return out
}

// history are the IDs of all events of a room that a user sees, oldest first.
func (h *home) history(u user, room string) []string {
	h.Helper()
	var out []string
	for from := ""; ; {
		q := url.Values{"dir": {"f"}, "limit": {"100"}}
		if from != "" {
			q.Set("from", from)
		}
		a := h.call(u, "GET", "/rooms/"+url.PathEscape(room)+"/messages?"+q.Encode(), object{})
		for _, e := range list(a["chunk"]) {
			out = append(out, e.(object)["event_id"].(string))
		}
		end, more := a["end"].(string)
		if !more {
			return out
		}
		from = end
	}
}

func dig(v any, path ...string) any {
	for _, key := range path {
		m, ok := v.(object)
		if !ok {
			return nil
		}
		v = m[key]
	}
	return v
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}
