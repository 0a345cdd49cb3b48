package gomatrixserverlib

// authoriseCreate has the rules on m.room.create.
// spec: rooms/v1..v12 §authorisation-rules 1
func authoriseCreate(e *Event, rules *VersionRules) error {
	// No rule asks for it, but nothing else is found as the create event.
	if !e.StateKeyEquals("") {
		return refuse([]int{1}, "m.room.create has no empty state key")
	}
	if len(e.prevEvents) > 0 {
		return refuse([]int{1, 1}, "m.room.create has previous events")
	}
	if rules.RoomIDFromCreate {
		if e.raw(fieldRoomID) != nil {
			return refuse([]int{1, 2}, "m.room.create has a room ID")
		}
	} else if domainOf(e.roomID) != domainOf(e.sender) {
		return refuse([]int{1, 2}, "the room ID is not of the sender's server")
	}
	// The version that the event was read with is that of the room.
	version := RoomVersionV1
	if raw := member(e.Content(), "room_version"); raw != nil {
		text, _ := stringOf(raw)
		version = RoomVersion(text)
	}
	if version != e.version {
		return refuse([]int{1, 3}, "room_version is not known or not that of the room")
	}
	if rules.CreatorInContent && member(e.Content(), "creator") == nil {
		return refuse([]int{1, 4}, "m.room.create names no creator")
	}
	if rules.CreatorsPrivileged && !validAdditionalCreators(e) {
		return refuse([]int{1, 4}, "additional_creators is not an array of user IDs")
	}
	return nil
}

func validAdditionalCreators(create *Event) bool {
	raw := member(create.Content(), "additional_creators")
	if raw == nil {
		return true
	}
	if !isArray(raw) {
		return false
	}
	for el := elementsOf(raw); ; {
		value, ok := el.next()
		if !ok {
			return true
		}
		user, ok := stringOf(value)
		if !ok {
			return false
		}
		// As strict as ParseEvent is with senders.
		if _, _, err := ParseHistoricalUserID(user); err != nil {
			return false
		}
	}
}
