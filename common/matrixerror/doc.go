// Package matrixerror holds the one error type that crosses processes in
// Dendrite. Components wrap it with the operation that failed; only the HTTP
// edge (common/httpapi) turns it into a response, and everything that is not a
// *matrixerror.Error becomes a logged 500 M_UNKNOWN there.
//
// It owns no topic and no table; its values are immutable and safe for
// concurrent use.
package matrixerror
