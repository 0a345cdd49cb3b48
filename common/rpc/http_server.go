package rpc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/sqldb"
)

// Bounds of calls between processes where options say nothing else.
const (
	DefaultMaxRequest  = 16 << 20  // bytes
	DefaultMaxResponse = 128 << 20 // bytes: all the state of a very large room
	DefaultCallTimeout = time.Minute
	// DefaultAttemptTimeout is how long a process is given that may hang.
	DefaultAttemptTimeout = 3 * time.Second
	DefaultMaxCalls       = 1024

	// MinSecret is the length of the shortest shared secret, in bytes.
	MinSecret = 16
)

const (
	// bodyTimeout is how long a request's body may take to arrive.
	bodyTimeout = 30 * time.Second
	// answerTimeout bounds the writing of an answer.
	answerTimeout = time.Minute
	// retryOverloaded is when to come again to a process with too many calls.
	retryOverloaded = time.Second
)

// HandlerOptions is what an HTTP handler of methods is made of.
type HandlerOptions struct {
	// Server holds the methods; all are registered before the first call.
	Server *Server
	// Secret is what callers have to know; MinSecret bytes at least.
	Secret string
	Logger *logrus.Entry
	// Metrics may be nil.
	Metrics prometheus.Registerer
	// MaxRequest and MaxResponse bound bodies, in bytes; zero means the default.
	MaxRequest, MaxResponse int64
	// Timeout bounds a call; zero means DefaultCallTimeout.
	Timeout time.Duration
	// MaxCalls bounds the calls in progress; further ones are answered 503
	// M_UNKNOWN with Retry-After. Zero means DefaultMaxCalls.
	MaxCalls int
	// Leaving, if not nil, is closed when the process is about to stop: answers
	// then tell callers to ask another one.
	Leaving <-chan struct{}
}

// httpHandler serves the methods of a Server to other processes.
type httpHandler struct {
	HandlerOptions
	codec   *codec
	secret  [sha256.Size]byte
	calls   chan struct{} // holds an element per call in progress
	metrics *metrics
	mux     *http.ServeMux
}

// NewHTTPHandler makes the handler that serves a Server's methods to HTTPClients
// of other processes. It belongs on a listener that only they can reach
// (httpapi.Serve gives it timeouts, TLS and a graceful stop).
func NewHTTPHandler(o HandlerOptions) (http.Handler, error) {
	if err := checkSecret(o.Secret); err != nil {
		return nil, err
	}
	o.MaxRequest, o.MaxResponse = orDefault(o.MaxRequest, DefaultMaxRequest), orDefault(o.MaxResponse, DefaultMaxResponse)
	o.Timeout, o.MaxCalls = orDefault(o.Timeout, DefaultCallTimeout), orDefault(o.MaxCalls, DefaultMaxCalls)
	m, err := newMetrics(o.Metrics, "server")
	if err != nil {
		return nil, fmt.Errorf("rpc: metrics: %w", err)
	}
	h := &httpHandler{
		HandlerOptions: o, codec: newCodec(), secret: sha256.Sum256([]byte(o.Secret)),
		calls: make(chan struct{}, o.MaxCalls), metrics: m, mux: http.NewServeMux(),
	}
	h.mux.HandleFunc("POST "+pathPrefix+"{service}/{method}", h.serve)
	return h, nil
}

func checkSecret(secret string) error {
	if len(secret) < MinSecret {
		return fmt.Errorf("rpc: the shared secret has %d bytes, it needs at least %d", len(secret), MinSecret)
	}
	// It is sent in a header, where these would not arrive.
	if strings.ContainsFunc(secret, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		return errors.New("rpc: the shared secret may only hold visible ASCII characters, and no spaces")
	}
	return nil
}

func orDefault[T int | int64 | time.Duration](v, otherwise T) T {
	if v <= 0 {
		return otherwise
	}
	return v
}

// ServeHTTP implements http.Handler.
func (h *httpHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// Also for a body that nobody reads. Writers without deadlines are those of tests.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	if !h.knowsSecret(r) {
		w.Header().Set("Connection", "close")
		h.refuse(w, http.StatusUnauthorized, "the shared secret is not this server's")
		return
	}
	select {
	case <-h.Leaving:
		w.Header().Set(leavingHeader, "1")
		w.Header().Set("Connection", "close")
	default:
	}
	h.mux.ServeHTTP(w, r)
}

// knowsSecret compares digests, so that the time it takes says nothing about
// the secret, its length included.
func (h *httpHandler) knowsSecret(r *http.Request) bool {
	given, ok := strings.CutPrefix(r.Header.Get("Authorization"), bearer)
	digest := sha256.Sum256([]byte(given))
	return subtle.ConstantTimeCompare(digest[:], h.secret[:]) == 1 && ok
}

