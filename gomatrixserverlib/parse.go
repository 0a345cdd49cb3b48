package gomatrixserverlib

import (
	"bytes"
	"fmt"
	"math"
	"strings"
)

// ParseStoredEvent reads an event of our store: bytes that ParseEvent or Build
// made, and the ID that they gave. It checks little, reads the bytes once and
// keeps the slice, which must not be written to any more.
func ParseStoredEvent(json []byte, v RoomVersion, eventID string) (*Event, error) {
	rules := v.Rules()
	if rules == nil {
		return nil, fmt.Errorf("%w %q", ErrUnsupportedRoomVersion, v)
	}
	e := &Event{json: json, version: v}
	if err := e.locate(); err != nil {
		return nil, err
	}
	e.read(rules)
	if eventID != "" {
		e.id = eventID
	} else if !rules.GivenEventIDs() {
		e.id = e.computeID(rules)
	}
	if rules.RoomIDFromCreate && e.roomID == "" && e.typ == "m.room.create" && e.id != "" {
		e.roomID = "!" + e.id[1:]
	}
	return e, nil
}

// ParseEvent reads an event that a stranger sent: its format, sizes and
// identifiers are checked, its JSON is brought to canonical form (from room
// version 6 on anything that has none is refused), its ID is computed. If its
// content hash does not match, the redacted event is returned. Signatures are
// not checked here. The slice is not kept.
// Errors wrap ErrBadJSON, ErrBadEvent, ErrTooLarge or ErrUnsupportedRoomVersion.
// spec: server-server-api §checks-performed-on-receipt-of-a-pdu
func ParseEvent(json []byte, v RoomVersion) (*Event, error) {
	e, rules, err := locateForeign(json, v, modeEvent)
	if err != nil {
		return nil, err
	}
	if len(e.json) > MaxEventBytes {
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, len(e.json))
	}
	if len(e.json) > 0 && &e.json[0] == &json[0] {
		e.json = bytes.Clone(json) // lest it keeps a whole request alive
	}
	if err := e.finish(rules); err != nil {
		return nil, err
	}
	if hash, ok := e.ContentHash(); !ok || hash != e.ComputeContentHash() {
		return e.Redact()
	}
	return e, nil
}

// locateForeign brings JSON of a stranger to canonical form, for room versions
// that are strict by the given mode, and finds an event's fields in it.
func locateForeign(json []byte, v RoomVersion, strict jsonMode) (*Event, *VersionRules, error) {
	rules := v.Rules()
	if rules == nil {
		return nil, nil, fmt.Errorf("%w %q", ErrUnsupportedRoomVersion, v)
	}
	// Escapes may make a string six times as long; more is white space.
	if len(json) > 6*MaxEventBytes {
		return nil, nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, len(json))
	}
	m := modeLenient
	if rules.StrictJSON {
		m = strict
	}
	canonical, err := canonicalise(json, m)
	if err != nil {
		return nil, nil, err
	}
	e := &Event{json: canonical, version: v}
	return e, rules, e.locate()
}

// finish checks and reads an event whose fields are located.
func (e *Event) finish(rules *VersionRules) error {
	if err := e.checkFormat(rules); err != nil {
		return err
	}
	e.read(rules)
	if err := e.checkValues(rules); err != nil {
		return err
	}
	e.complete(rules)
	return nil
}

// complete sets what follows from the rest: the ID where it is the hash, and
// the room ID where that is the ID.
func (e *Event) complete(rules *VersionRules) {
	if !rules.GivenEventIDs() {
		e.id = e.computeID(rules)
	}
	if rules.RoomIDFromCreate && e.typ == "m.room.create" {
		e.roomID = "!" + e.id[1:]
	}
}

// locate finds the members of the event's JSON.
func (e *Event) locate() error {
	if !isObject(e.json) || len(e.json) > math.MaxUint32 {
		return fmt.Errorf("%w: not an object", ErrBadEvent)
	}
	m := membersOf(e.json)
	for {
		key, start, end, ok := m.next()
		if !ok {
			break
		}
		if field := fieldOf(key); field >= 0 {
			e.spans[field] = span{uint32(start), uint32(end)}
		}
	}
	if m.i = skipSpace(e.json, m.i); m.i != len(e.json)-1 || e.json[m.i] != '}' {
		return fmt.Errorf("%w: malformed object", ErrBadEvent)
	}
	return nil
}

