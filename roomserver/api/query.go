package api

import (
	"context"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
)

// Service is the room server's name in rpc.
const Service = "roomserver"

// The query methods of the room server. Unless said otherwise an unknown room
// or event is 404 M_NOT_FOUND, and nothing here checks what a user may see: a
// request that names a Viewer is the exception.
var (
	QueryRoom             = rpc.NewMethod[RoomRequest, RoomResponse](Service, "room").Harmless()
	QueryState            = rpc.NewMethod[StateRequest, StateResponse](Service, "state").Harmless()
	QueryStateChanges     = rpc.NewMethod[StateChangesRequest, StateChangesResponse](Service, "state_changes").Harmless()
	QueryEvents           = rpc.NewMethod[EventsRequest, EventsResponse](Service, "events").Harmless()
	QueryBatch            = rpc.NewMethod[BatchRequest, BatchResponse](Service, "batch").Harmless()
	QueryHistory          = rpc.NewMethod[HistoryRequest, HistoryResponse](Service, "history").Harmless()
	QueryMemberships      = rpc.NewMethod[MembershipsRequest, MembershipsResponse](Service, "memberships").Harmless()
	QueryRestrictedJoin   = rpc.NewMethod[RestrictedJoinRequest, RestrictedJoinResponse](Service, "restricted_join").Harmless()
	QueryVerdict          = rpc.NewMethod[VerdictRequest, VerdictResponse](Service, "verdict").Harmless()
	QueryHeads            = rpc.NewMethod[HeadsRequest, HeadsResponse](Service, "heads").Harmless()
	QueryPrepare          = rpc.NewMethod[PrepareRequest, PrepareResponse](Service, "prepare").Harmless()
	QueryMissingEvents    = rpc.NewMethod[MissingEventsRequest, MissingEventsResponse](Service, "missing_events").Harmless()
	QueryAuthChain        = rpc.NewMethod[AuthChainRequest, AuthChainResponse](Service, "auth_chain").Harmless()
	QueryServerMaySee     = rpc.NewMethod[ServerMaySeeRequest, ServerMaySeeResponse](Service, "server_may_see").Harmless()
	QueryOwners           = rpc.NewMethod[OwnersRequest, OwnersResponse](Service, "owners").Harmless()
	QueryTimestampToEvent = rpc.NewMethod[TimestampToEventRequest, TimestampToEventResponse](Service, "timestamp_to_event").Harmless()
)

// StoredEvent is an event as the room server stores it, with its place. It is
// shared: do not change it.
type StoredEvent struct {
	*gomatrixserverlib.Event
	Position Position
	// ReplacesState names the state event that this one replaced.
	ReplacesState string
	// Device and TxnID are the sending client's, for unsigned.transaction_id.
	Device, TxnID string
	// DelayID names the delayed event that it was, for unsigned too.
	DelayID string
	// HistoryVisibility in force right after the event.
	HistoryVisibility string
	// HistoryVisibilityBefore it, where it is itself an m.room.history_visibility.
	HistoryVisibilityBefore string
	Rejected                bool
	SoftFailed              bool
	// Outlier events have no place in the timeline.
	Outlier bool
	// RedactedBy is the redaction that stripped the stored JSON, if any.
	RedactedBy string
}

// OwnersRequest asks which instance has each partition.
type OwnersRequest struct{}

// OwnersResponse holds the addresses of the owners by partition, "" where there
// is none: they answer from memory, the others from the database.
type OwnersResponse struct{ Addresses []string }

// RoomRequest names a room.
type RoomRequest struct{ RoomID string }

// RoutingKey implements rpc.Routed.
func (r *RoomRequest) RoutingKey() string { return r.RoomID }

// RoomResponse describes a room that we know.
type RoomResponse struct {
	Version            gomatrixserverlib.RoomVersion
	Partition          int
	Latest             Position // of the room's last event
	ForwardExtremities []string
	Depth              int64
	JoinedCount        int
	InvitedCount       int
	// LocalJoined tells whether a user of ours is joined.
	LocalJoined bool
}

