// Package rpc lets a component ask another one, in this process or another,
// with one line per method: the component's api package declares
//
//	var QueryState = rpc.NewMethod[StateRequest, StateResponse]("roomserver", "state")
//
// the server says api.QueryState.Serve(server, rs.queryState), and a client
// says api.QueryState.Call(ctx, caller, &req). In one process the caller is the
// Server itself and a call is a Go call; between processes it is an HTTPClient,
// and a call is an internal HTTP request with a shared secret to the other one's
// NewHTTPHandler. Requests and responses are shared between the two sides of a
// local call: neither side changes them afterwards. Only exported fields travel
// between processes; wire.go says how.
//
// A call that cannot be sent is made at another instance (Directory), and so is
// one that fails on its way if the method is declared Harmless; else that is 503
// with Retry-After: whoever asked repeats the whole, which request IDs make
// idempotent.
//
// Who has questions about many keys can ask them together, by whom they would go
// to (Place).
//
// It decides nothing about Matrix, owns no table and no topic. Server,
// HTTPClient and the handler are safe for concurrent use once serving has begun.
package rpc
