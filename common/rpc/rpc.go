package rpc

import (
	"context"
	"fmt"
)

// Routed is implemented by requests that are best answered by the owner of a
// partition; the key is the room ID or user ID that chooses it.
type Routed interface{ RoutingKey() string }

// Caller reaches the servers of methods: a *Server for direct calls in one
// process, an HTTP client between processes.
type Caller interface {
	// Invoke calls service/method with a *Req and returns a *Res.
	// newResponse makes an empty *Res for callers that have to decode one.
	Invoke(ctx context.Context, service, method string, request any, newResponse func() any) (any, error)
}

// Method is a remote procedure, declared once and typed on both sides.
type Method[Req, Res any] struct{ service, name string }

// NewMethod declares a method of a service.
func NewMethod[Req, Res any](service, name string) Method[Req, Res] {
	return Method[Req, Res]{service: service, name: name}
}

// Call asks the method's server. A *matrixerror.Error of the server arrives as such.
func (m Method[Req, Res]) Call(ctx context.Context, c Caller, req *Req) (*Res, error) {
	res, err := c.Invoke(ctx, m.service, m.name, req, func() any { return new(Res) })
	if err != nil {
		return nil, err
	}
	return res.(*Res), nil
}

// Serve registers the method's implementation with s.
func (m Method[Req, Res]) Serve(s *Server, f func(context.Context, *Req) (*Res, error)) {
	s.methods[m.service+"/"+m.name] = handler{
		newRequest: func() any { return new(Req) },
		call: func(ctx context.Context, req any) (any, error) {
			res, err := f(ctx, req.(*Req))
			if err != nil {
				return nil, err
			}
			return res, nil
		},
	}
}

type handler struct {
	newRequest func() any
	call       func(context.Context, any) (any, error)
}

// Server holds the methods that this process serves. All methods are
// registered before the first call.
type Server struct{ methods map[string]handler }

// NewServer makes an empty server.
func NewServer() *Server { return &Server{methods: map[string]handler{}} }

// Invoke implements Caller by a direct call.
func (s *Server) Invoke(ctx context.Context, service, method string, request any, _ func() any) (any, error) {
	h, ok := s.methods[service+"/"+method]
	if !ok {
		return nil, fmt.Errorf("rpc: no method %s/%s in this process", service, method)
	}
	return h.call(ctx, request)
}
