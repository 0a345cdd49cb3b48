// Package clientapi serves the client-server API but for what readers serve
// (syncapi): it is where clients write.
//
// It decides who may ask for what, checks bodies, and turns requests into
// records. What happens in a room becomes one record of room.input (append.go)
// and waits for its verdict on room.answers; what belongs to a user goes to the
// user-api; aliases and the published directory go to the directory-api. The
// rules of a room are the room server's to apply: nothing is asked before a
// send.
//
// Topics: writes room.input (partitioned by room ID), reads one partition of
// room.answers, chosen at random: instances that share it ignore each other's
// verdicts. Tables: those of durable jobs that cross rooms are the
// user-api's; this package has none.
//
// Asks: the user-api (tokens, profiles, account data), the room server
// (state, memberships, verdicts), the directory-api (aliases, rooms of a user,
// which users somebody may see).
//
// Work that outlives a request is a row of the user-api or the directory-api
// with a lease: jobs.go (rooms of a user), delayed_job.go (events that are sent
// later), upgrade.go, purge.go (events that have expired or are to go). What is done has request IDs made from the row, so that it
// takes effect once however often it is tried.
//
// Concurrency: a Server is safe for concurrent use by any number of handlers;
// one goroutine (Run) reads verdicts and wakes the handler that waits for each.
// No lock is held while waiting.
package clientapi
