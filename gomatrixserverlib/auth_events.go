package gomatrixserverlib

import (
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// AuthKeys returns the keys of the state events that an event with the given
// type, sender, state key (nil if it is no state event) and content must name
// as its auth events, if the state has them. The sender must be a user ID;
// content that is malformed selects less. In room version 12 m.room.create is
// not among them. It is an error if the room version is unknown.
// spec: server-server-api §auth-events-selection
func AuthKeys(v RoomVersion, typ, sender string, stateKey *string, content jsontext.Value) ([]StateKey, error) {
	rules := v.Rules()
	if rules == nil {
		return nil, fmt.Errorf("%w %q", ErrUnsupportedRoomVersion, v)
	}
	membership := ""
	if typ == "m.room.member" {
		membership = membershipOf(member(content, "membership"))
	}
	return appendAuthKeys(nil, rules, typ, sender, stateKey, membership, content), nil
}

// AuthKeys returns the keys of the event's auth events: see the function.
func (e *Event) AuthKeys() []StateKey {
	return appendAuthKeys(nil, e.version.Rules(), e.typ, e.sender, e.stateKey, e.membership, e.Content())
}

func appendAuthKeys(keys []StateKey, rules *VersionRules, typ, sender string, stateKey *string, membership string, content []byte) []StateKey {
	if typ == "m.room.create" {
		return keys
	}
	if rules.CreateInAuthEvents {
		keys = append(keys, StateKey{"m.room.create", ""})
	}
	keys = append(keys, StateKey{"m.room.power_levels", ""}, StateKey{"m.room.member", sender})
	if typ != "m.room.member" {
		return keys
	}
	if stateKey != nil && *stateKey != sender {
		keys = append(keys, StateKey{"m.room.member", *stateKey})
	}
	switch membership {
	case "join", "invite", "knock":
		keys = append(keys, StateKey{"m.room.join_rules", ""})
	}
	if membership == "invite" {
		if token, ok := thirdPartyToken(content); ok {
			keys = append(keys, StateKey{"m.room.third_party_invite", token})
		}
	}
	if membership == "join" && rules.RestrictedAllowed {
		user, _, ok := authorisingUser(content)
		if ok && user != sender && (stateKey == nil || user != *stateKey) {
			keys = append(keys, StateKey{"m.room.member", user})
		}
	}
	return keys
}

// MissingEventsError says which events are needed and were not given.
type MissingEventsError struct{ EventIDs []string }

// Error names up to ten of the events.
func (e *MissingEventsError) Error() string {
	const most = 10
	if len(e.EventIDs) <= most {
		return "missing events " + strings.Join(e.EventIDs, ", ")
	}
	return fmt.Sprintf("missing events %s and %d more",
		strings.Join(e.EventIDs[:most], ", "), len(e.EventIDs)-most)
}

// CheckAuthEvents checks an event by the rules on its auth_events, which auth
// must have, in any order; one that is not there gives a *MissingEventsError.
// rejected says whether an event was rejected on receipt; nil means that none
// was. An event that breaks a rule gives an *AuthError.
//
// It does not check that the auth events allow the event: call Authorise with
// NewStateEvents(auth...), in room version 12 with the create event added.
// spec: rooms/v1..v11 §authorisation-rules 2, v12 3
func CheckAuthEvents(e *Event, auth []*Event, rejected func(id string) bool) error {
	rules := e.version.Rules()
	if rules == nil {
		return fmt.Errorf("%w %q", ErrUnsupportedRoomVersion, e.version)
	}
	rule := rules.ruleNumbers().authEvents
	if e.typ == "m.room.create" {
		if len(e.authEvents) > 0 {
			return refuse([]int{rule, 2}, "m.room.create has auth events")
		}
		return nil
	}
	entries, err := authEntries(e, auth)
	if err != nil {
		return err
	}
	for i, x := range entries {
		for _, y := range entries[:i] {
			if x.Key() == y.Key() {
				return refuse([]int{rule, 1}, "two auth events are ", x.typ)
			}
		}
	}
	selected := e.AuthKeys()
	hasCreate := false
	for _, x := range entries {
		if !x.IsState() || !containsStateKey(selected, x.Key()) {
			return refuse([]int{rule, 2}, x.id, " (", x.typ, ") does not belong to the auth events")
		}
		hasCreate = hasCreate || x.typ == "m.room.create"
	}
	for _, x := range entries {
		if rejected != nil && rejected(x.id) {
			return refuse([]int{rule, 3}, "the auth event ", x.id, " was rejected")
		}
	}
	if rules.CreateInAuthEvents && !hasCreate {
		return refuse([]int{rule, 4}, "m.room.create is not among the auth events")
	}
	for _, x := range entries {
		if x.roomID != e.roomID {
			// Without rule 4 this one moves up, as the page shows it.
			sub := 5
			if !rules.CreateInAuthEvents {
				sub = 4
			}
			return refuse([]int{rule, sub}, "the auth event ", x.id, " is of another room")
		}
	}
	return nil
}

// authEntries returns the events that auth_events names, in its order.
func authEntries(e *Event, auth []*Event) ([]*Event, error) {
	entries := make([]*Event, 0, len(e.authEvents))
	var missing []string
	for _, id := range e.authEvents {
		if x := eventOf(auth, id); x != nil {
			entries = append(entries, x)
		} else {
			missing = append(missing, id)
		}
	}
	if len(missing) > 0 {
		return nil, &MissingEventsError{EventIDs: missing}
	}
	return entries, nil
}

func eventOf(events []*Event, id string) *Event {
	for _, e := range events {
		if e != nil && e.id == id {
			return e
		}
	}
	return nil
}

func containsStateKey(keys []StateKey, key StateKey) bool {
	for _, k := range keys {
		if k == key {
			return true
		}
	}
	return false
}
