package api

import (
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/pushrules"
	"github.com/matrix-org/dendrite/common/rpc"
)

// The methods around what belongs to users.
var (
	// PutProfile stores or deletes a field of a profile and has it told to the
	// user's rooms.
	PutProfile = rpc.NewMethod[PutProfileRequest, WriteResponse](Service, "put_profile")
	// DeleteAccountData deletes one event of account data: null content is
	// published.
	DeleteAccountData = rpc.NewMethod[DeleteAccountDataRequest, WriteResponse](Service, "delete_account_data")
	// PutTag sets or removes a tag of a room.
	PutTag = rpc.NewMethod[PutTagRequest, WriteResponse](Service, "put_tag")
	// PutFilter stores a filter and returns its ID.
	PutFilter = rpc.NewMethod[PutFilterRequest, PutFilterResponse](Service, "put_filter")
	// PutReceipts stores receipts and the fully read marker of a room.
	PutReceipts = rpc.NewMethod[PutReceiptsRequest, WriteResponse](Service, "put_receipts")
	// ChangePushRule changes a user's push rules.
	ChangePushRule = rpc.NewMethod[ChangePushRuleRequest, WriteResponse](Service, "change_push_rule")
	// QueryPastRules returns the push rules that a user had before, for who tells
	// what they said of an event then.
	QueryPastRules = rpc.NewMethod[PastRulesRequest, PastRulesResponse](Service, "past_push_rules").Harmless()
	// SetTyping notes that a user types, or no longer does.
	SetTyping = rpc.NewMethod[SetTypingRequest, struct{}](Service, "set_typing")
	// SetPresence sets a user's presence.
	SetPresence = rpc.NewMethod[SetPresenceRequest, struct{}](Service, "set_presence")
	// TakeJob gives out work in rooms that nobody does, for JobLease.
	TakeJob = rpc.NewMethod[TakeJobRequest, TakeJobResponse](Service, "take_job")
	// RenewJob prolongs a job by JobLease.
	RenewJob = rpc.NewMethod[RenewJobRequest, RenewJobResponse](Service, "renew_job")
	// FinishJob says that a job is done.
	FinishJob = rpc.NewMethod[FinishJobRequest, struct{}](Service, "finish_job")
)

// PutProfileRequest sets a field; a nil Value deletes it.
type PutProfileRequest struct {
	UserID, Field string
	Value         jsontext.Value
	// Quiet leaves the user's rooms as they are.
	Quiet bool
}

// DeleteAccountDataRequest names an event of account data.
type DeleteAccountDataRequest struct{ UserID, RoomID, Type string }

// PutTagRequest sets a tag; nil Content removes it.
type PutTagRequest struct {
	UserID, RoomID, Tag string
	Content             jsontext.Value
}

// PutFilterRequest holds a filter, checked by the caller.
type PutFilterRequest struct {
	UserID string
	Filter jsontext.Value
}

// PutFilterResponse holds the filter's ID: the same for the same filter.
type PutFilterResponse struct{ FilterID string }

// PutReceiptsRequest holds receipts of a user; FullyRead "" changes no marker.
type PutReceiptsRequest struct {
	UserID, RoomID string
	Receipts       []Receipt
	FullyRead      string
}

// RuleChange says what is done to a push rule.
type RuleChange string

// The changes of push rules.
const (
	RulePut     RuleChange = "put"
	RuleDelete  RuleChange = "delete"
	RuleEnable  RuleChange = "enable"
	RuleActions RuleChange = "actions"
	// RuleCopy gives the room that is the Rule's ID the rules of the room that
	// Before names.
	RuleCopy RuleChange = "copy"
)

// ChangePushRuleRequest is one change of push rules.
type ChangePushRuleRequest struct {
	UserID, Kind string
	Change       RuleChange
	// Before and After place a rule that is put; "" for neither.
	Before, After string
	// Rule has the ID, and what the change needs of the rest.
	Rule pushrules.Rule
}

// PastRulesRequest names a user.
type PastRulesRequest struct{ UserID string }

// PastRulesResponse holds the last of them, oldest first.
type PastRulesResponse struct{ Rules []PastRules }

// PastRules is the content of m.push_rules that a user had until a time, in
// milliseconds.
type PastRules struct {
	UntilTS int64
	Content jsontext.Value
}

// SetTypingRequest says whether a user types in a room.
type SetTypingRequest struct {
	UserID, RoomID string
	Typing         bool
	TimeoutMS      int64
}

// SetPresenceRequest sets a presence; StatusMsg "" removes the message.
type SetPresenceRequest struct{ UserID, Presence, StatusMsg string }

// JobKind says what is to be done in a user's rooms.
type JobKind string

// The kinds of jobs.
const (
	// JobProfile puts the current display name and avatar into all joined rooms.
	JobProfile JobKind = "profile"
	// JobLeave leaves all rooms, rejecting invites.
	JobLeave JobKind = "leave"
)

// JobLease is how long a job is its owner's, unless it is renewed.
const JobLease = 30 * time.Second

// TakeJobRequest asks for the oldest job. Owner names the instance that asks,
// unlike every other.
type TakeJobRequest struct{ Owner string }

// TakeJobResponse holds a job; Found is false when there is none to be done now.
type TakeJobResponse struct {
	Found bool
	Job   Job
}

// RenewJobRequest names a job that is being done.
type RenewJobRequest struct {
	Owner string
	Job   Job
}

// RenewJobResponse says whether it is still the owner's: a later change may have
// taken its place, or another instance the job.
type RenewJobResponse struct{ Held bool }

// Job is work in all rooms of a user. ID changes when a later change takes its
// place, and is part of the request IDs of what is done.
type Job struct {
	UserID string
	Kind   JobKind
	ID     string
}

// FinishJobRequest names a job that is done.
type FinishJobRequest struct {
	Owner string
	Job   Job
}
