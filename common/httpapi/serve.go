package httpapi

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/matrixerror"
)

// route serves one endpoint.
type route struct {
	*edge
	Endpoint
}

// ServeHTTP implements http.Handler.
func (t *route) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	started := time.Now()
	r := &Request{
		Request: req, ID: w.Header().Get(requestIDHeader), RemoteIP: remoteAddress(req, t.TrustedProxies),
		writer: w, maxBody: t.maxBody(), bodyTimeout: t.BodyTimeout, stream: t.Stream, limits: t.Limits,
	}
	if req.ContentLength != 0 {
		// The deadline also holds for a body that nobody reads. Writers without
		// deadlines are those of tests.
		control := http.NewResponseController(w)
		_ = control.SetWriteDeadline(time.Time{})
		_ = control.SetReadDeadline(started.Add(t.BodyTimeout))
	}
	value, err := t.handle(r)
	status := 0
	if err == nil {
		status, err = t.answer(w, r, value)
	}
	if err != nil {
		status = t.fail(w, r, err)
		drain(w, req)
	}
	taken := time.Since(started)
	t.metrics.observe(t.Method, t.Path, status, taken)
	if t.Logger.Logger.IsLevelEnabled(logrus.DebugLevel) {
		t.Logger.WithFields(logrus.Fields{
			"request": r.ID, "method": req.Method, "endpoint": t.Path, "status": status, "taken": taken,
		}).Debug("Request answered")
	}
}

// maxDrained bounds what is read of a body that was refused.
const maxDrained = 8 << 20

// drain reads the rest of the body of a request after which the connection is
// closed, as reverse proxies ask for: net/http closes it with the body unread,
// and then the answer is lost to whoever is still sending.
func drain(w http.ResponseWriter, r *http.Request) {
	if !r.Close || r.ContentLength == 0 || http.NewResponseController(w).Flush() != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, r.Body, maxDrained) // it ends early with the body, the client or its deadline
}

func (t *route) maxBody() int64 {
	if t.Endpoint.MaxBody > 0 {
		return t.Endpoint.MaxBody
	}
	return t.Options.MaxBody
}

// handle checks the request and calls the endpoint's handler. A panic is an
// error like another: one request must not end the process.
func (t *route) handle(r *Request) (value any, err error) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if p == http.ErrAbortHandler { // asks net/http to close the connection
			panic(p)
		}
		t.Logger.WithField("request", r.ID).WithField("stack", string(debug.Stack())).Errorf("Panic in %s %s: %v", t.Method, t.Path, p)
		err = fmt.Errorf("panic: %v", p)
	}()
	if t.Limit.byAddress() {
		if err := allow(r, t.Limit, t.Limits); err != nil {
			return nil, err
		}
	}
	if err := identify(r, t.Access, t.Authenticator); err != nil {
		return nil, err
	}
	if !t.Limit.byAddress() {
		if err := allow(r, t.Limit, t.Limits); err != nil {
			return nil, err
		}
	}
	return t.Handler(r)
}

// answer writes what the handler returned.
func (t *route) answer(w http.ResponseWriter, r *Request, value any) (int, error) {
	if content, ok := value.(*Content); ok {
		return content.serve(w, r.Request), nil
	}
	if raw, ok := value.(*Raw); ok {
		status := raw.Status
		if status == 0 {
			status = http.StatusOK
		}
		maps.Copy(w.Header(), raw.Header)
		t.pools.send(w, r.Request, status, raw.Body)
		return status, nil
	}
	buf := t.pools.buffer()
	defer t.pools.keep(buf)
	body, err := encode(buf, value)
	if err != nil {
		return 0, fmt.Errorf("encoding the answer: %w", err)
	}
	t.pools.send(w, r.Request, http.StatusOK, body)
	return http.StatusOK, nil
}

// fail writes the answer that an error is.
func (t *route) fail(w http.ResponseWriter, r *Request, err error) int {
	if matrixerror.From(err) == nil && context.Cause(r.Context()) != nil {
		// The client has gone, or the server closes: nobody reads an answer.
		t.Logger.WithField("request", r.ID).WithError(err).Debug("Request abandoned")
		return statusClientGone
	}
	e, unexpected := asMatrixError(err)
	if unexpected {
		t.Logger.WithError(err).WithFields(logrus.Fields{
			"request": r.ID, "method": t.Method, "endpoint": t.Path,
		}).Error("Request failed")
	}
	t.pools.sendError(w, r.Request, t.informed(e))
	return e.Status
}
