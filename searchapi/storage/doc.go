// Package storage is the search-server's database: for each event that can be found,
// its place, what decides who finds it, and the terms of its newest text; which events
// replace which; how far room.output has been indexed, and which history has yet to
// be. Texts are not kept. All of it can be made again from the room server.
//
// Exported methods are transactions; those that take a Tx belong to one of the
// caller's. A transaction that changes what is known of a partition's rooms begins
// with Lock: what is read after that is what it was when the one before it had
// committed, on both engines.
package storage
