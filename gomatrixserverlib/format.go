package gomatrixserverlib

import (
	"fmt"
	"strings"
)

// fieldFormat is what a member of an event must be.
type fieldFormat struct {
	field    int
	name     string
	is       func(raw []byte) bool
	kind     string // what is checks, for the error
	required bool
}

// eventFormat lists the members of an event that every room version has.
// spec: server-server-api §pdus, rooms/v*.md §event-format
func eventFormat() [10]fieldFormat {
	return [10]fieldFormat{
		{fieldType, "type", isString, "a string", true},
		{fieldSender, "sender", isString, "a string", true},
		{fieldContent, "content", isObject, "an object", true},
		{fieldStateKey, "state_key", isString, "a string", false},
		{fieldDepth, "depth", isInteger, "an integer", true},
		{fieldOriginServerTS, "origin_server_ts", isInteger, "an integer", true},
		{fieldHashes, "hashes", isObject, "an object", true},
		{fieldAuthEvents, "auth_events", isArray, "an array", true},
		{fieldPrevEvents, "prev_events", isArray, "an array", true},
		{fieldUnsigned, "unsigned", isObject, "an object", false},
	}
}

func isInteger(raw []byte) bool {
	_, ok := int64Of(raw)
	return ok
}

// checkFormat checks that the members are there and have the right types.
func (e *Event) checkFormat(rules *VersionRules) error {
	for _, f := range eventFormat() {
		raw := e.raw(f.field)
		if raw == nil {
			if f.required {
				return fmt.Errorf("%w: no %s", ErrBadEvent, f.name)
			}
			continue
		}
		if !f.is(raw) {
			return fmt.Errorf("%w: %s is not %s", ErrBadEvent, f.name, f.kind)
		}
	}
	if err := e.checkRoomAndID(rules); err != nil {
		return err
	}
	if raw := e.raw(fieldRedacts); raw != nil && !rules.RedactsInContent && !isString(raw) {
		return fmt.Errorf("%w: redacts is not a string", ErrBadEvent)
	}
	if !isString(member(e.raw(fieldHashes), "sha256")) {
		return fmt.Errorf("%w: no sha256 among the hashes", ErrBadEvent)
	}
	if err := checkSignatures(e.raw(fieldSignatures)); err != nil {
		return err
	}
	if err := checkReferences("auth_events", e.raw(fieldAuthEvents), MaxAuthEvents, rules); err != nil {
		return err
	}
	return checkReferences("prev_events", e.raw(fieldPrevEvents), MaxPrevEvents, rules)
}

// checkRoomAndID checks the types of room_id and event_id, which not every
// event has.
func (e *Event) checkRoomAndID(rules *VersionRules) error {
	room := e.raw(fieldRoomID)
	switch {
	case rules.RoomIDFromCreate && string(e.raw(fieldType)) == `"m.room.create"`:
		// spec: rooms/v12 §authorisation-rules 1.2
		if room != nil {
			return fmt.Errorf("%w: m.room.create has a room_id", ErrBadEvent)
		}
	case !isString(room):
		return fmt.Errorf("%w: room_id is not a string", ErrBadEvent)
	}
	if rules.GivenEventIDs() && !isString(e.raw(fieldEventID)) {
		return fmt.Errorf("%w: event_id is not a string", ErrBadEvent)
	}
	return nil
}

// checkSignatures checks that signatures is an object of objects of strings.
func checkSignatures(raw []byte) error {
	if !isObject(raw) {
		return fmt.Errorf("%w: signatures is not an object", ErrBadEvent)
	}
	for servers := membersOf(raw); ; {
		_, start, end, ok := servers.next()
		if !ok {
			return nil
		}
		if !isObject(raw[start:end]) {
			return fmt.Errorf("%w: a server's signatures are not an object", ErrBadEvent)
		}
		for keys := membersOf(raw[start:end]); ; {
			_, from, to, ok := keys.next()
			if !ok {
				break
			}
			if !isString(raw[start+from : start+to]) {
				return fmt.Errorf("%w: a signature is not a string", ErrBadEvent)
			}
		}
	}
}

// checkReferences checks a list of references to other events.
func checkReferences(name string, list []byte, most int, rules *VersionRules) error {
	n := 0
	for el := elementsOf(list); ; n++ {
		value, ok := el.next()
		if !ok {
			return nil
		}
		if n == most {
			return fmt.Errorf("%w: more than %d %s", ErrBadEvent, most, name)
		}
		if rules.GivenEventIDs() {
			if value, ok = referencePair(value); !ok {
				return fmt.Errorf("%w: %s has an entry that is not a pair of ID and hash", ErrBadEvent, name)
			}
		}
		// Not the whole grammar: other servers accept such a reference to an
		// event that cannot exist, and rooms must not split over it.
		if id, ok := stringOf(value); !ok || len(id) > MaxIDBytes || !strings.HasPrefix(id, "$") {
			return fmt.Errorf("%w: %s has an entry that is no event ID", ErrBadEvent, name)
		}
	}
}

// referencePair returns the event ID of a pair [ID, {"sha256": hash}].
func referencePair(pair []byte) (id []byte, ok bool) {
	if !isArray(pair) {
		return nil, false
	}
	el := elementsOf(pair)
	id, _ = el.next()
	hash, _ := el.next()
	if _, more := el.next(); more || !isObject(hash) {
		return nil, false
	}
	return id, isString(id)
}

// checkValues checks sizes, ranges and identifiers of an event that was read.
// spec: client-server-api §size-limits
func (e *Event) checkValues(rules *VersionRules) error {
	sizes := [...]struct {
		name, value string
	}{{"type", e.typ}, {"sender", e.sender}, {"room_id", e.roomID}, {"event_id", e.id}}
	for _, s := range sizes {
		if len(s.value) > MaxIDBytes {
			return fmt.Errorf("%w: %s has %d bytes", ErrTooLarge, s.name, len(s.value))
		}
	}
	if e.stateKey != nil && len(*e.stateKey) > MaxIDBytes {
		return fmt.Errorf("%w: state_key has %d bytes", ErrTooLarge, len(*e.stateKey))
	}
	if e.depth < 0 || e.depth > rules.maxDepth() {
		return fmt.Errorf("%w: depth %d is out of range", ErrBadEvent, e.depth)
	}
	if _, _, err := ParseHistoricalUserID(e.sender); err != nil {
		return fmt.Errorf("%w: sender: %w", ErrBadEvent, err)
	}
	if e.raw(fieldRoomID) != nil {
		if err := checkRoomIDOf(e.roomID, rules); err != nil {
			return fmt.Errorf("%w: room_id: %w", ErrBadEvent, err)
		}
	}
	if rules.GivenEventIDs() {
		if err := checkEventIDOf(e.id, rules); err != nil {
			return fmt.Errorf("%w: event_id: %w", ErrBadEvent, err)
		}
	}
	return nil
}
