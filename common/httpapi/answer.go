package httpapi

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/sqldb"
)

const (
	// compressFrom is the size from which an answer is compressed, in bytes.
	compressFrom = 4 << 10
	// maxPooled bounds the buffers kept for the next answer, in bytes.
	maxPooled = 1 << 20
	// writeTimeout bounds the writing of an answer; writeRate is what a slow
	// client must take in addition, in bytes a second.
	writeTimeout = 30 * time.Second
	writeRate    = 8 << 10
	// retryUnavailable is when to come again after a log or a store was not available.
	retryUnavailable = 2 * time.Second
	// statusClientGone stands in metrics for requests whose client went away.
	statusClientGone = 499
)

// pools keeps what answers are made with. Its zero value is ready.
type pools struct{ buffers, compressors sync.Pool }

func (p *pools) buffer() *bytes.Buffer {
	if b, ok := p.buffers.Get().(*bytes.Buffer); ok {
		b.Reset()
		return b
	}
	return new(bytes.Buffer)
}

func (p *pools) keep(b *bytes.Buffer) {
	if b.Cap() <= maxPooled {
		p.buffers.Put(b)
	}
}

// compress writes body to out in gzip.
func (p *pools) compress(out *bytes.Buffer, body []byte) error {
	z, ok := p.compressors.Get().(*gzip.Writer)
	if ok {
		z.Reset(out)
	} else {
		var err error
		if z, err = gzip.NewWriterLevel(out, gzip.BestSpeed); err != nil {
			return err
		}
	}
	defer p.compressors.Put(z)
	if _, err := z.Write(body); err != nil {
		return err
	}
	return z.Close()
}

// encode makes the JSON of an answer in buf, or returns what is JSON already.
func encode(buf *bytes.Buffer, value any) ([]byte, error) {
	switch v := value.(type) {
	case nil:
		return []byte("{}"), nil
	case jsontext.Value:
		return v, nil
	case *jsontext.Value:
		return *v, nil
	}
	if err := json.MarshalWrite(buf, value); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// send writes an answer, compressed where that is worth it.
func (p *pools) send(w http.ResponseWriter, r *http.Request, status int, body []byte) {
	h := w.Header()
	if h.Get("Content-Type") == "" && len(body) > 0 {
		h.Set("Content-Type", "application/json")
	}
	if len(body) > compressFrom && compressible(h) {
		h.Add("Vary", "Accept-Encoding")
		if acceptsGzip(r.Header.Get("Accept-Encoding")) {
			buf := p.buffer()
			defer p.keep(buf)
			if err := p.compress(buf, body); err == nil {
				h.Set("Content-Encoding", "gzip")
				body = buf.Bytes()
			}
		}
	}
	if status != http.StatusNoContent && status != http.StatusNotModified {
		h.Set("Content-Length", strconv.Itoa(len(body)))
	}
	select {
	case <-Stopping(r.Context()):
		h.Set("Connection", "close")
	default:
	}
	// A client that does not read must not hold the answer for ever. Writers
	// without deadlines are those of tests.
	allowed := writeTimeout + time.Duration(len(body)/writeRate)*time.Second
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(allowed))
	w.WriteHeader(status)
	// It fails when the client has gone: nobody is left to be told.
	_, _ = w.Write(body)
}

func compressible(h http.Header) bool {
	if h.Get("Content-Encoding") != "" {
		return false
	}
	kind := h.Get("Content-Type")
	return strings.HasPrefix(kind, "application/json") || strings.HasPrefix(kind, "text/")
}

// acceptsGzip reads an Accept-Encoding header.
func acceptsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		name, parameters, _ := strings.Cut(part, ";")
		if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
			continue
		}
		weight, ok := strings.CutPrefix(strings.ReplaceAll(parameters, " ", ""), "q=")
		if !ok {
			return true
		}
		q, err := strconv.ParseFloat(weight, 64)
		return err == nil && q > 0
	}
	return false
}

// errorAnswer is the standard error response.
// spec: client-server-api §standard-error-response
type errorAnswer struct {
	Code         string `json:"errcode"`
	Message      string `json:"error"`
	RetryAfterMS int64  `json:"retry_after_ms,omitzero"`
	SoftLogout   bool   `json:"soft_logout,omitzero"`
}

// asMatrixError turns an error into what the client is told, and tells whether
// it was unexpected.
func asMatrixError(err error) (e *matrixerror.Error, unexpected bool) {
	if e := matrixerror.From(err); e != nil {
		// 504 with an errcode of its own is an answer, to who has waited for others.
		expected := e.Status == http.StatusGatewayTimeout && e.Code != "M_UNKNOWN" || e.Status == http.StatusBadGateway
		return e, e.Status >= http.StatusInternalServerError && e.RetryAfter == 0 && !expected
	}
	switch {
	case errors.Is(err, eventlog.ErrUnavailable):
		return matrixerror.Unavailable(retryUnavailable, "The server is overloaded, try again later"), false
	case errors.Is(err, sqldb.ErrUnavailable): // an operator has to see why
		return matrixerror.Unavailable(retryUnavailable, "The server cannot store anything now, try again later"), true
	case errors.Is(err, context.DeadlineExceeded):
		return matrixerror.New(http.StatusGatewayTimeout, "M_UNKNOWN", "The server took too long"), true
	}
	return matrixerror.New(http.StatusInternalServerError, "M_UNKNOWN", "Internal server error"), true
}

// informed adds what answers with some errcodes must say.
// spec: client-server-api §common-error-codes
func (e *edge) informed(err *matrixerror.Error) *matrixerror.Error {
	if err.Code != matrixerror.CodeUserLimit || err.Fields["info_uri"] != nil {
		return err
	}
	full := *err
	full.Fields = map[string]any{"info_uri": e.InfoURI}
	maps.Copy(full.Fields, err.Fields)
	return &full
}

// sendError writes the answer that e is.
func (p *pools) sendError(w http.ResponseWriter, r *http.Request, e *matrixerror.Error) {
	answer := errorAnswer{Code: e.Code, Message: e.Message, SoftLogout: e.SoftLogout}
	if e.RetryAfter > 0 {
		answer.RetryAfterMS = max(1, (e.RetryAfter + time.Millisecond - 1).Milliseconds())
		seconds := int64((e.RetryAfter + time.Second - 1) / time.Second)
		w.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
	}
	buf := p.buffer()
	defer p.keep(buf)
	// Messages may quote what a client sent, whatever bytes that were.
	lenient := jsontext.AllowInvalidUTF8(true)
	err := json.MarshalWrite(buf, answer, lenient)
	if err == nil && len(e.Fields) > 0 {
		err = mergeFields(buf, e.Fields, lenient)
	}
	if err != nil {
		buf.Reset()
		_, _ = io.WriteString(buf, `{"errcode":"M_UNKNOWN","error":"Internal server error"}`)
	}
	p.send(w, r, e.Status, buf.Bytes())
}

// mergeFields adds the further members of an error to the object in buf; those
// that stand there already win.
func mergeFields(buf *bytes.Buffer, fields map[string]any, opts ...json.Options) error {
	var standard map[string]any
	if err := json.Unmarshal(buf.Bytes(), &standard); err != nil {
		return err
	}
	all := maps.Clone(fields)
	maps.Copy(all, standard)
	buf.Reset()
	return json.MarshalWrite(buf, all, append(opts, json.Deterministic(true))...)
}
