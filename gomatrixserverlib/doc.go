// Package gomatrixserverlib is the Matrix protocol of room versions 1 to 12:
// canonical JSON, signed JSON, events with their hashes and IDs, redaction,
// event authorisation, state resolution, visibility and identifiers.
//
// It is pure: it reads no clock, no network, no file and no database, owns no
// topic and no table. All values are safe for concurrent use once made.
package gomatrixserverlib
