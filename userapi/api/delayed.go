package api

import (
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/rpc"
)

// The methods around events that are sent later (MSC4140). An event is a row
// until some days after it was sent, cancelled or refused. Whoever sends one takes
// it first: from then on it can be neither cancelled nor put off, and if it is not
// known what became of it, it is sent again with the same request ID.
var (
	// ScheduleDelayed stores an event; for the same Request it may be repeated.
	// 429 M_LIMIT_EXCEEDED when the user has as many as may be.
	ScheduleDelayed = rpc.NewMethod[ScheduleDelayedRequest, ScheduleDelayedResponse](Service, "schedule_delayed")
	// QueryDelayed returns a user's event, or all that are scheduled: 404 when
	// there is no such event of that user's.
	QueryDelayed = rpc.NewMethod[DelayedRequest, DelayedResponse](Service, "delayed").Harmless()
	// UpdateDelayed puts an event off or cancels it, or takes it in order to send
	// it: 404, and 409 M_UNKNOWN when something else became of it already.
	UpdateDelayed = rpc.NewMethod[UpdateDelayedRequest, UpdateDelayedResponse](Service, "update_delayed")
	// TakeDelayed gives out events that are due, for JobLease.
	TakeDelayed = rpc.NewMethod[TakeDelayedRequest, TakeDelayedResponse](Service, "take_delayed")
	// FinishDelayed says what became of an event that was taken.
	FinishDelayed = rpc.NewMethod[FinishDelayedRequest, struct{}](Service, "finish_delayed")
)

// DelayedState is how far an event is.
type DelayedState string

// The states of delayed events.
const (
	DelayedScheduled DelayedState = "scheduled"
	DelayedSending   DelayedState = "sending"
	DelayedSent      DelayedState = "sent"
	DelayedCancelled DelayedState = "cancelled"
	DelayedFailed    DelayedState = "failed"
)

// DelayedRetention is how long is known what became of an event.
const DelayedRetention = 7 * 24 * time.Hour

// DelayedEvent is an event that is to be sent later. Times are in milliseconds.
type DelayedEvent struct {
	ID       string
	UserID   string
	Request  string // names the client's transaction
	RoomID   string
	Type     string
	StateKey *string // nil: no state event
	Content  jsontext.Value
	OriginTS int64 // chosen by an application service; 0: when it is sent
	DelayMS  int64

	ScheduledTS int64 // or put off
	State       DelayedState
	Tries       int // of sending it, with this one
	FinalisedTS int64
	EventID     string
	Error       string // JSON of why it was refused
}

// ScheduleDelayedRequest stores an event; Max is how many the user may have.
type ScheduleDelayedRequest struct {
	Event DelayedEvent
	Max   int
}

// ScheduleDelayedResponse names it.
type ScheduleDelayedResponse struct{ ID string }

// DelayedRequest names a user, and an event or ("") all that are scheduled.
type DelayedRequest struct{ UserID, ID string }

// DelayedResponse holds them, first to be sent first.
type DelayedResponse struct{ Events []DelayedEvent }

// DelayedAction is what a user wants done with an event.
type DelayedAction string

// The actions.
const (
	DelayedRestart DelayedAction = "restart"
	DelayedCancel  DelayedAction = "cancel"
	DelayedSend    DelayedAction = "send"
)

// UpdateDelayedRequest names an event of a user's; Owner is who sends it then.
type UpdateDelayedRequest struct {
	UserID, ID string
	Action     DelayedAction
	Owner      string
}

// UpdateDelayedResponse holds the event as it is now; Taken says that it is the
// caller's to send.
type UpdateDelayedResponse struct {
	Event DelayedEvent
	Taken bool
}

// TakeDelayedRequest names the instance that asks, unlike every other.
type TakeDelayedRequest struct {
	Owner string
	Limit int
}

// TakeDelayedResponse holds events in the order in which they are due, and how
// long it is until the next one is; -1 when there is none.
type TakeDelayedResponse struct {
	Events []DelayedEvent
	NextMS int64
}

// FinishDelayedRequest says that an event is sent (EventID), refused (Error), or
// neither: then it is scheduled as before.
type FinishDelayedRequest struct{ Owner, ID, EventID, Error string }
