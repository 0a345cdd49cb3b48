package rpc

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"golang.org/x/time/rate"

	"github.com/matrix-org/dendrite/common/matrixerror"
)

const (
	dialTimeout      = 2 * time.Second
	idleConnTimeout  = 90 * time.Second
	maxIdlePerHost   = 64
	maxConnsPerHost  = 512
	maxAnswerHeaders = 16 << 10 // bytes
	// nextAttempt is how long to wait before a call is made again.
	nextAttempt = 20 * time.Millisecond
	// maxAttempts bounds the attempts of a call: of several instances some may
	// be away.
	maxAttempts = 5
	// retryUnreachable is what a client is told when a process is away.
	retryUnreachable = 2 * time.Second
	// failuresLogged is how often failing calls are logged at most.
	failuresLogged = time.Second
)

// ClientOptions is what an HTTPClient is made of.
type ClientOptions struct {
	// Address gives the base URL of a process that serves the service, for
	// instance http://10.0.0.7:8010. key is the RoutingKey of a Routed request,
	// "" for others. It is asked for each attempt.
	Address func(ctx context.Context, service, key string) (string, error)
	// Outcome, if not nil, is told what came of asking the process with that base
	// URL, so that Address can choose another one next time.
	Outcome func(base string, o Outcome)
	// Secret is the servers' shared secret; MinSecret bytes at least.
	Secret string
	Logger *logrus.Entry
	// Metrics may be nil.
	Metrics prometheus.Registerer
	// MaxRequest and MaxResponse bound bodies, in bytes; zero means the default.
	MaxRequest, MaxResponse int64
	// Timeout bounds a call with all its attempts; zero means DefaultCallTimeout.
	Timeout time.Duration
	// AttemptTimeout bounds each attempt of a harmless call but the last, so that
	// a process that hangs is passed over; zero means DefaultAttemptTimeout.
	AttemptTimeout time.Duration
	// TLS is for https addresses, for instance with a client certificate; nil
	// means the system's authorities.
	TLS *tls.Config
}

// Outcome is what came of asking a process.
type Outcome int

const (
	// Answered: it did.
	Answered Outcome = iota
	// Gone: it did not, or said that it is about to stop.
	Gone
	// Hung: it has not answered for long.
	Hung
)

// HTTPClient is the Caller of methods that other processes serve. Its methods
// are safe for concurrent use.
type HTTPClient struct {
	ClientOptions
	codec   *codec
	client  *http.Client
	metrics *metrics
	logged  rate.Sometimes
}

// NewHTTPClient makes a client; Close frees its connections.
func NewHTTPClient(o ClientOptions) (*HTTPClient, error) {
	if err := checkSecret(o.Secret); err != nil {
		return nil, err
	}
	o.MaxRequest, o.MaxResponse = orDefault(o.MaxRequest, DefaultMaxRequest), orDefault(o.MaxResponse, DefaultMaxResponse)
	o.Timeout = orDefault(o.Timeout, DefaultCallTimeout)
	o.AttemptTimeout = orDefault(o.AttemptTimeout, DefaultAttemptTimeout)
	m, err := newMetrics(o.Metrics, "client")
	if err != nil {
		return nil, fmt.Errorf("rpc: metrics: %w", err)
	}
	return &HTTPClient{
		ClientOptions: o, codec: newCodec(), metrics: m, logged: rate.Sometimes{Interval: failuresLogged},
		client: &http.Client{
			// Nobody but the address asked gets the secret: no redirects, no
			// proxies of the environment.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{
				DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
				TLSClientConfig:     o.TLS,
				TLSHandshakeTimeout: dialTimeout,
				IdleConnTimeout:     idleConnTimeout, MaxIdleConnsPerHost: maxIdlePerHost, MaxConnsPerHost: maxConnsPerHost,
				MaxResponseHeaderBytes: maxAnswerHeaders, DisableCompression: true,
			},
		},
	}, nil
}

// Close closes connections that are not in use.
func (c *HTTPClient) Close() { c.client.CloseIdleConnections() }

// unansweredError is a call that has no answer of its method: nobody knows
// whether it took place.
type unansweredError struct {
	cause error
	// unsent tells that the call did not take place.
	unsent bool
	// tooSlow tells that the method would be as slow again.
	tooSlow bool
}

func (e *unansweredError) Error() string { return "no answer: " + e.cause.Error() }
func (e *unansweredError) Unwrap() error { return e.cause }

// Invoke implements Caller. Where no answer of the method comes, be the process
// away or too slow, the error is 503 with Retry-After, unless ctx has ended:
// then it is ctx's.
func (c *HTTPClient) Invoke(ctx context.Context, call Call) (any, error) {
	// Not from the codec's: the transport may still read it when the call has ended.
	buf := new(bytes.Buffer)
	if err := c.codec.encode(buf, c.MaxRequest, call.Request); err != nil {
		return nil, fmt.Errorf("rpc: request of %s: %w", call, err)
	}
	limited, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	began := time.Now()
	response, err := c.attempts(limited, call, buf.Bytes())
	var unanswered *unansweredError
	switch {
	case err == nil:
		c.metrics.ended(call, began, "")
		return response, nil
	case matrixerror.From(err) != nil:
		c.metrics.ended(call, began, codeOf(err))
		return nil, err
	case ctx.Err() != nil:
		c.metrics.ended(call, began, codeAbandoned)
		return nil, fmt.Errorf("rpc: %s: %w", call, ctx.Err())
	case errors.As(err, &unanswered):
		c.metrics.ended(call, began, codeUnanswered)
		c.logged.Do(func() { c.Logger.WithField("call", call).WithError(err).Warn("Another process does not answer") })
		return nil, fmt.Errorf("rpc: %s: %w: %w", call, matrixerror.Unavailable(retryUnreachable, "A part of the server is not available, try again later"), err)
	}
	c.metrics.ended(call, began, codeInternal)
	return nil, fmt.Errorf("rpc: %s: %w", call, err)
}

