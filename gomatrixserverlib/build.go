package gomatrixserverlib

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// EventBuilder is what an event of ours is made from. It does not change.
type EventBuilder struct {
	RoomID         string // empty for m.room.create from room version 12 on
	Sender, Type   string
	StateKey       *string        // nil: not a state event
	Content        jsontext.Value // a JSON object in any form
	Redacts        string         // of m.room.redaction; goes where the room version wants it
	OriginServerTS int64          // milliseconds since the Unix epoch
	Depth          int64
	PrevEvents     []string
	AuthEvents     []string
	Origin         string // a server name; left out if empty, as events need none

	// Only room versions 1 and 2: the event's ID, and the reference hashes of
	// PrevEvents and AuthEvents, in their order.
	EventID                string
	PrevHashes, AuthHashes [][sha256.Size]byte
}

// Build makes the event: canonical JSON, content hash, event ID. It is not
// signed, which does not change the ID. Errors wrap ErrBadJSON, ErrBadEvent,
// ErrTooLarge or ErrUnsupportedRoomVersion.
// spec: server-server-api §adding-hashes-and-signatures-to-outgoing-events
func (b *EventBuilder) Build(v RoomVersion) (*Event, error) {
	rules := v.Rules()
	if rules == nil {
		return nil, fmt.Errorf("%w %q", ErrUnsupportedRoomVersion, v)
	}
	content, err := b.content(rules)
	if err != nil {
		return nil, err
	}
	e := &Event{version: v}
	if e.json, err = b.json(rules, content); err != nil {
		return nil, err
	}
	if len(e.json) > MaxEventBytes {
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, len(e.json))
	}
	if !utf8.Valid(e.json) {
		return nil, fmt.Errorf("%w: not UTF-8", ErrBadEvent)
	}
	if rules.StrictJSON && (b.OriginServerTS > maxInteger || b.OriginServerTS < -maxInteger) {
		return nil, fmt.Errorf("%w: origin_server_ts %d is out of range", ErrBadEvent, b.OriginServerTS)
	}
	if err := e.locate(); err != nil {
		return nil, err
	}
	if err := e.finish(rules); err != nil {
		return nil, err
	}
	return e, nil
}

// content returns the canonical content.
func (b *EventBuilder) content(rules *VersionRules) ([]byte, error) {
	mode := modeLenient
	if rules.StrictJSON {
		mode = modeStrict
	}
	content, err := canonicalise(b.Content, mode)
	if err != nil {
		return nil, fmt.Errorf("content: %w", err)
	}
	if !isObject(content) {
		return nil, fmt.Errorf("%w: content is not an object", ErrBadEvent)
	}
	if b.Redacts != "" && rules.RedactsInContent {
		content = setMember(make([]byte, 0, len(content)+len(b.Redacts)+16), content, "redacts", appendString(nil, b.Redacts))
	}
	return content, nil
}

// json writes the event, members in canonical order. The content hash is that
// of the same without hashes and signatures, which are put in afterwards.
func (b *EventBuilder) json(rules *VersionRules, content []byte) ([]byte, error) {
	buf := make([]byte, 0, len(content)+512+64*(len(b.PrevEvents)+len(b.AuthEvents)))
	var err error
	buf = append(buf, `{"auth_events":`...)
	if buf, err = appendReferenceList(buf, b.AuthEvents, b.AuthHashes, rules); err != nil {
		return nil, err
	}
	buf = append(buf, `,"content":`...)
	buf = append(buf, content...)
	buf = append(buf, `,"depth":`...)
	buf = strconv.AppendInt(buf, b.Depth, 10)
	if rules.GivenEventIDs() {
		buf = appendStringMember(buf, "event_id", b.EventID)
	}
	buf = append(buf, ',')
	hashes := len(buf)
	if b.Origin != "" {
		buf = append(buf, `"origin":`...)
		buf = append(appendString(buf, b.Origin), ',')
	}
	buf = append(buf, `"origin_server_ts":`...)
	buf = strconv.AppendInt(buf, b.OriginServerTS, 10)
	buf = append(buf, `,"prev_events":`...)
	if buf, err = appendReferenceList(buf, b.PrevEvents, b.PrevHashes, rules); err != nil {
		return nil, err
	}
	if b.Redacts != "" && !rules.RedactsInContent {
		buf = appendStringMember(buf, "redacts", b.Redacts)
	}
	if b.RoomID != "" {
		buf = appendStringMember(buf, "room_id", b.RoomID)
	}
	buf = appendStringMember(buf, "sender", b.Sender)
	buf = append(buf, ',')
	signatures := len(buf)
	if b.StateKey != nil {
		buf = append(buf, `"state_key":`...)
		buf = append(appendString(buf, *b.StateKey), ',')
	}
	buf = append(buf, `"type":`...)
	buf = append(appendString(buf, b.Type), '}')

	hash := sha256.Sum256(buf)
	out := make([]byte, 0, len(buf)+96)
	out = append(out, buf[:hashes]...)
	out = append(out, `"hashes":{"sha256":"`...)
	out = base64.RawStdEncoding.AppendEncode(out, hash[:])
	out = append(out, `"},`...)
	out = append(out, buf[hashes:signatures]...)
	out = append(out, `"signatures":{},`...)
	return append(out, buf[signatures:]...), nil
}

// appendStringMember appends a member that is not the first.
func appendStringMember(dst []byte, key, value string) []byte {
	dst = append(dst, ',', '"')
	dst = append(dst, key...)
	dst = append(dst, '"', ':')
	return appendString(dst, value)
}

// appendReferenceList appends prev_events or auth_events.
func appendReferenceList(dst []byte, ids []string, hashes [][sha256.Size]byte, rules *VersionRules) ([]byte, error) {
	pairs := rules.GivenEventIDs()
	if pairs && len(hashes) != len(ids) {
		return nil, fmt.Errorf("%w: %d hashes for %d events", ErrBadEvent, len(hashes), len(ids))
	}
	dst = append(dst, '[')
	for i, id := range ids {
		if i > 0 {
			dst = append(dst, ',')
		}
		if !pairs {
			dst = appendString(dst, id)
			continue
		}
		dst = append(dst, '[')
		dst = appendString(dst, id)
		dst = append(dst, `,{"sha256":"`...)
		dst = base64.RawStdEncoding.AppendEncode(dst, hashes[i][:])
		dst = append(dst, `"}]`...)
	}
	return append(dst, ']'), nil
}
