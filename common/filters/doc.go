// Package filters is the model of the filters by which clients say what they
// want to see of /sync, /messages and /context: what a valid one is, and what
// passes it. Who stores a filter and who answers by it read it here.
//
// It owns no topic and no table and asks nobody. A filter that has been read is
// not changed any more and is safe for concurrent use.
package filters
