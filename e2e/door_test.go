package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// door is the reverse proxy of a cluster, as deploy/nginx.conf makes one: it
// chooses the role by the path and an instance at random. A request that could
// not be sent goes to the next instance, and so does one that may be repeated and
// had no answer.
type door struct {
	server    *httptest.Server
	instances func(role string) []*process
	transport *http.Transport
	watch     *watch

	mu       sync.Mutex
	counting bool
	refusals []string // answers from 500 on, and none at all, while counting
}

func newDoor(t testing.TB, instances func(role string) []*process) *door {
	d := &door{instances: instances, watch: newWatch(t), transport: &http.Transport{
		DisableKeepAlives: true, DisableCompression: true,
		DialContext: (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
	}}
	d.server = httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", r.In.Host
			r.SetXForwarded()
		},
		Transport: d, FlushInterval: -1,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			w.WriteHeader(http.StatusBadGateway)
			_, _ = io.WriteString(w, err.Error())
		},
	})
	t.Cleanup(func() {
		d.server.CloseClientConnections()
		d.server.Close()
	})
	return d
}

// base implements site.
func (d *door) base() string { return d.server.URL }

// watched implements site: the door sees all itself.
func (d *door) watched(t http.RoundTripper) http.RoundTripper { return t }

// slidingPaths are those of sliding sync, by POST.
var slidingPaths = regexp.MustCompile(`^/_matrix/client/(v4|unstable/org\.matrix\.simplified_msc3575)/sync$`)

// readPaths are the others that the sync-api serves, all of them by GET.
var readPaths = regexp.MustCompile(`^/_matrix/client/(unstable/io\.element\.(msc4308/thread_subscriptions|msc4360/thread_updates)$|(r0|v1|v3)/(sync|keys/changes|events|initialSync|notifications|events/[^/]+|rooms/[^/]+/(messages|initialSync|threads|timestamp_to_event|(context|event|relations)/.*))$)`)

func roleOf(method, path string) string {
	switch {
	case method == http.MethodGet && readPaths.MatchString(path), method == http.MethodPost && slidingPaths.MatchString(path):
		return "sync-api"
	case strings.HasPrefix(path, "/_matrix/client/v3/pushers"), strings.HasPrefix(path, "/_matrix/client/r0/pushers"):
		return "push-server"
	case path == "/_matrix/client/v3/search", path == "/_matrix/client/r0/search":
		return "search-server"
	case strings.HasPrefix(path, "/_matrix/media/"), strings.HasPrefix(path, "/_matrix/client/v1/media/"):
		return "media-api"
	case strings.HasPrefix(path, "/_matrix/federation/"), strings.HasPrefix(path, "/_matrix/key/"):
		return "federation-api"
	}
	return "client-api"
}

// RoundTrip implements http.RoundTripper.
func (d *door) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	res, err := d.roundTrip(r, body)
	if err == nil {
		d.watch.see(r, res)
	}
	switch {
	case err != nil && r.Context().Err() == nil:
		d.refused("%s %s: %v", r.Method, r.URL.Path, err)
	case err == nil && res.StatusCode >= 500:
		body, err := io.ReadAll(res.Body)
		if err != nil {
			return nil, err
		}
		res.Body = io.NopCloser(bytes.NewReader(body))
		d.refused("%s %s: %s %s", r.Method, r.URL.Path, res.Status, body)
	}
	return res, err
}

// countRefusals begins to keep what clients are refused; the function returned
// ends that and returns it.
func (d *door) countRefusals() func() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counting = true
	return func() []string {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.counting = false
		return d.refusals
	}
}

func (d *door) refused(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.counting {
		d.refusals = append(d.refusals, fmt.Sprintf(format, args...))
	}
}

func (d *door) roundTrip(r *http.Request, body []byte) (*http.Response, error) {
	all := d.instances(roleOf(r.Method, r.URL.EscapedPath()))
	var failed []error
	for _, i := range rand.Perm(len(all)) {
		again := r.Clone(r.Context())
		again.URL.Host, again.Body = all[i].public, io.NopCloser(bytes.NewReader(body))
		began := time.Now()
		res, err := d.transport.RoundTrip(again)
		if err == nil {
			return res, nil
		}
		failed = append(failed, fmt.Errorf("%v, after %v: %w", all[i], time.Since(began), err))
		var dialling *net.OpError
		unsent := errors.As(err, &dialling) && dialling.Op == "dial"
		if r.Context().Err() != nil || !unsent && r.Method == http.MethodPost {
			break
		}
	}
	return nil, errors.Join(failed...)
}
