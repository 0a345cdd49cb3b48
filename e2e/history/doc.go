// Package history records what clients asked a homeserver and what it answered,
// and judges afterwards whether all of it can be true of a server that loses
// nothing: every acknowledged event is there exactly once, in one order for all
// readers, retries name the same event, and what a reader gets over successive
// sync tokens has no gap and no repeat.
//
// All that was recorded is kept until the end: who runs for hours records in rounds.
//
// It shares no code with the server. A History is safe for concurrent use;
// Check is called when all recording has ended.
package history
