package gomatrixserverlib

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"

	"github.com/go-json-experiment/json/jsontext"
)

// StateKey is the key of an entry of a room's state.
type StateKey struct{ Type, StateKey string }

// Event is a persistent event (PDU): immutable, and safe for concurrent use.
// Its JSON is kept byte for byte; what is asked often was read from it once.
// Nobody may write to a slice that an Event returns.
type Event struct {
	json     []byte // canonical; with unsigned if it was received with it
	version  RoomVersion
	redacted bool // the content hash did not match, or Redact made it

	id         string
	roomID     string // v12: also for m.room.create, whose JSON has none
	typ        string
	sender     string
	stateKey   *string
	redacts    string
	membership string // of member events
	originTS   int64
	depth      int64
	authEvents []string
	prevEvents []string

	spans [numFields]span // where the members' values are in json
}

// span is a slice of an event's JSON; empty if the member is missing.
type span struct{ start, end uint32 }

// The members of an event's JSON that are read.
const (
	fieldAuthEvents = iota
	fieldContent
	fieldDepth
	fieldEventID
	fieldHashes
	fieldOriginServerTS
	fieldPrevEvents
	fieldRedacts
	fieldRoomID
	fieldSender
	fieldSignatures
	fieldStateKey
	fieldType
	fieldUnsigned
	numFields
)

// fieldOf returns the field of a member's key; -1 if it is not read.
func fieldOf(key []byte) int {
	switch string(key) {
	case "auth_events":
		return fieldAuthEvents
	case "content":
		return fieldContent
	case "depth":
		return fieldDepth
	case "event_id":
		return fieldEventID
	case "hashes":
		return fieldHashes
	case "origin_server_ts":
		return fieldOriginServerTS
	case "prev_events":
		return fieldPrevEvents
	case "redacts":
		return fieldRedacts
	case "room_id":
		return fieldRoomID
	case "sender":
		return fieldSender
	case "signatures":
		return fieldSignatures
	case "state_key":
		return fieldStateKey
	case "type":
		return fieldType
	case "unsigned":
		return fieldUnsigned
	}
	return -1
}

// raw returns the value of a member as it stands; nil if it is missing.
func (e *Event) raw(field int) []byte {
	s := e.spans[field]
	if s.end == 0 {
		return nil
	}
	return e.json[s.start:s.end:s.end]
}

// JSON returns the event in the federation format of its room version, as
// canonical JSON.
func (e *Event) JSON() []byte { return e.json }

// Version returns the version of the event's room.
func (e *Event) Version() RoomVersion { return e.version }

// EventID returns the event's ID, with its sigil.
func (e *Event) EventID() string { return e.id }

// String names the event for logs, without anything of its content.
func (e *Event) String() string { return e.typ + " " + e.id + " in " + e.roomID }

// RoomID returns the room's ID; in room version 12 that of m.room.create too,
// though its JSON has none.
func (e *Event) RoomID() string { return e.roomID }

// Type returns the event's type, such as m.room.message.
func (e *Event) Type() string { return e.typ }

// Sender returns the user ID of who sent the event.
func (e *Event) Sender() string { return e.sender }

// SenderServer returns the server name of the sender's user ID.
func (e *Event) SenderServer() string { return domainOf(e.sender) }

// StateKey returns the state key; nil if this is no state event.
func (e *Event) StateKey() *string { return e.stateKey }

// IsState reports whether this is a state event.
func (e *Event) IsState() bool { return e.stateKey != nil }

// StateKeyEquals reports whether this is a state event with that key.
func (e *Event) StateKeyEquals(key string) bool { return e.stateKey != nil && *e.stateKey == key }

// Key returns the key of a state event in the room's state; for other events
// the state key is empty.
func (e *Event) Key() StateKey {
	if e.stateKey == nil {
		return StateKey{Type: e.typ}
	}
	return StateKey{Type: e.typ, StateKey: *e.stateKey}
}

// Redacts returns the ID of the event that an m.room.redaction redacts, from
// where the room version has it; empty for others, or if it is no string.
func (e *Event) Redacts() string { return e.redacts }

// Content returns the content, a JSON object.
func (e *Event) Content() jsontext.Value { return e.raw(fieldContent) }

// Unsigned returns the unsigned data that the event was received with; nil if
// there is none. It is not covered by hash or signature: do not trust it.
func (e *Event) Unsigned() jsontext.Value { return e.raw(fieldUnsigned) }

