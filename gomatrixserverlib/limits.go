package gomatrixserverlib

import "errors"

// Limits of events and identifiers.
const (
	// MaxEventBytes bounds a whole event in federation format, signatures
	// included, as canonical JSON.
	// spec: client-server-api §size-limits
	MaxEventBytes = 65536

	// MaxIDBytes bounds user IDs, room IDs, room aliases, event IDs, event
	// types and state keys, in bytes of UTF-8.
	MaxIDBytes = 255

	// MaxServerNameBytes bounds a server name: an identifier of at most
	// MaxIDBytes with a sigil, an empty localpart and a colon around it.
	MaxServerNameBytes = MaxIDBytes - 2

	// MaxPrevEvents and MaxAuthEvents bound what an event may refer to.
	// spec: server-server-api §pdus
	MaxPrevEvents = 20
	MaxAuthEvents = 10

	// MaxDepth bounds an event's depth from room version 6 on, and every
	// integer in canonical JSON: 2^53-1.
	MaxDepth = 1<<53 - 1

	// MaxDepthLenient bounds an event's depth in room versions 1 to 5.
	MaxDepthLenient = 1<<63 - 1

	// MaxJSONDepth bounds how deeply arrays and objects may be nested.
	MaxJSONDepth = 1000

	// maxInteger is the largest integer of canonical JSON: 2^53-1.
	maxInteger = 1<<53 - 1
)

// What makes JSON, an event or an identifier unacceptable. The errors that
// this package returns wrap one of these.
var (
	// ErrBadJSON means that bytes are not JSON, or not JSON of which a
	// canonical form exists (M_BAD_JSON).
	ErrBadJSON = errors.New("bad JSON")

	// ErrTooLarge means that an event, or a field with a limit of its own,
	// is too large (M_TOO_LARGE).
	ErrTooLarge = errors.New("event too large")

	// ErrBadEvent means that an event has not got the format of its room
	// version: a field is missing, has a wrong type or a wrong value.
	ErrBadEvent = errors.New("bad event")

	// ErrBadIdentifier means that an identifier breaks its grammar.
	ErrBadIdentifier = errors.New("bad identifier")

	// ErrUnsupportedRoomVersion means that the room version is unknown
	// (M_UNSUPPORTED_ROOM_VERSION).
	ErrUnsupportedRoomVersion = errors.New("unsupported room version")

	// ErrBadSignature means that a signature is missing, malformed or wrong.
	ErrBadSignature = errors.New("bad signature")
)
