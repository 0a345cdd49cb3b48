package gomatrixserverlib

import (
	"fmt"
	"strconv"
	"strings"
)

// AuthState is the state that an event is authorised against.
type AuthState interface {
	// StateEvent returns the event at a key of the state; nil if there is
	// none. In room version 12 too ("m.room.create", "") gives the create
	// event, found through the room ID.
	StateEvent(eventType, stateKey string) *Event
}

// PowerLevelState is an AuthState that has the room's power levels parsed
// already, which saves Authorise most of its work. They must be those of the
// state's m.room.create and m.room.power_levels; nil lets Authorise parse them.
type PowerLevelState interface {
	AuthState
	PowerLevels() *PowerLevels
}

// StateEvents is an AuthState made of a map.
type StateEvents map[StateKey]*Event

// StateEvent returns the event at a key; nil if there is none.
func (s StateEvents) StateEvent(eventType, stateKey string) *Event {
	return s[StateKey{eventType, stateKey}]
}

// NewStateEvents makes an AuthState of state events, such as an event's auth
// events. Of two with the same key the later one counts; nil and events that
// are no state events are left out.
func NewStateEvents(events ...*Event) StateEvents {
	state := make(StateEvents, len(events))
	for _, e := range events {
		if e != nil && e.IsState() {
			state[e.Key()] = e
		}
	}
	return state
}

// AuthError says that the authorisation rules refuse an event.
type AuthError struct {
	Rule   string // as the specification of the room version numbers it, such as "4.3.2"
	Reason string // for people; has identifiers of the room, no content
}

// Error returns the rule and the reason.
func (e *AuthError) Error() string { return "refused by rule " + e.Rule + ": " + e.Reason }

// refuse makes an AuthError of a rule number and the reason's parts.
func refuse(rule []int, reason ...string) error {
	var number strings.Builder
	for i, n := range rule {
		if i > 0 {
			number.WriteByte('.')
		}
		number.WriteString(strconv.Itoa(n))
	}
	return &AuthError{Rule: number.String(), Reason: strings.Join(reason, "")}
}

// authorisation is one check of an event.
type authorisation struct {
	event  *Event
	state  AuthState
	rules  *VersionRules
	create *Event
	levels *PowerLevels
}

// Authorise checks an event by the authorisation rules of its room version
// against a state of the room. It returns nil, or an *AuthError that names the
// first rule that refuses it; another error means that the room version is
// unknown.
//
// The rules on auth_events themselves are CheckAuthEvents. Signatures are the
// caller's duty, also that of the server of
// content.join_authorised_via_users_server: see RequiredSigners. Only the
// signature of a third-party invite is checked here. In room version 12 the
// caller must not give a rejected m.room.create.
// spec: server-server-api §authorisation-rules, rooms/v1..v12 §authorisation-rules
func Authorise(e *Event, state AuthState) error {
	rules := e.version.Rules()
	if rules == nil {
		return fmt.Errorf("%w %q", ErrUnsupportedRoomVersion, e.version)
	}
	if e.typ == "m.room.create" {
		return authoriseCreate(e, rules)
	}
	a := authorisation{event: e, state: state, rules: rules}
	a.create = state.StateEvent("m.room.create", "")
	if err := a.checkRoom(); err != nil {
		return err
	}
	if rules.AliasesAuth && e.typ == "m.room.aliases" {
		return a.aliases()
	}
	if err := a.findLevels(); err != nil {
		return err
	}
	if e.typ == "m.room.member" {
		return a.member()
	}
	return a.ordinary()
}

// findLevels sets the power levels: those that the state has parsed already if
// they are of this very state.
func (a *authorisation) findLevels() error {
	event := a.state.StateEvent("m.room.power_levels", "")
	if cached, ok := a.state.(PowerLevelState); ok {
		if levels := cached.PowerLevels(); levels != nil && sameID(levels.event, event) {
			a.levels = levels
			return nil
		}
	}
	levels, err := NewPowerLevels(a.event.version, a.create, event)
	a.levels = levels
	return err
}

func sameID(x, y *Event) bool {
	return x == y || x != nil && y != nil && x.id == y.id
}

// checkRoom checks that the room's create event is there (rule 2 of version
// 12) and lets the sender's server in (rule 3; 4 in version 12).
func (a *authorisation) checkRoom() error {
	n := a.rules.ruleNumbers()
	noCreate, otherRoom := []int{n.authEvents, 4}, []int{n.authEvents, 5}
	if a.rules.RoomIDFromCreate {
		noCreate, otherRoom = []int{2}, []int{2}
	}
	if a.create == nil {
		return refuse(noCreate, "the room has no m.room.create")
	}
	if a.create.roomID != a.event.roomID || a.create.version != a.event.version {
		return refuse(otherRoom, "m.room.create is of another room")
	}
	if string(member(a.create.Content(), "m.federate")) == "false" &&
		domainOf(a.event.sender) != domainOf(a.create.sender) {
		return refuse([]int{n.federate}, "the room does not federate, and the sender is not of its server")
	}
	return nil
}

// aliases is the rule on m.room.aliases of versions 1 to 5.
func (a *authorisation) aliases() error {
	n := a.rules.ruleNumbers()
	if a.event.stateKey == nil {
		return refuse([]int{n.aliases, 1}, "m.room.aliases is no state event")
	}
	if *a.event.stateKey != domainOf(a.event.sender) {
		return refuse([]int{n.aliases, 2}, "the state key is not the sender's server")
	}
	return nil
}

// ordinary has the rules on whatever is not create, aliases or membership.
func (a *authorisation) ordinary() error {
	e, n := a.event, a.rules.ruleNumbers()
	if a.membership(e.sender) != "join" {
		return refuse([]int{n.joined}, e.sender, " is not in the room")
	}
	level := a.levels.UserLevel(e.sender)
	if e.typ == "m.room.third_party_invite" {
		if level < a.levels.Invite() {
			return refuse([]int{n.thirdParty, 1}, e.sender, " may not invite")
		}
		return nil
	}
	if level < a.levels.EventLevel(e.typ, e.IsState()) {
		return refuse([]int{n.required}, e.sender, " may not send ", e.typ)
	}
	if e.stateKey != nil && strings.HasPrefix(*e.stateKey, "@") && *e.stateKey != e.sender {
		return refuse([]int{n.userKey}, "the state key is another user's")
	}
	if e.typ == "m.room.power_levels" {
		return a.powerLevels(level)
	}
	if a.rules.RedactionAuth && e.typ == "m.room.redaction" {
		if level < a.levels.Redact() && domainOf(e.redacts) != domainOf(e.id) {
			return refuse([]int{n.redaction, 3}, e.sender, " may not redact events of other servers")
		}
	}
	return nil
}

// membership returns a user's membership in the state; empty if it has none.
func (a *authorisation) membership(userID string) string {
	if e := a.state.StateEvent("m.room.member", userID); e != nil {
		return e.membership
	}
	return ""
}

// RedactionApplies reports whether a redaction that was accepted may take
// effect on the event that it names, given the power levels of the state before
// it. In room versions 1 and 2 the authorisation rules say so already.
// spec: rooms/v3 §handling-redactions
func RedactionApplies(redaction, original *Event, levels *PowerLevels) bool {
	if redaction.roomID != original.roomID || redaction.redacts != original.id {
		return false
	}
	if redaction.version.Rules().RedactionAuth {
		return true
	}
	return levels.UserLevel(redaction.sender) >= levels.Redact() ||
		domainOf(redaction.sender) == domainOf(original.sender)
}