// OriginServerTS returns when the sender's server says that the event was
// made, in milliseconds since the Unix epoch.
func (e *Event) OriginServerTS() int64 { return e.originTS }

// Depth returns the event's depth.
func (e *Event) Depth() int64 { return e.depth }

// AuthEventIDs returns the IDs of the events that authorise this one.
func (e *Event) AuthEventIDs() []string { return e.authEvents }

// PrevEventIDs returns the IDs of the events that this one follows.
func (e *Event) PrevEventIDs() []string { return e.prevEvents }

// Membership returns content.membership of an m.room.member event; empty if
// it is missing or no string, and for other events.
func (e *Event) Membership() string { return e.membership }

// Redacted reports whether this is the redacted form of an event: made by
// Redact, or by ParseEvent because the content hash did not match.
func (e *Event) Redacted() bool { return e.redacted }

// ContentHash returns the SHA-256 in the event's hashes; false if there is
// none or it is malformed.
func (e *Event) ContentHash() ([sha256.Size]byte, bool) {
	encoded, ok := stringOf(member(e.raw(fieldHashes), "sha256"))
	if !ok {
		return [sha256.Size]byte{}, false
	}
	hash, err := DecodeBase64(encoded)
	if err != nil || len(hash) != sha256.Size {
		return [sha256.Size]byte{}, false
	}
	return [sha256.Size]byte(hash), true
}

// ComputeContentHash hashes the event without unsigned, signatures, hashes.
// spec: server-server-api §calculating-the-content-hash-for-an-event
func (e *Event) ComputeContentHash() [sha256.Size]byte {
	buf := make([]byte, 0, len(e.json))
	return sha256.Sum256(appendWithout(buf, e.json, "hashes", "signatures", "unsigned"))
}

// ReferenceHash hashes the redacted event without signatures and unsigned.
// spec: server-server-api §calculating-the-reference-hash-for-an-event
func (e *Event) ReferenceHash() [sha256.Size]byte {
	return sha256.Sum256(e.signingBytes())
}

// signingBytes is what signatures and the reference hash cover.
func (e *Event) signingBytes() []byte {
	rules := e.version.Rules()
	return rules.redaction.appendEvent(make([]byte, 0, len(e.json)), e.json, e.typ, false)
}

// computeID derives the event's ID from its reference hash.
// spec: rooms/v3 §event-ids, rooms/v4 §event-ids
func (e *Event) computeID(rules *VersionRules) string {
	hash := e.ReferenceHash()
	encoding := base64.RawURLEncoding
	if rules.EventIDFormat == EventIDBase64 {
		encoding = base64.RawStdEncoding
	}
	var id [1 + 43]byte
	id[0] = '$'
	encoding.Encode(id[1:], hash[:])
	return string(id[:])
}

// Redact returns the event without what its room version's redaction
// algorithm strips, unsigned included. Its ID and signatures stay valid.
// spec: client-server-api §redactions
func (e *Event) Redact() (*Event, error) {
	rules := e.version.Rules()
	stripped := rules.redaction.appendEvent(make([]byte, 0, len(e.json)), e.json, e.typ, true)
	if bytes.Equal(stripped, e.json) {
		same := *e
		same.redacted = true
		return &same, nil
	}
	redacted, err := ParseStoredEvent(stripped, e.version, e.id)
	if err != nil {
		return nil, err
	}
	redacted.redacted = true
	return redacted, nil
}

// appendWithout appends a canonical object less some of its members.
func appendWithout(dst, object []byte, without ...string) []byte {
	dst = append(dst, '{')
	first := len(dst)
	for m := membersOf(object); ; {
		key, start, end, ok := m.next()
		if !ok {
			return append(dst, '}')
		}
		if !containsKey(without, key) {
			dst = appendMember(dst, first, key, object[start:end])
		}
	}
}

// appendMember appends a member to an object whose first member begins at
// first in dst. The key is as it stands between quotes.
func appendMember(dst []byte, first int, key, value []byte) []byte {
	if len(dst) > first {
		dst = append(dst, ',')
	}
	dst = append(dst, '"')
	dst = append(dst, key...)
	dst = append(dst, '"', ':')
	return append(dst, value...)
}

func containsKey(keys []string, key []byte) bool {
	for _, k := range keys {
		if k == string(key) {
			return true
		}
	}
	return false
}
