// Package directoryapi keeps what is looked up by something else than a room:
// the aliases of this server, which rooms are published, what rooms look like
// in the directory, which rooms each local user is in, and which annotations
// (reactions) local users have sent.
//
// Of which users somebody may see it knows by the same memberships.
//
// It decides which room an alias names (one, for ever until it is removed) and
// in which order the published directory is shown. Who may change either is
// the client-api's to decide.
//
// Topics: reads room.output. Tables: aliases, published and upgrades are rows
// that nothing else can restore, committed with fsync; rooms, memberships,
// annotations and guest_rooms (rooms that local guests have to leave) and positions are a view of room.output, committed with the offsets of what they
// were made from.
//
// Asks the room server: for the state events that a record only names, and for
// all rooms where room.output no longer reaches back to what the view has.
//
// Concurrency: a Server is safe for concurrent use. One loop (Run) applies
// output; uniqueness of aliases is the database's.
//
// Instances share the partitions of room.output by lease. Any of them answers:
// who must see a position that another one applies looks for it in the database,
// where also what meant nothing to the view is told within some 25 ms.
package directoryapi
