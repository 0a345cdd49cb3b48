package syncapi

import (
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/gomatrixserverlib"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

// appendString appends s as a JSON string. Bytes that are no UTF-8, which no
// stored identifier has, become the replacement character.
func appendString(dst []byte, s string) []byte {
	dst, _ = jsontext.AppendQuote(dst, s) // the error only says that it replaced something
	return dst
}

// appendKey appends a member's name and colon, with a comma where one is needed.
func appendKey(dst []byte, name string) []byte {
	return append(appendString(comma(dst), name), ':')
}

// comma appends a comma unless an array, an object or a member's value begins here.
func comma(dst []byte) []byte {
	if n := len(dst); n > 0 && dst[n-1] != '[' && dst[n-1] != '{' && dst[n-1] != ',' && dst[n-1] != ':' {
		return append(dst, ',')
	}
	return dst
}

// shown is how events are shown to one client.
type shown struct {
	userID, deviceID string
	now              int64 // milliseconds, for age
	// expired is the time before which events have expired, also those that are shown
	// within others.
	expired    int64
	withRoomID bool
	federation bool
	fields     *fieldTree
	// memberAt tells the user's membership right after a position of the
	// room; nil leaves it out.
	memberAt func(seq int64) string
	// extra holds what was looked up for single events, by event ID.
	extra map[string]*extras
	// nested is set for events shown within another's aggregations.
	nested bool
}

// extras is the unsigned data of an event that is not in the event.
type extras struct {
	prev      *gomatrixserverlib.Event // the state event that it replaced
	redaction *event                   // what redacted it
	relations []byte                   // the JSON object m.relations
}

// appendEvent appends an event as the client is to see it: the bytes that all
// share, then what is this client's own.
func (s *shown) appendEvent(dst []byte, ev *event) []byte {
	if s.fields != nil {
		return s.fields.project(dst, s.appendWhole(nil, ev))
	}
	return s.appendWhole(dst, ev)
}

func (s *shown) appendWhole(dst []byte, ev *event) []byte {
	if s.federation {
		return ev.AppendClient(dst, gomatrixserverlib.ClientFormat{Federation: true, Unsigned: s.appendUnsigned(nil, ev)})
	}
	dst = append(dst, ev.client()...)
	if s.withRoomID {
		dst = append(dst, `,"room_id":`...)
		dst = appendString(dst, ev.RoomID())
	}
	dst = append(dst, `,"unsigned":`...)
	dst = s.appendUnsigned(dst, ev)
	return append(dst, '}')
}

// appendUnsigned appends the object unsigned.
// spec: client-server-api §room-event-format
func (s *shown) appendUnsigned(dst []byte, ev *event) []byte {
	dst = append(dst, `{"age":`...)
	dst = strconv.AppendInt(dst, max(s.now-ev.OriginServerTS(), 0), 10)
	if s.memberAt != nil {
		seq := ev.Position.Seq
		if ev.Position.Sub < 0 {
			seq-- // fetched from before it
		}
		membership := s.memberAt(seq)
		if membership == "" {
			membership = "leave"
		}
		dst = append(dst, `,"membership":`...)
		dst = appendString(dst, membership)
	}
	// spec: client-server-api §transaction-identifiers
	if ev.TxnID != "" && ev.Device == s.deviceID && ev.Sender() == s.userID {
		dst = append(dst, `,"transaction_id":`...)
		dst = appendString(dst, ev.TxnID)
	}
	if ev.DelayID != "" && ev.Sender() == s.userID {
		dst = appendString(appendKey(dst, roomapi.UnsignedDelayID), ev.DelayID)
	}
	if ev.ReplacesState != "" {
		dst = append(dst, `,"replaces_state":`...)
		dst = appendString(dst, ev.ReplacesState)
	}
	if x := s.extra[ev.EventID()]; x != nil {
		dst = s.appendExtras(dst, x)
	}
	return append(dst, '}')
}

func (s *shown) appendExtras(dst []byte, x *extras) []byte {
	if x.prev != nil {
		dst = append(dst, `,"prev_content":`...)
		dst = append(dst, x.prev.Content()...)
		dst = append(dst, `,"prev_sender":`...)
		dst = appendString(dst, x.prev.Sender())
	}
	if x.redaction != nil && !expired(x.redaction, s.expired) {
		plain := &shown{userID: s.userID, deviceID: s.deviceID, now: s.now, withRoomID: s.withRoomID}
		dst = append(dst, `,"redacted_because":`...)
		dst = plain.appendWhole(dst, x.redaction)
	}
	if x.relations != nil {
		dst = append(dst, `,"m.relations":`...)
		dst = append(dst, x.relations...)
	}
	return dst
}

// appendEvents appends an array of events.
func (s *shown) appendEvents(dst []byte, events []*event) []byte {
	dst = append(dst, '[')
	for i, ev := range events {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = s.appendEvent(dst, ev)
	}
	return append(dst, ']')
}

// appendPlain appends an event that is neither timeline nor state: account
// data, ephemeral events.
func appendPlain(dst []byte, typ string, content jsontext.Value) []byte {
	dst = append(dst, `{"content":`...)
	dst = append(dst, content...)
	dst = append(dst, `,"type":`...)
	dst = appendString(dst, typ)
	return append(dst, '}')
}
