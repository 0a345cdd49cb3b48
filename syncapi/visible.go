package syncapi

import (
	"github.com/matrix-org/dendrite/gomatrixserverlib"
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
	hv := ev.HistoryVisibility
	if ev.hvBefore != "" && ev.Type() == "m.room.history_visibility" {
		hv = ev.hvBefore
	}
	return gomatrixserverlib.VisibleToUser(gomatrixserverlib.UserView{
		Event: ev.Event, UserID: userID, Membership: prior,
		Visibility: gomatrixserverlib.HistoryVisibility(hv), JoinedSince: joinsLater,
	})
}
