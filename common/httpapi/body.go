package httpapi

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/matrixerror"
)

// Bounds of bodies where neither endpoint nor configuration says otherwise.
const (
	// DefaultMaxBody is in bytes.
	DefaultMaxBody = 1 << 20
	// DefaultBodyTimeout is how long a client may take to send a body.
	DefaultBodyTimeout = 30 * time.Second
	// MaxDepth is how deeply the objects and arrays of a body may be nested.
	MaxDepth = 100
)

// firstRead bounds what is allocated because a client announces a long body.
const firstRead = 64 << 10

// ReadBody returns the bytes of the body as they came; it is read once. It fails
// with 413 M_TOO_LARGE over the endpoint's limit and with 408 when the client
// takes too long.
func (r *Request) ReadBody() ([]byte, error) {
	if r.bodyRead {
		return r.body, nil
	}
	if r.Request.Body == nil || r.Request.Body == http.NoBody {
		r.bodyRead = true
		return nil, nil
	}
	limit := r.maxBody
	if limit <= 0 {
		limit = DefaultMaxBody
	}
	if r.ContentLength > limit {
		return nil, errBodyTooLarge(limit)
	}
	body, err := readBody(r.Request.Body, limit, r.ContentLength)
	if err != nil {
		return nil, err
	}
	if r.writer != nil && r.bodyTimeout > 0 {
		// What follows may wait long; only the reading has a deadline. A
		// writer without deadlines has none to lift.
		_ = http.NewResponseController(r.writer).SetReadDeadline(time.Time{})
	}
	r.body, r.bodyRead = body, true
	return body, nil
}

func readBody(from io.Reader, limit, announced int64) ([]byte, error) {
	var buf bytes.Buffer
	if announced > 0 {
		buf.Grow(int(min(announced, firstRead)) + bytes.MinRead)
	}
	_, err := buf.ReadFrom(io.LimitReader(from, limit+1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, matrixerror.New(http.StatusRequestTimeout, "M_UNKNOWN", "The request body took too long")
	case err != nil:
		return nil, matrixerror.NotJSON("The request body could not be read")
	case int64(buf.Len()) > limit:
		return nil, errBodyTooLarge(limit)
	}
	return buf.Bytes(), nil
}

func errBodyTooLarge(limit int64) error {
	return matrixerror.TooLarge("The request body is larger than %d bytes", limit)
}

// Decode reads the body's one JSON value into v, strictly: a body that is not
// UTF-8 or not JSON, or has something behind the value, is 400 M_NOT_JSON; a
// value of the wrong type, null, a duplicate key or nesting deeper than
// MaxDepth is 400 M_BAD_JSON. Unknown members are ignored. An errcode that a
// type's own unmarshalling returns is passed on.
// spec: client-server-api §standard-error-response
func (r *Request) Decode(v any) error {
	body, err := r.ReadBody()
	if err != nil {
		return err
	}
	return decode(body, v)
}

// DecodeOptional is Decode for a body that may be left out: an empty one is
// like {}.
func (r *Request) DecodeOptional(v any) error {
	body, err := r.ReadBody()
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(body)) == 0 {
		body = []byte("{}")
	}
	return decode(body, v)
}

// DecodeRaw returns the body's JSON value as it is, checked as Decode does.
func (r *Request) DecodeRaw() (jsontext.Value, error) {
	body, err := r.ReadBody()
	if err != nil {
		return nil, err
	}
	if err := validate(body); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(body), nil
}

func decode(body []byte, v any) error {
	if err := checkShape(body); err != nil {
		return err
	}
	err := json.Unmarshal(body, v)
	if err == nil {
		return nil
	}
	var semantic *json.SemanticError
	if !errors.As(err, &semantic) {
		return syntaxError(err)
	}
	// A wrong type is found before what is broken behind it; then it is still
	// not JSON.
	if err := validate(body); err != nil {
		return err
	}
	if known := matrixerror.From(err); known != nil {
		return known
	}
	if semantic.JSONPointer == "" {
		return matrixerror.BadJSON("The request body is not what this endpoint takes")
	}
	return matrixerror.BadJSON("The value at %.200s is not what this endpoint takes", string(semantic.JSONPointer))
}

// validate is decode without a value to decode into.
func validate(body []byte) error {
	if err := checkShape(body); err != nil {
		return err
	}
	d := jsontext.NewDecoder(bytes.NewReader(body))
	if _, err := d.ReadValue(); err != nil {
		return syntaxError(err)
	}
	if _, err := d.ReadToken(); err != io.EOF {
		return matrixerror.NotJSON("Something follows the request body's JSON")
	}
	return nil
}

func syntaxError(err error) error {
	if errors.Is(err, jsontext.ErrDuplicateName) {
		return matrixerror.BadJSON("The request body has a key twice in one object")
	}
	return matrixerror.NotJSON("The request body is not JSON")
}

// checkShape refuses null and too deep nesting before anything is decoded. The
// rest of the syntax is the decoder's.
func checkShape(body []byte) error {
	if string(bytes.TrimSpace(body)) == "null" {
		return matrixerror.BadJSON("The request body is null")
	}
	depth, inString := 0, false
	for i := 0; i < len(body); i++ {
		c := body[i]
		switch {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > MaxDepth {
				return matrixerror.BadJSON("The request body is nested deeper than %d levels", MaxDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}
