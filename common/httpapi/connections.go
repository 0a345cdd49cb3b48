package httpapi

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// drainFor bounds how long a server that stops waits for the requests of
// connections that it has accepted.
const drainFor = time.Second

// connections knows which connections of a server have a request in flight, or
// have been accepted for one that has not been read yet. A server that is shut
// down closes the latter without an answer (net/http does so even when it has just
// read the request), and a reverse proxy must not send a POST again.
type connections struct {
	mu   sync.Mutex
	busy map[net.Conn]struct{}
	// quiet is closed when nothing is busy any more; nil until somebody waits.
	quiet chan struct{}
}

func newConnections() *connections { return &connections{busy: map[net.Conn]struct{}{}} }

// note is the ConnState of a server.
func (c *connections) note(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew, http.StateActive:
		c.busy[conn] = struct{}{}
	case http.StateIdle, http.StateClosed, http.StateHijacked:
		delete(c.busy, conn)
		if c.quiet != nil && len(c.busy) == 0 {
			close(c.quiet)
			c.quiet = nil
		}
	}
}

// drain waits until nothing is busy, for a time that is bounded. Nothing is
// accepted any more.
func (c *connections) drain(ctx context.Context) {
	c.mu.Lock()
	if len(c.busy) == 0 {
		c.mu.Unlock()
		return
	}
	quiet := make(chan struct{})
	c.quiet = quiet
	c.mu.Unlock()
	enough := time.NewTimer(drainFor)
	defer enough.Stop()
	select {
	case <-quiet:
	case <-enough.C:
	case <-ctx.Done():
	}
}
