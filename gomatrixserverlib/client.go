package gomatrixserverlib

// ClientFormat says how an event is shown to a client.
type ClientFormat struct {
	OmitRoomID bool   // leave out room_id, as /sync does
	Unsigned   []byte // a complete JSON object for unsigned; nil: none
	Federation bool   // the federation format (event_format "federation" of filters)
	Stripped   bool   // stripped state: content, sender, state_key and type only
}

// AppendClient appends the event as a client gets it, spliced from its bytes.
// The unsigned data that the event was received with is never shown. A
// redaction's redacts is put both at the top level and into the content.
// spec: client-server-api §room-event-format, rooms/v11 §moving-the-redacts-property
func (e *Event) AppendClient(dst []byte, opts ClientFormat) []byte {
	if opts.Federation {
		return e.appendFederation(dst, opts.Unsigned)
	}
	dst = append(dst, `{"content":`...)
	dst = e.appendClientContent(dst)
	if !opts.Stripped {
		dst = append(dst, `,"event_id":`...)
		dst = appendString(dst, e.id)
		dst = append(dst, `,"origin_server_ts":`...)
		dst = append(dst, e.raw(fieldOriginServerTS)...)
		if e.redacts != "" {
			dst = append(dst, `,"redacts":`...)
			dst = appendString(dst, e.redacts)
		}
		if !opts.OmitRoomID {
			dst = append(dst, `,"room_id":`...)
			dst = appendString(dst, e.roomID)
		}
	}
	dst = append(dst, `,"sender":`...)
	dst = append(dst, e.raw(fieldSender)...)
	if e.stateKey != nil {
		dst = append(dst, `,"state_key":`...)
		dst = append(dst, e.raw(fieldStateKey)...)
	}
	dst = append(dst, `,"type":`...)
	dst = append(dst, e.raw(fieldType)...)
	if opts.Unsigned != nil && !opts.Stripped {
		dst = append(dst, `,"unsigned":`...)
		dst = append(dst, opts.Unsigned...)
	}
	return append(dst, '}')
}

// appendClientContent appends the content; a redaction's with redacts.
func (e *Event) appendClientContent(dst []byte) []byte {
	content := e.raw(fieldContent)
	if e.redacts == "" || e.version.Rules().RedactsInContent {
		return append(dst, content...)
	}
	return setMember(dst, content, "redacts", e.raw(fieldRedacts))
}

// appendFederation appends the federation format with other unsigned data.
func (e *Event) appendFederation(dst, unsigned []byte) []byte {
	if unsigned != nil {
		return setMember(dst, e.json, "unsigned", unsigned)
	}
	if e.raw(fieldUnsigned) == nil {
		return append(dst, e.json...)
	}
	return appendWithout(dst, e.json, "unsigned")
}
