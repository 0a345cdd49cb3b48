package gomatrixserverlib

// redactionRules says how a room version's redaction algorithm differs from
// that of version 1.
// spec: rooms/v*.md §redactions
type redactionRules struct {
	aliases            bool // v1-v5: m.room.aliases keeps aliases
	joinRuleAllow      bool // v8+: m.room.join_rules keeps allow
	memberAuthorisedBy bool // v9+: m.room.member keeps join_authorised_via_users_server
	updated            bool // v11+: the updates of MSC2174, MSC2175, MSC2176 and MSC3821
}

// keepsMember reports whether a member of the event itself survives.
func (r *redactionRules) keepsMember(key []byte) bool {
	switch string(key) {
	case "event_id", "type", "room_id", "sender", "state_key", "content", "hashes", "signatures",
		"depth", "prev_events", "auth_events", "origin_server_ts":
		return true
	case "prev_state", "origin", "membership":
		return !r.updated
	}
	return false
}

// keepsContent reports whether a member of the content survives.
func (r *redactionRules) keepsContent(typ string, key []byte) bool {
	switch typ {
	case "m.room.member":
		switch string(key) {
		case "membership":
			return true
		case "join_authorised_via_users_server":
			return r.memberAuthorisedBy
		}
	case "m.room.create":
		return r.updated || string(key) == "creator"
	case "m.room.join_rules":
		return string(key) == "join_rule" || r.joinRuleAllow && string(key) == "allow"
	case "m.room.power_levels":
		switch string(key) {
		case "ban", "events", "events_default", "kick", "redact", "state_default", "users", "users_default":
			return true
		case "invite":
			return r.updated
		}
	case "m.room.aliases":
		return r.aliases && string(key) == "aliases"
	case "m.room.history_visibility":
		return string(key) == "history_visibility"
	case "m.room.redaction":
		return r.updated && string(key) == "redacts"
	}
	return false
}

// appendEvent appends the redacted form of an event's canonical JSON, with or
// without signatures. Since members keep their order it is canonical too.
func (r *redactionRules) appendEvent(dst, json []byte, typ string, signatures bool) []byte {
	dst = append(dst, '{')
	first := len(dst)
	for m := membersOf(json); ; {
		key, start, end, ok := m.next()
		if !ok {
			return append(dst, '}')
		}
		switch {
		case !r.keepsMember(key), !signatures && string(key) == "signatures":
		case string(key) == "content":
			dst = appendMember(dst, first, key, nil)
			dst = r.appendContent(dst, json[start:end], typ)
		default:
			dst = appendMember(dst, first, key, json[start:end])
		}
	}
}

// appendContent appends the redacted form of an event's content.
func (r *redactionRules) appendContent(dst, content []byte, typ string) []byte {
	if r.updated && typ == "m.room.create" {
		return append(dst, content...)
	}
	dst = append(dst, '{')
	first := len(dst)
	for m := membersOf(content); ; {
		key, start, end, ok := m.next()
		if !ok {
			return append(dst, '}')
		}
		value := content[start:end]
		switch {
		case r.keepsContent(typ, key):
			dst = appendMember(dst, first, key, value)
		case r.updated && typ == "m.room.member" && string(key) == "third_party_invite":
			// The key stays, and only the signed key in it.
			if isObject(value) {
				dst = appendMember(dst, first, key, nil)
				dst = appendOnly(dst, value, "signed")
			}
		}
	}
}

// appendOnly appends an object with one of its members, if that is there.
func appendOnly(dst, object []byte, key string) []byte {
	dst = append(dst, '{')
	if value := member(object, key); value != nil {
		dst = appendMember(dst, len(dst), []byte(key), value)
	}
	return append(dst, '}')
}
