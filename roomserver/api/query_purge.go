package api

import (
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/rpc"
)

// The query methods of who purges. Room servers of before v0.3.0 do not have them:
// nothing is purged then.
var (
	QueryRetention = rpc.NewMethod[RetentionRequest, RetentionResponse](Service, "retention").Harmless()
	QueryPurgeable = rpc.NewMethod[PurgeableRequest, PurgeableResponse](Service, "purgeable").Harmless()
)

// RetentionRequest asks for the rooms of a partition, in the order of their IDs,
// with what their state says of how long events are kept.
type RetentionRequest struct {
	Partition int
	// After is the last room ID of the page before; "" for the first page.
	After string
	// Types are the types of the state event, whose state key is empty: the first
	// that is there counts.
	Types []string
	// Limit bounds the page; at most 1,000.
	Limit int
}

// RetentionResponse is a page of them; More tells whether there is another.
type RetentionResponse struct {
	Rooms []RoomRetention
	More  bool
}

// RoomRetention is a room and the content of its event; nil if it has none.
type RoomRetention struct {
	RoomID  string
	Content jsontext.Value
}

// PurgeableRequest asks which events of a room are old and may be purged: all but
// state and forward extremities. Either BeforeTS or Before says what is old.
type PurgeableRequest struct {
	RoomID string
	// BeforeTS is a time, in milliseconds: older are events with an
	// origin_server_ts below it.
	BeforeTS int64
	// Others asks, with BeforeTS, also for what no timeline shows: rejected and
	// soft-failed events, and outliers. Most of these are state, and are looked at in vain.
	Others bool
	// Before is a place in the timeline: older is what stands before it.
	Before Position
	// After is the Next of the answer before.
	After PurgePlace
	// Limit bounds the events looked at; at most 1,000.
	Limit int
}

// RoutingKey implements rpc.Routed.
func (r *PurgeableRequest) RoutingKey() string { return r.RoomID }

// PurgePlace is how far a room has been looked through; the zero one is its
// beginning.
type PurgePlace struct {
	TS  int64 `json:"ts,omitzero"`
	Seq int64 `json:"s,omitzero"`
	Sub int64 `json:"b,omitzero"`
	// Others says that the timeline is done; Number is the last event looked at
	// among those that no timeline shows.
	Others bool  `json:"others,omitzero"`
	Number int64 `json:"n,omitzero"`
}

// PurgeableResponse names events. If there is More to be looked at, it follows Next.
type PurgeableResponse struct {
	EventIDs []string
	Next     PurgePlace
	More     bool
}
