// Package syncapi is the sync-api: the reader that answers /sync and everything
// else that clients read of rooms' timelines.
//
// It decides what each client is shown and when: which events are in an answer,
// where a timeline is limited, what counts as unread. What a room is and what a
// user may see is the room server's decision.
//
// It reads room.output, user.output and ephemeral, and writes user.activity. It
// owns the tables in storage: memberships of our users, latest positions,
// relations, receipts and change markers. All of them can be built again from
// the logs, so their commits may lag; a plain message costs no row.
// It asks the room server (state, history, events) and the user-api (account
// data, filters, receipts, presence).
//
// The way of a record is consume.go → apply.go → notify.go; that of a request
// is sync.go → answer.go → timeline.go/state.go → encode.go. view.go holds what
// both share: rooms with their recent events, and users with their memberships.
//
// Every instance reads all partitions, for its own memory and to wake its own
// waiting requests. What it writes to the database depends on the records alone
// and says by which Seq it came to be, so instances that write the same rows do
// each other no harm, and none needs a lease.
//
// Concurrency: one goroutine applies records, in order of each partition. It
// changes rooms and users under their own locks, then publishes the vector of
// positions that it has reached, then wakes the requests of whom it concerns.
// A request reads that vector first and ignores everything that is newer, so
// that its answer is a cut at one vector without any lock held for long.
// Locks are taken in the order view, user, room.
package syncapi
