// Package httpapi is the HTTP edge: what every public endpoint shares. It
// routes (gorilla/mux for prefixes, net/http's ServeMux below them), answers
// CORS preflights, bounds bodies and nesting, checks access tokens through an
// Authenticator, rate-limits, gives each request an ID, turns errors into
// Matrix errors, recovers panics, and counts and logs requests. Bodies that need
// not fit into memory are read, and files are answered, as they come (stream.go).
//
// Serve runs a server of such a router: it bounds headers and times, and when it
// stops it tells those who wait (Stopping), so that they answer early.
//
// It owns no topic and no table. A Router is filled before it serves and is
// safe for concurrent use after that.
package httpapi
