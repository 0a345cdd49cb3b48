package rpc

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/matrixerror"
)

// Between processes a call is
//
//	POST /internal/v1/{service}/{method}
//	Authorization: Bearer <shared secret>
//
// with the JSON of the request, and its answer is one of
//
//	200  the JSON of the response
//	204  the method returned nil
//	422  the JSON of an errorBody: what the method says is a *matrixerror.Error,
//	     or a log or store that is not available now, or a deadline of its own
//	401 404 405 413 400  the call is wrong; text says why, for operators
//	500  the method failed otherwise, with the error's text
//	503  the call was abandoned, because the server stops
//	504  the method took too long
//
// Exported fields are what travels, as go-json-experiment writes them, but for:
// nil slices and maps are null and arrive as nil; a time.Duration is a number of
// nanoseconds; a jsontext.Value is a string that holds its text, so that it
// arrives byte for byte, and null when it is nil (in answers more cheaply, see
// blobs.go). Strings are made valid UTF-8,
// as JSON wants them. Unknown members are passed over, so that versions N and
// N+1 understand each other.
const (
	pathPrefix  = "/internal/v1/"
	contentType = "application/json"
	bearer      = "Bearer "
	// leavingHeader stands in the answers of a process that is about to stop.
	leavingHeader = "Dendrite-Leaving"
)

// maxErrorText bounds the text of an error that is not a Matrix error, in bytes.
const maxErrorText = 1 << 10

// maxPooled bounds the buffers that are kept, in bytes.
const maxPooled = 1 << 20

var errTooLarge = errors.New("larger than the limit")

// errorBody is a *matrixerror.Error on its way.
type errorBody struct {
	Status     int            `json:"status"`
	Code       string         `json:"errcode"`
	Message    string         `json:"error"`
	RetryAfter time.Duration  `json:"retry_after,omitzero"`
	SoftLogout bool           `json:"soft_logout,omitzero"`
	Fields     jsontext.Value `json:"fields,omitzero"`
}

func newErrorBody(e *matrixerror.Error) (*errorBody, error) {
	b := &errorBody{Status: e.Status, Code: e.Code, Message: e.Message, RetryAfter: e.RetryAfter, SoftLogout: e.SoftLogout}
	if e.Fields == nil {
		return b, nil
	}
	// Fields are what a client will see, so they are plain JSON already here.
	var err error
	if b.Fields, err = json.Marshal(e.Fields, jsontext.AllowInvalidUTF8(true)); err != nil {
		return nil, fmt.Errorf("fields of %s: %w", e.Code, err)
	}
	return b, nil
}

func (b *errorBody) matrixError() (*matrixerror.Error, error) {
	e := &matrixerror.Error{Status: b.Status, Code: b.Code, Message: b.Message, RetryAfter: b.RetryAfter, SoftLogout: b.SoftLogout}
	if b.Status < 100 || b.Status > 999 || b.Code == "" { // net/http would panic on it at the edge
		return nil, fmt.Errorf("status %d, errcode %q", b.Status, b.Code)
	}
	if b.Fields == nil {
		return e, nil
	}
	if err := json.Unmarshal(b.Fields, &e.Fields); err != nil {
		return nil, fmt.Errorf("fields of %s: %w", b.Code, err)
	}
	return e, nil
}

// codec turns values into what travels and back. It is safe for concurrent use.
type codec struct {
	options json.Options
	buffers sync.Pool
	blobs   sync.Pool // of *blobs
}

func newCodec() *codec {
	return &codec{
		options: jsonOptions(json.MarshalToFunc(marshalValue), json.UnmarshalFromFunc(unmarshalValue)),
		blobs:   sync.Pool{New: func() any { return newBlobs() }},
	}
}

// jsonOptions are those of all that travels; raw values are what differs.
func jsonOptions(marshalRaw *json.Marshalers, unmarshalRaw *json.Unmarshalers) json.Options {
	return json.JoinOptions(
		json.FormatNilSliceAsNull(true), json.FormatNilMapAsNull(true), jsontext.AllowInvalidUTF8(true),
		json.WithMarshalers(json.JoinMarshalers(marshalRaw, json.MarshalToFunc(marshalDuration))),
		json.WithUnmarshalers(json.JoinUnmarshalers(unmarshalRaw, json.UnmarshalFromFunc(unmarshalDuration))),
	)
}

func marshalValue(e *jsontext.Encoder, v jsontext.Value) error {
	switch {
	case v == nil:
		return e.WriteToken(jsontext.Null)
	case !utf8.Valid(v): // it would arrive as something else
		return errors.New("a raw JSON value is not UTF-8")
	}
	return e.WriteToken(jsontext.String(string(v)))
}

func unmarshalValue(d *jsontext.Decoder, v *jsontext.Value) error {
	token, err := d.ReadToken()
	if err != nil {
		return err
	}
	switch token.Kind() {
	case 'n':
		*v = nil
	case '"':
		*v = jsontext.Value(token.String())
	default:
		return fmt.Errorf("a raw JSON value comes as %s", token.Kind())
	}
	return nil
}

func marshalDuration(e *jsontext.Encoder, d time.Duration) error {
	return e.WriteToken(jsontext.Int(int64(d)))
}

func unmarshalDuration(d *jsontext.Decoder, v *time.Duration) error {
	var nanoseconds int64
	if err := json.UnmarshalDecode(d, &nanoseconds); err != nil {
		return err
	}
	*v = time.Duration(nanoseconds)
	return nil
}

func (c *codec) buffer() *bytes.Buffer {
	if b, ok := c.buffers.Get().(*bytes.Buffer); ok {
		b.Reset()
		return b
	}
	return new(bytes.Buffer)
}

func (c *codec) keep(b *bytes.Buffer) {
	if b.Cap() <= maxPooled {
		c.buffers.Put(b)
	}
}

// encode writes v to buf, of which no more than limit bytes are used.
func (c *codec) encode(buf *bytes.Buffer, limit int64, v any) error {
	return json.MarshalWrite(boundedWriter{buf, limit}, v, c.options)
}

func (c *codec) decode(body []byte, v any) error { return json.Unmarshal(body, v, c.options) }

// Travel sets arrived to what another process gets of a value that is sent to it.
// Tests ask for that of what their methods carry; both are pointers to one type.
func Travel(sent, arrived any) error {
	c, buf := newCodec(), new(bytes.Buffer)
	if err := c.encode(buf, DefaultMaxResponse, sent); err != nil {
		return fmt.Errorf("rpc: encoding: %w", err)
	}
	if err := c.decode(buf.Bytes(), arrived); err != nil {
		return fmt.Errorf("rpc: decoding: %w", err)
	}
	return nil
}

// boundedWriter fails rather than let a buffer grow over a limit.
type boundedWriter struct {
	to    *bytes.Buffer
	limit int64
}

func (w boundedWriter) Write(p []byte) (int, error) {
	if int64(w.to.Len()+len(p)) > w.limit {
		return 0, errTooLarge
	}
	return w.to.Write(p)
}

// errorText is an error's text as it may travel.
func errorText(err error) string {
	text := err.Error()
	return strings.ToValidUTF8(text[:min(len(text), maxErrorText)], "")
}
