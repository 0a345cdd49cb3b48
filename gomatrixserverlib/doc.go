// Package gomatrixserverlib is the Matrix protocol of room versions 1 to 12:
// canonical JSON, signed JSON, events with their hashes and IDs, redaction,
// event authorisation, state resolution, visibility and identifiers.
//
// It is pure: it reads no clock, no network, no file and no database, owns no
// topic and no table. All values are safe for concurrent use once made.
//
// What differs between room versions is in version.go. An event comes from a
// stranger (ParseEvent), from the store (ParseStoredEvent) or from us
// (EventBuilder); in each case its bytes are canonical JSON from then on, so
// that hashing, signing, redacting and showing it to clients are splices of
// those bytes (scan.go) and nothing is encoded twice.
package gomatrixserverlib
