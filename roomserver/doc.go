// Package roomserver orders, authorises and stores the events of rooms, and
// says what their state is at any of them.
//
// It consumes room.input and publishes room.output (what became of each event,
// with a position) and room.answers (a verdict for the writer). Read consume,
// work, authorise, receive, resolve, store, publish in this order; given takes
// outliers and joins, backfill what is older than a gap; query*.go answer
// questions, export and import move rooms. It calls nobody, and is a function
// of its input: it uses no clock, no random number and no network, so the same
// log gives the same events, state and positions, however it is cut into
// batches (design rule 7). It owns the tables of package storage.
//
// One goroutine consumes. Within a batch rooms are worked on in parallel, each
// by one goroutine, in copies (work); one transaction stores the batch, and
// only then what is in memory changes. Queries run beside it, from memory
// (room.mu) or from a snapshot of the database.
//
// States are named, not copied (states.go): most events follow all that there
// is, so that the state before them is the room's, and nothing more is read than
// the entries that authorise them. Only where an event starts a fork are whole
// states made, as maps of event IDs, and what is stored is the difference.
//
// In memory a room's current state is a map of the entries that were needed,
// not the persistent map of the design: state at older positions is read from
// the table of changes, which is indexed for it. A room that takes long is not
// set aside yet (design rule 13): its partition waits for it.
package roomserver
