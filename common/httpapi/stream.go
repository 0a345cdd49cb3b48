package httpapi

import (
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/matrix-org/dendrite/common/matrixerror"
)

// readRate is what a client that sends a streamed body must send in addition to
// the time for bodies, in bytes a second.
const readRate = 8 << 10

// Stream returns the body of a request to an endpoint with Endpoint.Stream: its
// reader fails with 413 M_TOO_LARGE over the endpoint's limit, with 408 when the
// client is slower than readRate, and with 400 when the body is cut. A body that
// is announced to be too large is refused at once.
func (r *Request) Stream() (io.Reader, error) {
	if !r.stream {
		return nil, errors.New("httpapi: the endpoint is none that streams")
	}
	if r.ContentLength > r.maxBody {
		return nil, errBodyTooLarge(r.maxBody)
	}
	return &stream{r: r, began: time.Now()}, nil
}

// stream is a body as it comes.
type stream struct {
	r     *Request
	began time.Time
	read  int64
}

// Read implements io.Reader.
func (s *stream) Read(p []byte) (int, error) {
	if s.r.Request.Body == nil {
		return 0, io.EOF
	}
	if s.r.writer != nil && s.r.bodyTimeout > 0 {
		// The more there was, the longer the rest may take. A writer without
		// deadlines is a test's.
		allowed := s.r.bodyTimeout + time.Duration(s.read/readRate)*time.Second
		_ = http.NewResponseController(s.r.writer).SetReadDeadline(s.began.Add(allowed))
	}
	n, err := s.r.Request.Body.Read(p)
	s.read += int64(n)
	switch {
	case s.read > s.r.maxBody:
		return 0, errBodyTooLarge(s.r.maxBody)
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF):
		if s.r.writer != nil {
			_ = http.NewResponseController(s.r.writer).SetReadDeadline(time.Time{}) // as ReadBody does
		}
		return n, io.EOF
	case errors.Is(err, os.ErrDeadlineExceeded):
		return n, matrixerror.New(http.StatusRequestTimeout, "M_UNKNOWN", "The request body took too long")
	}
	return n, matrixerror.New(http.StatusBadRequest, "M_UNKNOWN", "The request body could not be read")
}

// Content is an answer that is a file: it is sent as it is read, whole or in the
// ranges asked for, or not at all to who has it already (If-None-Match by the
// header's ETag, If-Modified-Since).
type Content struct {
	Header http.Header // Content-Type is among them
	Body   io.ReadSeekCloser
	// Size is that of Body; it bounds how long the client may take.
	Size     int64
	Modified time.Time
}

// serve writes the answer, closes the body and returns the status.
func (c *Content) serve(w http.ResponseWriter, r *http.Request) int {
	defer c.Body.Close() // it was only read
	h := w.Header()
	for name, values := range c.Header {
		h[name] = values
	}
	select {
	case <-Stopping(r.Context()):
		h.Set("Connection", "close")
	default:
	}
	allowed := writeTimeout + time.Duration(c.Size/writeRate)*time.Second
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(allowed))
	out := &statusWriter{ResponseWriter: w, status: http.StatusOK}
	http.ServeContent(out, r, "", c.Modified, c.Body)
	return out.status
}

// statusWriter knows the status that was written.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// ReadFrom implements io.ReaderFrom: files go out without passing through this
// process's memory where the writer below can do that.
func (w *statusWriter) ReadFrom(from io.Reader) (int64, error) {
	return io.Copy(w.ResponseWriter, from)
}

// Unwrap gives http.ResponseController the writer below.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
