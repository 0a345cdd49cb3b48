package httpapi

import (
	"net/url"
	"strconv"

	"github.com/matrix-org/dendrite/common/matrixerror"
)

// Query returns the query parameters, parsed once.
func (r *Request) Query() url.Values {
	if r.query == nil {
		r.query = r.URL.Query()
	}
	return r.query
}

// QueryString is the first value of a query parameter, or "".
func (r *Request) QueryString(name string) string { return r.Query().Get(name) }

// QueryInt is a query parameter that is a whole number, or otherwise where it
// is left out; what is not a number is 400 M_INVALID_PARAM. Bounds are the
// caller's.
func (r *Request) QueryInt(name string, otherwise int64) (int64, error) {
	text := r.QueryString(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, matrixerror.InvalidParam("The parameter %s is not a whole number", name)
	}
	return n, nil
}

// QueryBool is a query parameter that is true or false, or otherwise where it
// is left out; anything else is 400 M_INVALID_PARAM.
func (r *Request) QueryBool(name string, otherwise bool) (bool, error) {
	switch r.QueryString(name) {
	case "":
		return otherwise, nil
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, matrixerror.InvalidParam("The parameter %s is neither true nor false", name)
}
