package api

import (
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/gomatrixserverlib"
)

// ClientForm says for whom events are made ready, so that they can be put into
// an answer as they are.
type ClientForm struct {
	// UserID and DeviceID are the reader's, who is shown its own transaction IDs and
	// delayed events.
	UserID, DeviceID string
	// Now is the time for which ages are told, in milliseconds.
	Now int64
	// Membership, if set, passes over the members whose membership is another,
	// NotMembership those whose it is; both together make an "or".
	Membership, NotMembership string
}

// Render makes the JSON array of the events that the reader gets. redactions are
// the events that redacted some of them, by ID.
func (f *ClientForm) Render(events []*StoredEvent, redactions map[string]*StoredEvent) jsontext.Value {
	size := 2
	for _, e := range events {
		size += len(e.JSON()) + 128
	}
	out := append(make([]byte, 0, size), '[')
	unsigned := make([]byte, 0, 128)
	for _, e := range events {
		if !f.wants(e) {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		unsigned = f.appendUnsigned(unsigned[:0], e, redactions)
		out = e.AppendClient(out, gomatrixserverlib.ClientFormat{Unsigned: unsigned})
	}
	return append(out, ']')
}

// wants applies the filters of memberships.
// spec: client-server-api §get_matrixclientv3roomsroomidmembers
func (f *ClientForm) wants(e *StoredEvent) bool {
	if f.Membership == "" && f.NotMembership == "" {
		return true
	}
	m := e.Membership()
	return f.Membership != "" && m == f.Membership || f.NotMembership != "" && m != f.NotMembership
}

// appendUnsigned appends the object unsigned.
// spec: client-server-api §room-event-format
func (f *ClientForm) appendUnsigned(dst []byte, e *StoredEvent, redactions map[string]*StoredEvent) []byte {
	dst = append(dst, `{"age":`...)
	dst = strconv.AppendInt(dst, max(0, f.Now-e.OriginServerTS()), 10)
	if e.ReplacesState != "" {
		dst = append(dst, `,"replaces_state":`...)
		dst = appendQuoted(dst, e.ReplacesState)
	}
	if by := redactions[e.RedactedBy]; by != nil {
		dst = append(dst, `,"redacted_because":`...)
		dst = by.AppendClient(dst, gomatrixserverlib.ClientFormat{})
	}
	if e.TxnID != "" && e.Device == f.DeviceID && e.Sender() == f.UserID {
		dst = append(dst, `,"transaction_id":`...)
		dst = appendQuoted(dst, e.TxnID)
	}
	if e.DelayID != "" && e.Sender() == f.UserID {
		dst = append(append(dst, `,"`...), UnsignedDelayID+`":`...)
		dst = appendQuoted(dst, e.DelayID)
	}
	return append(dst, '}')
}

// UnsignedDelayID is where unsigned has the ID of the delayed event that an event
// was: for its sender, on whatever device.
// spec: MSC4140
const UnsignedDelayID = "org.matrix.msc4140.delay_id"

// appendQuoted appends s as a JSON string; what is not UTF-8 is replaced, which
// no ID that was accepted holds.
func appendQuoted(dst []byte, s string) []byte {
	dst, _ = jsontext.AppendQuote(dst, s) // the error only says that it replaced something
	return dst
}

// RedactedBy lists what redacted some of the events.
func RedactedBy(events []*StoredEvent) []string {
	var ids []string
	for _, e := range events {
		if e.RedactedBy != "" {
			ids = append(ids, e.RedactedBy)
		}
	}
	return ids
}
