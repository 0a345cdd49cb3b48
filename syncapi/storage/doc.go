// Package storage is the sync-api's view on disk: a table a file. What it holds
// was computed from the logs and can be computed again; every row says by which
// Seq it came to be, so that applying a record twice changes nothing.
//
// It decides nothing, reads and writes no topic and asks nobody. Each exported
// method is one transaction. All methods are safe for concurrent use.
package storage
