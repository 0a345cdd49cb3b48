// Package retention decides how long the events of a room are kept (MSC1763): by
// what the room's state says and by what the server is configured to allow.
//
// It owns no topic and no table, asks nobody and has no clock. The client-api purges
// what has expired by it, the sync-api does not show that.
package retention