// attempts makes the call until it is answered, as often as it may be made. The
// error of one without an answer tells why each attempt had none.
func (c *HTTPClient) attempts(ctx context.Context, call Call, body []byte) (any, error) {
	var failed []error
	for n := 1; ; n++ {
		last := n == maxAttempts
		response, err := c.bounded(ctx, call, body, last || !call.Harmless)
		var unanswered *unansweredError
		if !errors.As(err, &unanswered) {
			return response, err
		}
		failed = append(failed, unanswered.cause)
		again := unanswered.unsent || call.Harmless && !unanswered.tooSlow
		if !again || last || !wait(ctx, nextAttempt<<(n-1)) {
			return nil, &unansweredError{cause: errors.Join(failed...)}
		}
		c.metrics.repeated.WithLabelValues(call.Service, call.Method).Inc()
	}
}

// bounded makes the call once, within AttemptTimeout unless patient.
func (c *HTTPClient) bounded(ctx context.Context, call Call, body []byte, patient bool) (any, error) {
	if patient {
		return c.attempt(ctx, call, body)
	}
	limited, cancel := context.WithTimeout(ctx, c.AttemptTimeout)
	defer cancel()
	return c.attempt(limited, call, body)
}

// wait is false when ctx ends first.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// attempt makes the call once.
func (c *HTTPClient) attempt(ctx context.Context, call Call, body []byte) (response any, err error) {
	key := ""
	if routed, ok := call.Request.(Routed); ok {
		key = routed.RoutingKey()
	}
	base, err := c.Address(ctx, call.Service, key)
	if err != nil {
		return nil, &unansweredError{cause: fmt.Errorf("address of %s: %w", call.Service, err), unsent: true}
	}
	target := strings.TrimRight(base, "/") + pathPrefix + url.PathEscape(call.Service) + "/" + url.PathEscape(call.Method)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", bearer+c.Secret)
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Accept", blobsType)
	res, err := c.client.Do(req)
	if err != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			c.outcome(base, Hung)
		} else if ctx.Err() == nil {
			c.outcome(base, Gone)
		}
		var dialling *net.OpError
		return nil, &unansweredError{cause: err, unsent: errors.As(err, &dialling) && dialling.Op == "dial"}
	}
	if res.Header.Get(leavingHeader) == "" {
		c.outcome(base, Answered)
	} else {
		c.outcome(base, Gone)
	}
	defer func() {
		if closing := res.Body.Close(); closing != nil && err == nil {
			err = &unansweredError{cause: closing}
		}
	}()
	return c.read(res, call)
}

func (c *HTTPClient) outcome(base string, o Outcome) {
	if c.Outcome != nil {
		c.Outcome(base, o)
	}
}

// read makes of an answer what the method returned.
func (c *HTTPClient) read(res *http.Response, call Call) (any, error) {
	switch res.StatusCode {
	case http.StatusOK, http.StatusUnprocessableEntity:
	case http.StatusNoContent:
		return nil, nil
	default:
		return nil, c.refusal(res)
	}
	buf := c.codec.buffer()
	defer c.codec.keep(buf)
	if err := readBounded(buf, res.Body, res.ContentLength, c.MaxResponse); err != nil {
		if errors.Is(err, errTooLarge) {
			return nil, fmt.Errorf("the answer is larger than %d bytes", c.MaxResponse)
		}
		return nil, &unansweredError{cause: err}
	}
	decode := c.codec.decode
	if res.Header.Get("Content-Type") == blobsType {
		decode = c.codec.decodeBlobs
	}
	if res.StatusCode == http.StatusOK {
		response := call.NewResponse()
		if err := decode(buf.Bytes(), response); err != nil {
			return nil, fmt.Errorf("the answer is not understood: %w", err)
		}
		return response, nil
	}
	var body errorBody
	err := decode(buf.Bytes(), &body)
	if err != nil {
		return nil, fmt.Errorf("the error is not understood: %w", err)
	}
	known, err := body.matrixError()
	if err != nil {
		return nil, fmt.Errorf("the error is not understood: %w", err)
	}
	return nil, known
}

// refusal is the error of an answer that is not the method's.
func (c *HTTPClient) refusal(res *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(res.Body, maxErrorText))
	if err != nil {
		return &unansweredError{cause: err}
	}
	err = fmt.Errorf("%s answered %d: %s", res.Request.URL.Host, res.StatusCode, strings.ToValidUTF8(string(text), ""))
	switch res.StatusCode {
	case http.StatusNotFound:
		return fmt.Errorf("%w: %w", ErrNoMethod, err)
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return &unansweredError{cause: err, tooSlow: res.StatusCode == http.StatusGatewayTimeout}
	}
	return err
}
