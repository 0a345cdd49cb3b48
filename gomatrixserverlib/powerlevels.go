package gomatrixserverlib

import (
	"fmt"
	"math"
)

// The levels that hold where m.room.power_levels does not say otherwise.
// spec: client-server-api §mroompower_levels
const (
	defaultBan           = 50
	defaultKick          = 50
	defaultRedact        = 50
	defaultInvite        = 0
	defaultState         = 50
	defaultEvents        = 0
	defaultUsers         = 0
	defaultNotification  = 50
	levelOfCreator       = 100 // v1-v11, in rooms without m.room.power_levels
	levelOfCreatorsOfV12 = math.MaxInt64
)

// PowerLevels says what power users have in a room, and what power actions
// need. It is immutable and safe for concurrent use: parse it once for a room's
// state and hand it to Authorise through PowerLevelState.
type PowerLevels struct {
	rules    *VersionRules
	creators []string
	event    *Event // m.room.power_levels; nil if there is none
	content  levelContent
}

// NewPowerLevels reads the power levels of a room from its m.room.create and
// m.room.power_levels events. Either may be nil: without create nobody is a
// creator, without power levels the defaults hold.
//
// Events of state are taken as they are: a level that cannot be read (which
// room versions 1 to 9 let pass) counts as missing. It is an error if the room
// version is unknown or an event has another type.
func NewPowerLevels(v RoomVersion, create, powerLevels *Event) (*PowerLevels, error) {
	rules := v.Rules()
	if rules == nil {
		return nil, fmt.Errorf("%w %q", ErrUnsupportedRoomVersion, v)
	}
	p := &PowerLevels{rules: rules, event: powerLevels}
	if create != nil {
		if create.Type() != "m.room.create" {
			return nil, fmt.Errorf("%w: %s is no m.room.create", ErrBadEvent, create.EventID())
		}
		p.creators = Creators(create)
	}
	if powerLevels != nil {
		if powerLevels.Type() != "m.room.power_levels" {
			return nil, fmt.Errorf("%w: %s is no m.room.power_levels", ErrBadEvent, powerLevels.EventID())
		}
		p.content = parseLevelContent(powerLevels.Content(), rules)
	}
	return p, nil
}

// Creators returns who the creators of a room are: content.creator of
// m.room.create up to room version 10, its sender in 11, in room version 12
// the additional creators too, the sender first. Nobody is listed twice.
// spec: rooms/v12 §authorisation-rules
func Creators(create *Event) []string {
	rules := create.version.Rules()
	if rules.CreatorInContent {
		creator, ok := stringOf(member(create.Content(), "creator"))
		if !ok {
			return nil
		}
		return []string{creator}
	}
	creators := []string{create.Sender()}
	if !rules.CreatorsPrivileged {
		return creators
	}
	for el := elementsOf(member(create.Content(), "additional_creators")); ; {
		raw, ok := el.next()
		if !ok {
			return creators
		}
		if user, ok := stringOf(raw); ok && !containsString(creators, user) {
			creators = append(creators, user)
		}
	}
}

func containsString(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// IsCreator reports whether the user is one of the room's creators.
func (p *PowerLevels) IsCreator(userID string) bool { return containsString(p.creators, userID) }

// Event returns the m.room.power_levels event; nil if the room has none.
func (p *PowerLevels) Event() *Event { return p.event }

// UserLevel returns a user's power level. The creators of a room of version 12
// have math.MaxInt64, more than any level that can be set.
func (p *PowerLevels) UserLevel(userID string) int64 {
	if p.rules.CreatorsPrivileged && p.IsCreator(userID) {
		return levelOfCreatorsOfV12
	}
	if p.event == nil {
		if p.IsCreator(userID) {
			return levelOfCreator
		}
		return defaultUsers
	}
	if l := p.content.maps[mapUsers][userID]; l.kind == levelOK {
		return l.value
	}
	return p.UsersDefault()
}

// EventLevel returns the level that sending an event of that type needs, as a
// state event or not. Membership has rules of its own.
func (p *PowerLevels) EventLevel(eventType string, state bool) int64 {
	if l := p.content.maps[mapEvents][eventType]; l.kind == levelOK {
		return l.value
	}
	if state {
		return p.StateDefault()
	}
	return p.EventsDefault()
}

// Notification returns the level that triggering a notification of that kind,
// such as "room", needs.
func (p *PowerLevels) Notification(key string) int64 {
	return p.content.maps[mapNotifications][key].or(defaultNotification)
}

// MayNotify tells whether a user may trigger a notification of a kind in a room with
// these m.room.create and m.room.power_levels: nobody may where there is no room, or
// where the levels cannot be read.
// spec: client-server-api §push-rules (sender_notification_permission)
func MayNotify(create, powerLevels *Event, userID, kind string) bool {
	if create == nil {
		return false
	}
	p, err := NewPowerLevels(create.Version(), create, powerLevels)
	return err == nil && p.UserLevel(userID) >= p.Notification(kind)
}

// Invite returns the level that inviting needs.
func (p *PowerLevels) Invite() int64 { return p.content.levels[levelInvite].or(defaultInvite) }

// Kick returns the level that removing a member needs.
func (p *PowerLevels) Kick() int64 { return p.content.levels[levelKick].or(defaultKick) }

// Ban returns the level that banning and unbanning need.
func (p *PowerLevels) Ban() int64 { return p.content.levels[levelBan].or(defaultBan) }

// Redact returns the level that redacting the events of others needs.
func (p *PowerLevels) Redact() int64 { return p.content.levels[levelRedact].or(defaultRedact) }

// StateDefault returns the level that state events need whose type is not
// listed.
func (p *PowerLevels) StateDefault() int64 {
	return p.content.levels[levelStateDefault].or(defaultState)
}

// EventsDefault returns the level that other events need whose type is not
// listed.
func (p *PowerLevels) EventsDefault() int64 {
	return p.content.levels[levelEventsDefault].or(defaultEvents)
}

// UsersDefault returns the level of users that are not listed.
func (p *PowerLevels) UsersDefault() int64 {
	return p.content.levels[levelUsersDefault].or(defaultUsers)
}
