// Package roomserver orders, authorises and stores the events of rooms, and
// says what their state is at any of them.
//
// It consumes room.input and publishes room.output (what became of each event,
// with a position) and room.answers (a verdict for the writer). Read consume,
// work, authorise, store, publish in this order; query*.go answer questions.
// It calls nobody, and is a function of its input: it uses no clock, no random
// number and no network, so the same log gives the same events, state and
// positions (design rule 7). It owns the tables of package storage.
//
// One goroutine consumes. Within a batch rooms are worked on in parallel, each
// by one goroutine, in copies (work); one transaction stores the batch, and
// only then what is in memory changes. Queries run beside it, from memory
// (room.mu) or from a snapshot of the database.
//
// Only events of our own users are taken: records of other kinds, and events of
// other servers, are refused with M_UNRECOGNIZED.
//
// In memory a room's current state is a map of the entries that were needed,
// not the persistent map of the design: state at older positions is read from
// the table of changes, which is indexed for it.
package roomserver