// read sets the fields from the members' values. What has a wrong type is left
// empty.
func (e *Event) read(rules *VersionRules) {
	var text texts
	text.grow(e)
	e.typ = eventType(&text, e.raw(fieldType))
	e.sender = text.add(e.raw(fieldSender))
	e.roomID = text.add(e.raw(fieldRoomID))
	if raw := e.raw(fieldStateKey); isString(raw) {
		key := text.add(raw)
		e.stateKey = &key
	}
	if rules.GivenEventIDs() {
		e.id = text.add(e.raw(fieldEventID))
	}
	e.originTS, _ = int64Of(e.raw(fieldOriginServerTS))
	e.depth, _ = int64Of(e.raw(fieldDepth))
	switch e.typ {
	case "m.room.member":
		e.membership = membershipOf(member(e.raw(fieldContent), "membership"))
	case "m.room.redaction":
		if rules.RedactsInContent {
			e.redacts, _ = stringOf(member(e.raw(fieldContent), "redacts"))
		} else {
			e.redacts = text.add(e.raw(fieldRedacts))
		}
	}
	e.readReferences(&text)
}

// readReferences reads the IDs in auth_events and prev_events, one slice for
// both.
func (e *Event) readReferences(text *texts) {
	auth, prev := e.raw(fieldAuthEvents), e.raw(fieldPrevEvents)
	ids := make([]string, 0, countElements(auth)+countElements(prev))
	ids = appendReferences(ids, text, auth)
	numAuth := len(ids)
	ids = appendReferences(ids, text, prev)
	e.authEvents = ids[:numAuth:numAuth]
	e.prevEvents = ids[numAuth:]
}

func appendReferences(ids []string, text *texts, list []byte) []string {
	for el := elementsOf(list); ; {
		value, ok := el.next()
		if !ok {
			return ids
		}
		if isArray(value) { // v1, v2: a pair of ID and hash
			pair := elementsOf(value)
			value, _ = pair.next()
		}
		if isString(value) {
			ids = append(ids, text.add(value))
		}
	}
}

func countElements(array []byte) int {
	n := 0
	for el := elementsOf(array); ; n++ {
		if _, ok := el.next(); !ok {
			return n
		}
	}
}

// texts copies an event's strings into one block, so that they cost one
// allocation and do not keep the whole JSON alive.
type texts struct{ b strings.Builder }

// grow makes room for all strings of an event.
func (t *texts) grow(e *Event) {
	size := 0
	for _, field := range [...]int{
		fieldAuthEvents, fieldEventID, fieldPrevEvents, fieldRedacts,
		fieldRoomID, fieldSender, fieldStateKey, fieldType,
	} {
		size += int(e.spans[field].end - e.spans[field].start)
	}
	t.b.Grow(size)
}

// add copies a raw value that is a string, decoded; anything else is empty.
func (t *texts) add(raw []byte) string {
	if !isString(raw) {
		return ""
	}
	inner := raw[1 : len(raw)-1]
	start := t.b.Len()
	if bytes.IndexByte(inner, '\\') < 0 {
		t.b.Write(inner)
	} else {
		t.b.Write(appendUnescaped(make([]byte, 0, len(inner)), inner))
	}
	return t.b.String()[start:]
}

// eventType reads the type; what is sent most needs no copy.
func eventType(t *texts, raw []byte) string {
	switch string(raw) {
	case `"m.room.message"`:
		return "m.room.message"
	case `"m.room.encrypted"`:
		return "m.room.encrypted"
	case `"m.room.member"`:
		return "m.room.member"
	case `"m.reaction"`:
		return "m.reaction"
	case `"m.room.redaction"`:
		return "m.room.redaction"
	case `"m.room.create"`:
		return "m.room.create"
	case `"m.room.power_levels"`:
		return "m.room.power_levels"
	}
	return t.add(raw)
}

// membershipOf reads content.membership; the known ones need no copy.
func membershipOf(raw []byte) string {
	switch string(raw) {
	case `"join"`:
		return "join"
	case `"leave"`:
		return "leave"
	case `"invite"`:
		return "invite"
	case `"ban"`:
		return "ban"
	case `"knock"`:
		return "knock"
	}
	s, _ := stringOf(raw)
	return s
}
