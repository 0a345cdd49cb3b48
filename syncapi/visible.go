package syncapi

import (
	"github.com/matrix-org/dendrite/syncapi/storage"
)

// visible decides whether a user sees an event of a room's tail, by the user's
// memberships through time. Older events are asked of the room server, which
// decides by the state at the event.
// spec: client-server-api §room-history-visibility
func visible(changes []storage.Membership, ev *event, userID string) bool {
	seq := ev.Position.Seq
	prior, joinsLater := "", false
	for _, c := range changes {
		switch {
		case c.Seq < seq:
			prior = c.Membership
		case c.Membership == "join":
			joinsLater = true
		}
	}
	memberships := []string{prior}
	if ev.isTarget(userID) {
		memberships = append(memberships, ev.Membership())
	}
	rules := []string{ev.HistoryVisibility}
	if ev.Type() == "m.room.history_visibility" && ev.hvBefore != "" {
		rules = append(rules, ev.hvBefore)
	}
	for _, rule := range rules {
		for _, m := range memberships {
			if allows(rule, m, joinsLater) {
				return true
			}
		}
	}
	return false
}

func allows(rule, membership string, joinsLater bool) bool {
	switch {
	case rule == "world_readable", membership == "join":
		return true
	case rule == "invited":
		return membership == "invite"
	case rule == "joined":
		return false
	default: // shared, unset or not understood
		return joinsLater
	}
}
