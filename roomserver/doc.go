// Package roomserver orders, authorises and stores the events of rooms, and
// says what their state is at any of them.
//
// It consumes room.input and publishes room.output (what became of each event,
// with a position) and room.answers (a verdict for the writer). Read consume,
// work, authorise, receive, resolve, store, publish in this order; given takes
// outliers and joins, backfill what is older than a gap, purge forgets;
// query*.go answer questions, export and import move rooms. It calls nobody, and is a function
// of its input: it decides by no clock, no random number and no network, so the same
// log gives the same events, state and positions, however it is cut into
// batches (design rule 7). It owns the tables of package storage.
//
// It appends to room.input itself in one case only, to resume a room (below).
//
// One goroutine consumes. Within a batch rooms are worked on in parallel, each
// by one goroutine, in copies (work); one transaction stores the batch, and
// only then what is in memory changes. Queries run beside it, from memory
// (room.mu) or from a snapshot of the database.
//
// States are named, not copied (states.go): most events follow all that there
// is, so that the state before them is the room's, and nothing more is read than
// the entries that authorise them. Only where an event starts a fork are whole
// states made, as maps of event IDs, and what is stored is the difference. The
// last few are kept, and newer ones made of them (statecache.go).
//
// A record that takes long (a resolution among very many events, the state of a
// huge room, a huge join) does not hold up its partition (design rule 13). What a
// record takes is counted, in events that resolution looks at and entries of the
// states that it needs. Beyond a bound the record is undone and, with all that
// comes for its room from then on, put into the table set_aside, in the
// transaction of the offsets (aside.go). Beside the loop the first such record is
// handled ahead (ahead.go), from what is committed of the room, which stands
// still; queries are answered from that. When it is ready the room server logs a
// record of kind resume on room.input, and where the loop reads that, what waits
// is applied in order, numbered then, and gets its verdicts. So the log alone
// decides what is set aside and until where: what was handled ahead is never
// needed, only quicker. A replay, or a new owner that finds a resume before it
// has anything ready, does the work on the spot. A resume names the record that
// it is for, so a second one has no effect. Too much that waits of a room is
// refused with 503; a purge refuses all that waits; what waits of a room that is
// parked is refused when it is resumed.
//
// In memory a room's current state is a map of the entries that were needed,
// not the persistent map of the design: state at older positions is read from
// the table of changes, which is indexed for it.
package roomserver