// serve answers one call.
func (h *httpHandler) serve(w http.ResponseWriter, r *http.Request) {
	call := Call{Service: r.PathValue("service"), Method: r.PathValue("method")}
	method, ok := h.Server.methods[call.String()]
	if !ok {
		h.refuse(w, http.StatusNotFound, fmt.Sprintf("no method %q in this process", call))
		return
	}
	began := time.Now()
	select {
	case h.calls <- struct{}{}:
		defer func() { <-h.calls }()
	default:
		h.metrics.ended(call, began, codeOverloaded)
		h.fail(w, r, call, matrixerror.Unavailable(retryOverloaded, "The server is overloaded, try again later"))
		return
	}
	call.Request = method.newRequest()
	if !h.readRequest(w, r, call.Request) {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), h.Timeout)
	defer cancel()
	response, err := h.invoke(ctx, method, call)
	switch {
	case err != nil && r.Context().Err() != nil:
		h.metrics.ended(call, began, codeAbandoned)
		h.Logger.WithField("call", call).WithError(err).Debug("Call abandoned")
		h.refuse(w, http.StatusServiceUnavailable, "the call was abandoned")
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil:
		h.metrics.ended(call, began, codeTimeout)
		h.Logger.WithField("call", call).WithError(err).Warn("Call took too long")
		h.refuse(w, http.StatusGatewayTimeout, fmt.Sprintf("%s took longer than %s", call, h.Timeout))
	case err != nil:
		h.metrics.ended(call, began, codeOf(err))
		h.fail(w, r, call, err)
	default:
		h.metrics.ended(call, began, "")
		h.succeed(w, r, call, response)
	}
}

// succeed answers what a method returned without an error.
func (h *httpHandler) succeed(w http.ResponseWriter, r *http.Request, call Call, response any) {
	if response == nil {
		h.send(w, http.StatusNoContent, "", nil)
		return
	}
	h.answer(w, r, call, http.StatusOK, response)
}

// readRequest reads the body into request, or answers what is wrong with it.
func (h *httpHandler) readRequest(w http.ResponseWriter, r *http.Request, request any) bool {
	buf := h.codec.buffer()
	defer h.codec.keep(buf)
	err := readBounded(buf, r.Body, r.ContentLength, h.MaxRequest)
	if errors.Is(err, errTooLarge) {
		w.Header().Set("Connection", "close")
		h.refuse(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the request is larger than %d bytes", h.MaxRequest))
		return false
	}
	if err == nil {
		err = h.codec.decode(buf.Bytes(), request)
	}
	if err != nil {
		h.refuse(w, http.StatusBadRequest, "the request is not understood: "+errorText(err))
		return false
	}
	// The method may take long; only the body had a deadline.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	return true
}

// readBounded reads from into buf until its end, which comes within limit
// bytes or is errTooLarge. announced is the Content-Length, -1 for none.
func readBounded(buf *bytes.Buffer, from io.Reader, announced, limit int64) error {
	if announced > limit {
		return errTooLarge
	}
	if announced > 0 { // room for all of it, as far as one may believe that it comes
		buf.Grow(int(min(announced, maxPooled-bytes.MinRead)) + bytes.MinRead)
	}
	if _, err := buf.ReadFrom(io.LimitReader(from, limit+1)); err != nil {
		return err
	}
	if int64(buf.Len()) > limit {
		return errTooLarge
	}
	return nil
}

// invoke calls the method. A panic is an error like another: one call must not
// end the process.
func (h *httpHandler) invoke(ctx context.Context, method handler, call Call) (response any, err error) {
	defer func() {
		if p := recover(); p != nil {
			h.Logger.WithField("call", call).WithField("stack", string(debug.Stack())).Errorf("Panic in a call: %v", p)
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return method.call(ctx, call.Request)
}

// knownError is what a caller is told of a method's error; nil for those that
// are nobody's but this process's. What a log or a store cannot do now, it can
// at another time, and a deadline within the method is no fault of it.
func knownError(err error) *matrixerror.Error {
	if known := matrixerror.From(err); known != nil {
		return known
	}
	switch {
	case errors.Is(err, eventlog.ErrUnavailable), errors.Is(err, sqldb.ErrUnavailable):
		return matrixerror.Unavailable(retryUnreachable, "The server cannot store or read anything now, try again later")
	case errors.Is(err, context.DeadlineExceeded):
		return matrixerror.New(http.StatusGatewayTimeout, "M_UNKNOWN", "The server took too long")
	}
	return nil
}

// fail answers a method's error.
func (h *httpHandler) fail(w http.ResponseWriter, r *http.Request, call Call, err error) {
	if known := knownError(err); known != nil {
		if matrixerror.From(err) == nil { // the caller is not told why
			h.Logger.WithField("call", call).WithError(err).Warn("Call failed for now")
		}
		body, encoding := newErrorBody(known)
		if encoding == nil {
			h.answer(w, r, call, http.StatusUnprocessableEntity, body)
			return
		}
		err = encoding
	}
	// The caller logs it where it matters.
	h.Logger.WithField("call", call).WithError(err).Debug("Call failed")
	h.refuse(w, http.StatusInternalServerError, errorText(err))
}

// answer sends what a method returned.
func (h *httpHandler) answer(w http.ResponseWriter, r *http.Request, call Call, status int, body any) {
	buf := h.codec.buffer()
	defer h.codec.keep(buf)
	encode, as := h.codec.encode, contentType
	if r.Header.Get("Accept") == blobsType {
		encode, as = h.codec.encodeBlobs, blobsType
	}
	if err := encode(buf, h.MaxResponse, body); err != nil {
		h.Logger.WithField("call", call).WithError(err).Error("An answer cannot be sent to another process")
		h.refuse(w, http.StatusInternalServerError, "the answer cannot be sent: "+errorText(err))
		return
	}
	h.send(w, status, as, buf.Bytes())
}

// refuse answers with a text for operators.
func (h *httpHandler) refuse(w http.ResponseWriter, status int, text string) {
	h.send(w, status, "text/plain; charset=utf-8", []byte(text))
}

func (h *httpHandler) send(w http.ResponseWriter, status int, contentType string, body []byte) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTimeout))
	if status == http.StatusNoContent {
		w.WriteHeader(status)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if _, err := w.Write(body); err != nil {
		h.Logger.WithError(err).Debug("The caller has gone")
	}
}
