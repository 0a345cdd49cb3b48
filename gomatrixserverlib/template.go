package gomatrixserverlib

import (
	"crypto/sha256"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
)

// ParseTemplate reads the unfinished event that a resident server answers to
// make_join, make_leave or make_knock. Its types, sizes and counts are
// checked, missing fields are left zero; what it says is for the caller to
// judge before Build. Errors wrap ErrBadJSON, ErrBadEvent, ErrTooLarge or
// ErrUnsupportedRoomVersion.
// spec: server-server-api §joining-rooms
func ParseTemplate(json []byte, v RoomVersion) (*EventBuilder, error) {
	e, rules, err := locateForeign(json, v, modeStrict)
	if err != nil {
		return nil, err
	}
	for _, f := range eventFormat() {
		if raw := e.raw(f.field); raw != nil && !f.is(raw) {
			return nil, fmt.Errorf("%w: %s is not %s", ErrBadEvent, f.name, f.kind)
		}
	}
	if err := checkReferences("auth_events", e.raw(fieldAuthEvents), MaxAuthEvents, rules); err != nil {
		return nil, err
	}
	if err := checkReferences("prev_events", e.raw(fieldPrevEvents), MaxPrevEvents, rules); err != nil {
		return nil, err
	}
	e.read(rules)
	b := &EventBuilder{
		RoomID: e.roomID, Sender: e.sender, Type: e.typ, StateKey: e.stateKey, Redacts: e.redacts,
		Content:        jsontext.Value(e.raw(fieldContent)).Clone(),
		OriginServerTS: e.originTS, Depth: e.depth,
		PrevEvents: e.prevEvents, AuthEvents: e.authEvents,
	}
	if rules.GivenEventIDs() {
		b.EventID = e.id
		if b.PrevHashes, err = referenceHashes(e.raw(fieldPrevEvents)); err != nil {
			return nil, err
		}
		if b.AuthHashes, err = referenceHashes(e.raw(fieldAuthEvents)); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// referenceHashes reads the hashes in a list of pairs of ID and hash.
func referenceHashes(list []byte) ([][sha256.Size]byte, error) {
	var hashes [][sha256.Size]byte
	for el := elementsOf(list); ; {
		pair, ok := el.next()
		if !ok {
			return hashes, nil
		}
		parts := elementsOf(pair)
		_, _ = parts.next()
		object, _ := parts.next()
		encoded, _ := stringOf(member(object, "sha256"))
		hash, err := DecodeBase64(encoded)
		if err != nil || len(hash) != sha256.Size {
			return nil, fmt.Errorf("%w: a reference has no SHA-256", ErrBadEvent)
		}
		hashes = append(hashes, [sha256.Size]byte(hash))
	}
}
