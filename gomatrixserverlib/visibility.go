package gomatrixserverlib

// HistoryVisibility says who may see a room's history.
// spec: client-server-api §room-history-visibility
type HistoryVisibility string

// The history visibilities.
const (
	VisibilityWorldReadable HistoryVisibility = "world_readable"
	VisibilityShared        HistoryVisibility = "shared"
	VisibilityInvited       HistoryVisibility = "invited"
	VisibilityJoined        HistoryVisibility = "joined"
)

// HistoryVisibilityOf reads an m.room.history_visibility event. Without one
// (nil), and if the value is not understood, it is shared.
func HistoryVisibilityOf(e *Event) HistoryVisibility {
	if e == nil {
		return VisibilityShared
	}
	switch string(member(e.Content(), "history_visibility")) {
	case `"world_readable"`:
		return VisibilityWorldReadable
	case `"invited"`:
		return VisibilityInvited
	case `"joined"`:
		return VisibilityJoined
	}
	return VisibilityShared
}

// visibilityAfter returns the visibility after an event.
func visibilityAfter(e *Event, before HistoryVisibility) HistoryVisibility {
	if e.typ == "m.room.history_visibility" && e.StateKeyEquals("") {
		return HistoryVisibilityOf(e)
	}
	return before
}

// UserView is what decides whether a user may see an event.
type UserView struct {
	Event  *Event
	UserID string

	// Visibility is the history visibility in the state before the event;
	// empty counts as shared.
	Visibility HistoryVisibility

	// Membership is the user's in the state before the event; empty if it
	// had none.
	Membership string

	// JoinedSince says that the user joined at some point after the event,
	// whether or not it has left since: it then was allowed to see what was
	// shared, and still is.
	JoinedSince bool
}

// VisibleToUser reports whether a user may see an event.
// spec: client-server-api §room-history-visibility, server behaviour
func VisibleToUser(v UserView) bool {
	after := v.Membership
	if v.Event.typ == "m.room.member" && v.Event.StateKeyEquals(v.UserID) {
		after = v.Event.membership
	}
	for _, visibility := range [...]HistoryVisibility{v.Visibility, visibilityAfter(v.Event, v.Visibility)} {
		if visibleTo(visibility, v.Membership == "join", v.Membership == "invite", v.JoinedSince) ||
			visibleTo(visibility, after == "join", after == "invite", v.JoinedSince) {
			return true
		}
	}
	return false
}

// visibleTo is the table of the specification.
func visibleTo(visibility HistoryVisibility, joined, invited, joinedSince bool) bool {
	switch visibility {
	case VisibilityWorldReadable:
		return true
	case VisibilityInvited:
		return joined || invited
	case VisibilityJoined:
		return joined
	}
	return joined || joinedSince
}

// ServerView is what decides whether a server may see an event.
type ServerView struct {
	Event  *Event
	Server string

	// Visibility is the history visibility in the state before the event;
	// empty counts as shared.
	Visibility HistoryVisibility

	// Joined and Invited say that some user of the server was in the room,
	// or invited, in the state before the event.
	Joined, Invited bool

	// JoinedSince says that some user of the server joined at some point
	// after the event, whether or not it has left since.
	JoinedSince bool
}

// VisibleToServer reports whether a server may see an event: if one of its
// users may, or if it sent the event. Who may not see it may still get it
// redacted, since servers need every event's place in the graph.
// spec: client-server-api §room-history-visibility, server-server-api
func VisibleToServer(v ServerView) bool {
	e := v.Event
	if domainOf(e.sender) == v.Server {
		return true
	}
	joined, invited := v.Joined, v.Invited
	if e.typ == "m.room.member" && e.stateKey != nil && domainOf(*e.stateKey) == v.Server {
		joined = joined || e.membership == "join"
		invited = invited || e.membership == "invite"
	}
	return visibleTo(v.Visibility, joined, invited, v.JoinedSince) ||
		visibleTo(visibilityAfter(e, v.Visibility), joined, invited, v.JoinedSince)
}
