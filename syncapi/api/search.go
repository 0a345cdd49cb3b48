package api

import (
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
)

// QueryReach tells which events of rooms a user may see, so that others can count
// only these. QueryShow shows events of any of the user's rooms as they stand in
// answers of this component.
var (
	QueryReach = rpc.NewMethod[ReachRequest, ReachResponse](Service, "reach").Harmless()
	QueryShow  = rpc.NewMethod[ShowRequest, ShowResponse](Service, "show").Harmless()
)

// MaxShown is how many events a ShowRequest may name.
const MaxShown = 100

// ReachRequest names a user.
type ReachRequest struct {
	UserID string
	// AtLeast are positions of room.output that the answer includes, by partition.
	AtLeast []int64
}

// RoutingKey implements rpc.Routed.
func (r *ReachRequest) RoutingKey() string { return r.UserID }

// ReachResponse holds all rooms that the user is or was joined to and has not
// forgotten, and whose events the user does not want to see.
type ReachResponse struct {
	Rooms   []Reach
	Ignored []string
}

// Reach is what a user may see of a room's timeline, by the history visibility
// before an event: what is world-readable always.
type Reach struct {
	RoomID string
	// SharedTo is the Seq up to which the user may see what is shared.
	SharedTo int64
	// Joined are where the user may see what only who is joined may, and Invited
	// where besides this what also who is invited may.
	Joined, Invited []Span
}

// Sees tells whether the user may see an event, other than the user's own member
// events, by the history visibility before it and its Seq.
// spec: client-server-api §room-history-visibility
func (r *Reach) Sees(visibility gomatrixserverlib.HistoryVisibility, seq int64) bool {
	within := func(s Span) bool { return s.After < seq && seq <= s.To }
	switch visibility {
	case gomatrixserverlib.VisibilityWorldReadable:
		return true
	case gomatrixserverlib.VisibilityJoined:
		return slices.ContainsFunc(r.Joined, within)
	case gomatrixserverlib.VisibilityInvited:
		return slices.ContainsFunc(r.Joined, within) || slices.ContainsFunc(r.Invited, within)
	}
	return seq <= r.SharedTo
}

// Span are the Seqs behind After up to To.
type Span struct{ After, To int64 }

// ShowRequest names events, of several rooms, that a user's device is to be shown.
type ShowRequest struct {
	UserID, DeviceID string
	AtLeast          []int64 // as in a ReachRequest
	Events           []EventRef
	// Context, if set, asks for what is around each of them.
	Context *ContextRequest
}

// RoutingKey implements rpc.Routed.
func (r *ShowRequest) RoutingKey() string { return r.UserID }

// EventRef names an event.
type EventRef struct{ RoomID, EventID string }

// ContextRequest says how many events before and after another, and whether the
// profiles of their senders.
type ContextRequest struct {
	Before, After int
	Profiles      bool
}

// ShowResponse holds an answer in the place of each event.
type ShowResponse struct{ Events []Shown }

// Shown is an event as a client gets it; all of it is empty where the user may not
// see the event, or it is redacted.
type Shown struct {
	Event jsontext.Value
	// Before, newest first, and After are JSON arrays of events; Start and End are
	// tokens that /messages takes.
	Before, After jsontext.Value
	Start, End    string
	Profiles      map[string]Profile // by user
}

// Profile is what a member event says of its user; JSON values, which may be empty.
type Profile struct{ DisplayName, AvatarURL jsontext.Value }
