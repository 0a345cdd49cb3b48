package httpapi

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Handler answers a request with a value to be encoded as JSON, or an error.
// A nil value is answered as {}. A jsontext.Value is written as it is; a
// *Raw answers with another content type or status, a *Content with a file.
type Handler func(r *Request) (any, error)

// Raw is an answer that is not a 200 with JSON encoded by httpapi.
type Raw struct {
	Status int
	Header http.Header
	Body   []byte
}

// Request is a request that passed the edge's checks.
type Request struct {
	*http.Request
	// Device is whose access token the request carries; nil on endpoints without.
	Device *Device
	// ID names the request in logs and answers (X-Request-ID).
	ID string
	// RemoteIP is the client's address, taken from X-Forwarded-For only where
	// the configuration trusts the proxy.
	RemoteIP string

	// writer to bodyRead serve the reading of the body; see body.go.
	writer      http.ResponseWriter
	maxBody     int64
	bodyTimeout time.Duration
	body        []byte
	bodyRead    bool
	// stream says that the endpoint reads the body itself, by Request.Stream.
	stream bool
	query  url.Values
	limits *Limiter // of Count
}

// Count counts the request against a limit besides that of its endpoint: for
// handlers that know only from the body what is asked for.
func (r *Request) Count(limit Limit) error { return allow(r, limit, r.limits) }

// Authenticator tells whose access token it is. It answers 401
// M_UNKNOWN_TOKEN as a *matrixerror.Error.
type Authenticator interface {
	Authenticate(ctx context.Context, token string) (*Device, error)
}
