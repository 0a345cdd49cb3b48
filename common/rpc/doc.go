// Package rpc lets a component ask another one, in this process or another,
// with one line per method: the component's api package declares
//
//	var QueryState = rpc.NewMethod[StateRequest, StateResponse]("roomserver", "state")
//
// the server says api.QueryState.Serve(server, rs.queryState), and a client
// says api.QueryState.Call(ctx, caller, &req). In one process the caller is the
// Server itself and a call is a Go call; between processes it is an internal
// HTTP request with a shared secret. Requests and responses are shared between
// the two sides of a local call: neither side changes them afterwards.
//
// It decides nothing about Matrix, owns no table and no topic. Server and
// Caller are safe for concurrent use once serving has begun.
package rpc
