// Package searchapi is the search-server: the reader that finds messages, and names
// and topics of rooms, by their words.
//
// It decides which events have the words that somebody searches for, and in which
// order they are shown. Who may see which event is the room server's to decide, and
// how events look in an answer the sync-api's: it is told what its user may see of
// each room (reach), counts only that, and asks for the events that it has found to
// be shown (show), with what is around them. Encrypted events are not indexed.
//
// It reads room.output and writes no topic. It owns the tables in storage: references
// to events with the terms of their newest texts, never the texts. It asks the room
// server for heads, history, state and edited events, and the sync-api as above. It
// serves POST /search.
//
// Indexing (consume.go, draft.go): instances share the partitions of room.output by
// lease. A batch is one transaction, with the offsets; where much happens, batches
// wait a moment for each other, unless a search waits for them. An edit gives its
// text to the event that it replaces, which is what is found; a redaction, and a
// purge, have their effect in the transaction of their record. If the edit that goes
// had the newest text, the one before it is read from the room server.
//
// History (history.go): what is in no record of room.output any more, since the index
// is new, was switched off or was put back to an older copy, is read from the room
// server by a job: a row, which says how far it is and is changed with what was read.
// What comes meanwhile is indexed as it comes. What is redacted or purged meanwhile is
// noted, so that the job does not index what it read before that. Until it is done,
// older messages are missing from answers.
//
// Searching (search.go, find.go, answer.go): a search waits, bounded, until the index
// has what had happened before. Results are in the order of their time, or of their
// rank: how much of a text was asked for. Both depend on the event and the query
// alone, so the tokens of pages name places in that order, which stay where they are
// while more is indexed and mean the same on every instance. Not more than maxRanked
// results are ranked against each other, the newest first; older ones follow.
//
// Concurrency: the consumer's loop indexes what comes, one goroutine the rest; on one
// partition they take turns by its row in positions, and so do instances. Searches run
// beside them, on what is committed.
package searchapi
