// Package syncapi is the sync-api: the reader that answers /sync and everything
// else that clients read of rooms' timelines.
//
// It decides what each client is shown and when: which events are in an answer,
// where a timeline is limited, what counts as unread. What a room is and what a
// user may see is the room server's decision.
//
// What end-to-end encryption needs of a device is in memory with its user: how
// many keys it has left and between which Seqs of user.output there may be messages
// to it (devices.go), so that an answer without any asks nobody. Messages are the
// user-api's rows; an answer that cannot hold all ends at the Seq of the last one it
// holds (inbox.go), and the token that covers them has them deleted. Whose keys
// changed is in memory as far back as it reaches, else in the database, and so is
// who shares a room with whom (device_lists.go).
//
// It reads room.output, user.output and ephemeral, and writes user.activity. It
// owns the tables in storage: memberships of our users, latest positions,
// relations, receipts, changed keys and change markers. All of them can be built
// again from the logs, so their commits may lag; a plain message costs no row.
// What is stored of connections of sliding sync is the exception: without it,
// clients begin anew.
// Where room.output does not reach back to what the view has, rebuild.go makes
// the view anew of what the room server knows; where user.output does not,
// resync.go has the user-api tell there again what is current. Requests wait.
// It asks the room server (state, history, events) and the user-api (account
// data, filters, receipts, presence, who has forgotten a room). Others ask it what
// is unread (counts.go), what a user may see of rooms (reach.go), and for events as
// they stand in answers (show.go).
//
// The way of a record is consume.go → apply.go → flush.go → user.go; that of a request
// is sync.go → answer.go → timeline.go/state.go → encode.go. view.go holds what
// both share: rooms with their recent events, and users with their memberships.
//
// Every instance reads all partitions, for its own memory and to wake its own
// waiting requests. The rows of a partition are written by one instance, which
// has its lease (rows.go): in one transaction rows, lease and how far the
// partition is stored by that. The rule that makes answers right everywhere:
//
//   - Who writes a partition's rows stores them before it shows what they are
//     about, so its own reads find all up to what it has applied.
//   - The others note, as they take a record that makes rows, that these are
//     needed. Who reads rows waits, bounded, until the database has all that are
//     needed by then, whoever writes them. What is to be kept in memory is made
//     known first (a user or a room's receipts being loaded) and only then what
//     is needed is looked up: a change is thus either among the rows, or applied
//     to what is being loaded, or both, which is the same.
//   - Rows may be ahead of what an instance has applied. They say by which Seq
//     they came to be, and nothing behind the cut is shown.
//   - Who takes a partition over reads from the log what it has applied itself
//     and is not stored, writes that, and goes on. A commit fails when somebody
//     else has the lease by then; rows of records that others had stored before
//     are not written again.
//
// Positions of rooms that the table lacks are in memory on every instance until
// they are stored. A record about a room in which nobody in memory is joined costs
// the others its header: such rooms have no recent events in memory. Where the
// log says that there is no other instance, this one writes all, without leases,
// and keeps the recent events of all rooms.
//
// What the room server told of a room's state (kept.go) and of the events right
// before its tail (older.go, which the tail adds to as it moves on) is kept with
// the room, within the bytes that rooms may take, until a record may have changed
// it: an answer that such a record may have overtaken on its way is used once and
// not kept. Pages of history are read from there as far as that goes (recall.go).
// What an answer needs of rooms that are not in memory is asked beforehand, many
// rooms at once (warm.go); the way of the request does not depend on it.
//
// Sliding sync (MSC4186) shows the same view through windows: its way is sliding.go
// → sliding_lists.go (which rooms) → sliding_room.go (what of them) →
// sliding_extensions.go; timelines, state, counts and what is kept are those of
// /sync. Its token is the vector of positions, as a client of /sync has one, and
// the hash of a state (sliding_connection.go): which rooms the client was told of,
// with how many events and which state. A room is as the vector says, but for
// those that were passed over while they were not in a window: of these the state
// has the Seq up to which they were told. So it changes when a room is new to the
// client, or passed over, or looked at more closely, and not with each message.
// Where it changes it is stored, in one row, before the answer is given: any
// instance goes on from any token. A request that is repeated is answered from
// the state that it names, which stays until one that came after it has been used;
// a token whose state is gone, or is another device's, is M_UNKNOWN_POS. A request
// that has nothing to tell stores nothing, and one that waits asks nobody.
// Lists are in the order of when rooms' last events were logged, which is not for
// senders to choose and the same on every instance.
//
// What has outlived a room's policy (MSC1763) is not shown, whether it is purged yet or
// not (expiry.go): by the room's latest state, which is kept like other state, so that
// it costs nothing where retention is off and a question for each room where it is not.
// What is purged is dropped from memory and rows (purged.go). Receipts keep where their
// events stood; of unread notices it is asked, once for each purge, which are left.
//
// In which threads something was said (thread_updates.go) is seen from rooms' recent
// events, or from the rows of relations and threads. Pages of it are of one vector of
// positions, which their tokens hold: a thread has one place in them, whatever is said
// meanwhile.
//
// What a user has said of threads (thread_subscriptions.go) is asked for when rules
// or a client need it, and then kept with the user as user.output tells.
//
// What has notified a user (past.go) is not kept: it is what the rooms' timelines
// hold, gone back through in the order of positions, as the push rules judge it that
// the user-api says were in force when it was sent. So it is the same on every
// instance, and costs those who ask.
//
// What a lazily loading device was sent is known to the instance that sent it;
// another sends members again.
//
// Where other processes share the log, it is read as it grows only while somebody
// waits here (audience.go).
//
// Concurrency: one goroutine applies records, in order of each partition. It
// changes rooms and users under their own locks, then publishes the vector of
// positions that it has reached, then wakes the requests of whom it concerns.
// A request reads that vector first and ignores everything that is newer, so
// that its answer is a cut at one vector without any lock held for long.
// Locks are taken in the order view, user, room.
package syncapi
