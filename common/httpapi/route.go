package httpapi

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/matrixerror"
)

// Options is what a router is made from.
type Options struct {
	// Authenticator knows access tokens; nil refuses all of them.
	Authenticator Authenticator
	// Limits counts requests; nil limits nothing.
	Limits *Limiter
	Logger *logrus.Entry
	// Metrics may be nil. Routers may share one.
	Metrics prometheus.Registerer
	// MaxBody bounds bodies in bytes where the endpoint does not; zero means
	// DefaultMaxBody.
	MaxBody int64
	// BodyTimeout is how long a client may take to send a body; zero means
	// DefaultBodyTimeout.
	BodyTimeout time.Duration
	// InfoURI is where people read about this server: what answers say that
	// must name a page (info_uri). May be "".
	InfoURI string
	// TrustedProxies may say in X-Forwarded-For whose request it is.
	TrustedProxies []netip.Prefix
}

// edge is what the endpoints of a router have in common.
type edge struct {
	Options
	metrics *metrics
	pools   pools
}

// prefixes are the parts of the URL space, each with a ServeMux of its own; the
// first that fits is asked.
func prefixes() []string {
	return []string{
		"/_matrix/client/", "/_matrix/federation/", "/_matrix/key/", "/_matrix/media/",
		"/_matrix/", "/_synapse/", "/.well-known/", "/",
	}
}

// NewRouter makes the handler of all endpoints: everything that package httpapi
// promises. It fails when two endpoints want the same path, or when a metric
// cannot be registered.
func NewRouter(o Options, endpoints []Endpoint) (http.Handler, error) {
	if o.MaxBody <= 0 {
		o.MaxBody = DefaultMaxBody
	}
	if o.BodyTimeout <= 0 {
		o.BodyTimeout = DefaultBodyTimeout
	}
	m, err := newMetrics(o.Metrics)
	if err != nil {
		return nil, err
	}
	e := &edge{Options: o, metrics: m}
	outer := mux.NewRouter().SkipClean(true).UseEncodedPath()
	outer.Use(e.common)
	outer.NotFoundHandler = e.common(http.HandlerFunc(e.notFound))
	all := withOldPaths(endpoints)
	for _, prefix := range prefixes() {
		var own []Endpoint
		own, all = split(all, prefix)
		inner, err := e.serveMux(own)
		if err != nil {
			return nil, err
		}
		outer.PathPrefix(prefix).Handler(inner)
	}
	if len(all) > 0 {
		return nil, fmt.Errorf("httpapi: the path %q does not begin with /", all[0].Path)
	}
	return outer, nil
}

// withOldPaths adds the r0 path of whatever has a v3 path: they are the same
// API under an older name, and old clients still use it. What is served with a
// slash at its end is served without it too.
func withOldPaths(endpoints []Endpoint) []Endpoint {
	all := slices.Clone(endpoints)
	taken := map[string]bool{}
	for _, e := range endpoints {
		taken[e.Method+" "+e.Path] = true
	}
	for _, e := range endpoints {
		if bare, ok := strings.CutSuffix(e.Path, "/{$}"); ok && bare != "" && !taken[e.Method+" "+bare] {
			e.Path = bare
			all = append(all, e)
		}
	}
	for _, e := range slices.Clone(all) {
		if old := strings.Replace(e.Path, "/v3/", "/r0/", 1); old != e.Path && strings.HasPrefix(e.Path, "/_matrix/") {
			e.Path = old
			all = append(all, e)
		}
	}
	return all
}

func split(endpoints []Endpoint, prefix string) (own, rest []Endpoint) {
	for _, e := range endpoints {
		if strings.HasPrefix(e.Path, prefix) {
			own = append(own, e)
		} else {
			rest = append(rest, e)
		}
	}
	return own, rest
}

// serveMux routes the endpoints of one prefix. ServeMux matches the escaped
// path segment by segment, so that a value may hold %2F.
func (e *edge) serveMux(endpoints []Endpoint) (_ http.Handler, err error) {
	defer func() {
		if p := recover(); p != nil { // ServeMux says conflicts in no other way
			err = fmt.Errorf("httpapi: %v", p)
		}
	}()
	inner := http.NewServeMux()
	methods := map[string]bool{http.MethodHead: true}
	for _, endpoint := range endpoints {
		inner.Handle(endpoint.Method+" "+endpoint.Path, &route{edge: e, Endpoint: endpoint})
		methods[endpoint.Method] = true
	}
	inner.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { e.unrecognized(w, r, inner, methods) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if unclean(r.URL.EscapedPath()) { // ServeMux would redirect
			e.notFound(w, r)
			return
		}
		inner.ServeHTTP(w, r)
	}), nil
}

// unclean tells whether a path has empty or dot segments.
func unclean(path string) bool {
	return strings.Contains(path, "//") || strings.Contains(path, "/./") || strings.Contains(path, "/../") ||
		strings.HasSuffix(path, "/.") || strings.HasSuffix(path, "/..")
}

// unrecognized answers what no endpoint matches: 405 when another method would.
// spec: client-server-api §common-error-codes
func (e *edge) unrecognized(w http.ResponseWriter, r *http.Request, inner *http.ServeMux, methods map[string]bool) {
	var allowed []string
	for method := range methods {
		other := *r
		other.Method = method
		if _, pattern := inner.Handler(&other); pattern != "" && pattern != "/" {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) == 0 {
		e.notFound(w, r)
		return
	}
	slices.Sort(allowed)
	w.Header().Set("Allow", strings.Join(append(allowed, http.MethodOptions), ", "))
	e.metrics.count(r.Method, "unrecognized", http.StatusMethodNotAllowed)
	e.pools.sendError(w, r, matrixerror.New(http.StatusMethodNotAllowed, "M_UNRECOGNIZED", "This path is not served with that method"))
}

func (e *edge) notFound(w http.ResponseWriter, r *http.Request) {
	e.metrics.count(r.Method, "unrecognized", http.StatusNotFound)
	e.pools.sendError(w, r, matrixerror.New(http.StatusNotFound, "M_UNRECOGNIZED", "Unrecognized request"))
}

// requestIDHeader names a request to who asks about it.
const requestIDHeader = "X-Request-Id"

// common gives every answer its CORS headers and ID, and answers preflights.
// spec: client-server-api §web-browser-clients
func (e *edge) common(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE, OPTIONS")
		h.Set("Access-Control-Allow-Headers", "X-Requested-With, Content-Type, Authorization")
		h.Set("Access-Control-Expose-Headers", "Retry-After, X-Request-Id")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set(requestIDHeader, fmt.Sprintf("%016x", rand.Uint64()))
		if r.Method == http.MethodOptions {
			h.Set("Access-Control-Max-Age", "86400")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}