// StateRequest asks for the state of a room: the current one, the one before
// or after an event, or the one at a position of its timeline. Without keys it
// is all of it.
type StateRequest struct {
	RoomID string
	// At most one of these: state after an event, before an event, or right
	// after the position (whole Seq).
	AfterEvent, BeforeEvent string
	AtSeq                   int64
	// Keys limits the answer to these entries, Types to these types. Both nil: all.
	Keys  []gomatrixserverlib.StateKey
	Types []string
	// WithoutMembers leaves m.room.member out, but for Members.
	WithoutMembers bool
	Members        []string
	// IDsOnly asks for IDs instead of the events themselves.
	IDsOnly bool
	// Client, if set, asks for the events as a client gets them.
	Client *ClientForm
	// IfJoined, if set, asks on condition that this user is joined now.
	IfJoined string
}

// RoutingKey implements rpc.Routed.
func (r *StateRequest) RoutingKey() string { return r.RoomID }

// StateResponse holds state in no particular order. A room that exists but has
// no such entries gives an empty answer.
type StateResponse struct {
	RoomVersion gomatrixserverlib.RoomVersion
	// At is the position whose state it is (zero for a fork).
	At     Position
	IDs    []StateEntry   // if IDsOnly
	Events []*StoredEvent // unless IDsOnly, or rendered
	// Rendered is the JSON array of the events, if Client says how; room servers of
	// v0.1.0 do not know of that, and leave it nil.
	Rendered jsontext.Value
	// Joined tells that IfJoined is. Where it is false after all, be it since a room
	// server of v0.1.0 does not look, nothing else in the answer means anything.
	Joined bool
}

// StateEntry is one entry of a state.
type StateEntry struct {
	gomatrixserverlib.StateKey
	EventID string
}

// StateChangesRequest asks how the current state changed in (FromSeq, ToSeq]
// of the room's partition.
type StateChangesRequest struct {
	RoomID         string
	FromSeq, ToSeq int64
}

// RoutingKey implements rpc.Routed.
func (r *StateChangesRequest) RoutingKey() string { return r.RoomID }

// StateChangesResponse holds, for each entry that differs, the event that is
// there at ToSeq; Removed lists those that are there no more.
type StateChangesResponse struct {
	Events  []*StoredEvent
	Removed []gomatrixserverlib.StateKey
}

// EventsRequest asks for events by ID.
type EventsRequest struct {
	// RoomID "" looks them up wherever they are.
	RoomID   string
	EventIDs []string
	// Viewer, if set, gets only what that user may see.
	Viewer string
}

// RoutingKey implements rpc.Routed.
func (r *EventsRequest) RoutingKey() string { return r.RoomID }

// EventsResponse holds those that are known (and visible), in the order asked for.
type EventsResponse struct{ Events []*StoredEvent }

// HistoryRequest asks for a stretch of a room's timeline, without outliers,
// rejected and soft-failed events.
type HistoryRequest struct {
	RoomID string
	// From and To bound it: backwards the events are in (To, From], newest
	// first; forwards in (From, To], oldest first. A zero To does not bound, a
	// zero From means the room's latest (backwards) or first event.
	From, To  Position
	Backwards bool
	// Limit bounds the number of events; at most 1,000.
	Limit int
	// Viewer, if set, gets only what that user may see; what is hidden does
	// not count against Limit but against a bound on events read.
	Viewer string
}

// RoutingKey implements rpc.Routed.
func (r *HistoryRequest) RoutingKey() string { return r.RoomID }

// HistoryResponse is a stretch of a timeline.
type HistoryResponse struct {
	Events []*StoredEvent
	// Next is where to go on from in the same direction. More tells whether
	// there is anything.
	Next Position
	More bool
	// Gap is why More is false where older events have to be fetched from other
	// servers first: these come next.
	Gap []string
}

// MembershipsRequest asks for the current memberships of users in a room, or
// (UserIDs nil) of all its members.
type MembershipsRequest struct {
	RoomID  string
	UserIDs []string
	// Membership limits the answer when UserIDs is nil: for instance join.
	Membership []string
	// Limit, if over 0, bounds it to those whose membership is oldest.
	Limit int
}

// RoutingKey implements rpc.Routed.
func (r *MembershipsRequest) RoutingKey() string { return r.RoomID }

// MembershipsResponse holds one row per user that has a member event.
type MembershipsResponse struct{ Members []Member }

// Member is a user's current membership.
type Member struct {
	UserID, Membership, EventID string
	DisplayName, AvatarURL      string
	Position                    Position
}

