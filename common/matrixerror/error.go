package matrixerror

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Error is an error with a Matrix errcode.
// spec: client-server-api §standard-error-response
type Error struct {
	// Status is the HTTP status of the answer.
	Status int `json:"-"`
	// Code is the errcode, for instance M_FORBIDDEN.
	Code string `json:"errcode"`
	// Message is for humans; it never holds tokens or message content.
	Message string `json:"error"`
	// RetryAfter, when not zero, is sent as retry_after_ms and Retry-After.
	RetryAfter time.Duration `json:"-"`
	// SoftLogout marks M_UNKNOWN_TOKEN answers after which a client keeps its data.
	SoftLogout bool `json:"-"`
	// Fields are further top-level members of the answer, for instance
	// room_version of M_INCOMPATIBLE_ROOM_VERSION. May be nil.
	Fields map[string]any `json:"-"`
}

// Error implements error.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// New makes an error with the given HTTP status and errcode.
func New(status int, code, format string, args ...any) *Error {
	return &Error{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

// From finds the Error in err's chain; nil when there is none.
func From(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}

// Is tells whether err carries the given errcode.
func Is(err error, code string) bool {
	e := From(err)
	return e != nil && e.Code == code
}

// Forbidden is 403 M_FORBIDDEN.
func Forbidden(format string, args ...any) *Error {
	return New(http.StatusForbidden, "M_FORBIDDEN", format, args...)
}

// NotFound is 404 M_NOT_FOUND.
func NotFound(format string, args ...any) *Error {
	return New(http.StatusNotFound, "M_NOT_FOUND", format, args...)
}

// BadJSON is 400 M_BAD_JSON: well-formed JSON that is not what the endpoint takes.
func BadJSON(format string, args ...any) *Error {
	return New(http.StatusBadRequest, "M_BAD_JSON", format, args...)
}

// NotJSON is 400 M_NOT_JSON: a body that is not JSON.
func NotJSON(format string, args ...any) *Error {
	return New(http.StatusBadRequest, "M_NOT_JSON", format, args...)
}

// InvalidParam is 400 M_INVALID_PARAM.
func InvalidParam(format string, args ...any) *Error {
	return New(http.StatusBadRequest, "M_INVALID_PARAM", format, args...)
}

// MissingParam is 400 M_MISSING_PARAM.
func MissingParam(format string, args ...any) *Error {
	return New(http.StatusBadRequest, "M_MISSING_PARAM", format, args...)
}

// TooLarge is 413 M_TOO_LARGE.
func TooLarge(format string, args ...any) *Error {
	return New(http.StatusRequestEntityTooLarge, "M_TOO_LARGE", format, args...)
}

// UnknownToken is 401 M_UNKNOWN_TOKEN.
func UnknownToken(format string, args ...any) *Error {
	return New(http.StatusUnauthorized, "M_UNKNOWN_TOKEN", format, args...)
}

// LimitExceeded is 429 M_LIMIT_EXCEEDED with the time after which to retry.
func LimitExceeded(retryAfter time.Duration) *Error {
	e := New(http.StatusTooManyRequests, "M_LIMIT_EXCEEDED", "Too many requests")
	e.RetryAfter = retryAfter
	return e
}

// Unavailable is 503 with Retry-After: back-pressure or a dependency that is away.
func Unavailable(retryAfter time.Duration, format string, args ...any) *Error {
	e := New(http.StatusServiceUnavailable, "M_UNKNOWN", format, args...)
	e.RetryAfter = retryAfter
	return e
}

// CodeUserLimit is the errcode of UserLimit.
const CodeUserLimit = "M_USER_LIMIT_EXCEEDED"

// UserLimit says that an account has as much of something as it may have. The
// HTTP edge adds info_uri, which such answers must have.
// spec: client-server-api §common-error-codes
func UserLimit(status int, format string, args ...any) *Error {
	return New(status, CodeUserLimit, format, args...)
}
