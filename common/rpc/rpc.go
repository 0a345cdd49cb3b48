package rpc

import (
	"context"
	"errors"
	"fmt"
	"reflect"
)

// ErrNoMethod says that a method is not served where it was called: for callers
// that may be of a later release than who is asked.
var ErrNoMethod = errors.New("rpc: no such method")

// Routed is implemented by requests that are best answered by the owner of a
// partition; the key is the room ID or user ID that chooses it.
type Routed interface{ RoutingKey() string }

// Call describes one call to a Caller.
type Call struct {
	Service, Method string
	// Request is a *Req.
	Request any
	// NewResponse makes an empty *Res for callers that have to decode one.
	NewResponse func() any
	// Harmless tells that the call may reach the method twice.
	Harmless bool
}

func (c Call) String() string { return c.Service + "/" + c.Method }

// Caller reaches the servers of methods: a *Server for direct calls in one
// process, an *HTTPClient between processes.
type Caller interface {
	// Invoke makes the call and returns a *Res, or nil where the method
	// returned nil. A *matrixerror.Error of the method arrives as such.
	Invoke(ctx context.Context, c Call) (any, error)
}

// Method is a remote procedure, declared once and typed on both sides.
type Method[Req, Res any] struct {
	service, name string
	harmless      bool
}

// NewMethod declares a method of a service.
func NewMethod[Req, Res any](service, name string) Method[Req, Res] {
	return Method[Req, Res]{service: service, name: name}
}

// Harmless returns the method marked as one that may be asked twice: it reads,
// or doing it again changes nothing and gives the same answer. A Caller asks
// once more when such a call has failed on its way.
func (m Method[Req, Res]) Harmless() Method[Req, Res] {
	m.harmless = true
	return m
}

// Call asks the method's server. A *matrixerror.Error of the server arrives as such.
func (m Method[Req, Res]) Call(ctx context.Context, c Caller, req *Req) (*Res, error) {
	res, err := c.Invoke(ctx, Call{
		Service: m.service, Method: m.name, Request: req, NewResponse: func() any { return new(Res) }, Harmless: m.harmless,
	})
	if err != nil || res == nil {
		return nil, err
	}
	return res.(*Res), nil
}

// Serve registers the method's implementation with s. A nil response of f
// arrives as nil.
func (m Method[Req, Res]) Serve(s *Server, f func(context.Context, *Req) (*Res, error)) {
	s.methods[m.service+"/"+m.name] = handler{
		signature:  Signature{reflect.TypeFor[Req](), reflect.TypeFor[Res]()},
		newRequest: func() any { return new(Req) },
		call: func(ctx context.Context, req any) (any, error) {
			res, err := f(ctx, req.(*Req))
			if err != nil {
				return nil, err
			}
			if res == nil {
				return nil, nil // not a *Res that is nil: the same on every Caller
			}
			return res, nil
		},
	}
}

// Signature is what a method takes and returns.
type Signature struct{ Request, Response reflect.Type }

type handler struct {
	signature  Signature
	newRequest func() any
	call       func(context.Context, any) (any, error)
}

// Server holds the methods that this process serves. All methods are
// registered before the first call.
type Server struct{ methods map[string]handler }

// NewServer makes an empty server.
func NewServer() *Server { return &Server{methods: map[string]handler{}} }

// Methods returns the methods that are registered, by service/name.
func (s *Server) Methods() map[string]Signature {
	out := make(map[string]Signature, len(s.methods))
	for name, h := range s.methods {
		out[name] = h.signature
	}
	return out
}

// Invoke implements Caller by a direct call.
func (s *Server) Invoke(ctx context.Context, c Call) (any, error) {
	h, ok := s.methods[c.String()]
	if !ok {
		return nil, fmt.Errorf("%w: %s in this process", ErrNoMethod, c)
	}
	return h.call(ctx, c.Request)
}