// RestrictedJoinRequest asks whether a user may join a room by its
// restricted join rule, and who of our users can authorise it.
type RestrictedJoinRequest struct{ RoomID, UserID string }

// RoutingKey implements rpc.Routed.
func (r *RestrictedJoinRequest) RoutingKey() string { return r.RoomID }

// RestrictedJoinResponse answers it. JoinRule is the room's; AuthorisedVia is
// a joined user of ours with the power to invite ("" when there is none).
type RestrictedJoinResponse struct {
	JoinRule      string
	AllowRooms    []string // the room IDs of m.room_membership conditions
	Allowed       bool     // the user is joined to one of them, as far as we know
	AuthorisedVia string
}

// VerdictRequest asks what became of a record.
type VerdictRequest struct{ RoomID, RequestID string }

// RoutingKey implements rpc.Routed.
func (r *VerdictRequest) RoutingKey() string { return r.RoomID }

// VerdictResponse holds it; nil when the record is unknown (or was refused).
type VerdictResponse struct{ Verdict *Verdict }

// HeadsRequest asks for the heads; Settled for those after all that stands in
// room.input when it is asked has been handled. With a RoomID only that of the
// room's partition counts, which its owner has in memory.
type HeadsRequest struct {
	Settled bool
	RoomID  string
}

// RoutingKey implements rpc.Routed.
func (r *HeadsRequest) RoutingKey() string { return r.RoomID }

// HeadsResponse holds the last Seq of each partition of room.output as
// committed: what a read without a token has to see.
type HeadsResponse struct{ Seqs []int64 }

// Heads asks for the heads: see HeadsRequest.
func Heads(ctx context.Context, c rpc.Caller, settled bool) ([]int64, error) {
	res, err := QueryHeads.Call(ctx, c, &HeadsRequest{Settled: settled})
	if err != nil {
		return nil, err
	}
	return res.Seqs, nil
}

// PrepareRequest asks for an event to be built and authorised, but not stored.
type PrepareRequest struct {
	RoomID string
	Proto  Proto
	TS     int64
}

// RoutingKey implements rpc.Routed.
func (r *PrepareRequest) RoutingKey() string { return r.RoomID }

// PrepareResponse holds the event, signed by us, with its auth events.
type PrepareResponse struct {
	RoomVersion gomatrixserverlib.RoomVersion
	Event       *StoredEvent
	AuthEvents  []*StoredEvent
}

// MissingEventsRequest is that of the federation API's get_missing_events.
type MissingEventsRequest struct {
	RoomID           string
	Earliest, Latest []string
	Limit            int
	MinDepth         int64
}

// RoutingKey implements rpc.Routed.
func (r *MissingEventsRequest) RoutingKey() string { return r.RoomID }

// MissingEventsResponse holds the events, oldest first.
type MissingEventsResponse struct{ Events []*StoredEvent }

// AuthChainRequest asks for the auth events of events, recursively.
type AuthChainRequest struct {
	RoomID   string
	EventIDs []string
}

// RoutingKey implements rpc.Routed.
func (r *AuthChainRequest) RoutingKey() string { return r.RoomID }

// AuthChainResponse holds the chain without the events asked about.
type AuthChainResponse struct{ Events []*StoredEvent }

// ServerMaySeeRequest asks which of the events a server may see.
type ServerMaySeeRequest struct {
	RoomID, Server string
	EventIDs       []string
}

// RoutingKey implements rpc.Routed.
func (r *ServerMaySeeRequest) RoutingKey() string { return r.RoomID }

// ServerMaySeeResponse holds those that it may see.
type ServerMaySeeResponse struct{ Visible []string }

// TimestampToEventRequest asks for the event closest to a time.
type TimestampToEventRequest struct {
	RoomID    string
	TS        int64 // milliseconds
	Backwards bool
	Viewer    string
	// ExpiredBefore is the time before which events that are no state have expired,
	// and are passed over; room servers of before v0.3.0 do not know of that.
	ExpiredBefore int64
}

// RoutingKey implements rpc.Routed.
func (r *TimestampToEventRequest) RoutingKey() string { return r.RoomID }

// TimestampToEventResponse holds it.
type TimestampToEventResponse struct{ Event *StoredEvent }
