package api

import "github.com/matrix-org/dendrite/common/rpc"

// The methods by which a server is kept in order.
var (
	// QueryAccount tells what kind of account a local user has: 404 when there is
	// none, or none any more.
	QueryAccount = rpc.NewMethod[AccountRequest, AccountResponse](Service, "account").Harmless()
	// Moderate locks or suspends an account, or ends that: 403 M_FORBIDDEN where
	// it is an administrator's.
	Moderate = rpc.NewMethod[ModerateRequest, AccountResponse](Service, "moderate")
	// PutReport stores what a user reports: 403 M_USER_LIMIT_EXCEEDED after
	// very many that nobody has looked at.
	PutReport = rpc.NewMethod[Report, struct{}](Service, "put_report")
)

// AccountRequest names a local user.
type AccountRequest struct{ UserID string }

// AccountResponse describes an account.
type AccountResponse struct{ Admin, Guest, Locked, Suspended bool }

// ModerateRequest changes what is not nil.
type ModerateRequest struct {
	UserID            string
	Locked, Suspended *bool
}

// ReportKind says what is reported.
type ReportKind string

// The kinds of reports.
const (
	ReportEvent ReportKind = "event" // RoomID, EventID; UserID is the sender
	ReportRoom  ReportKind = "room"  // RoomID
	ReportUser  ReportKind = "user"  // UserID
)

// Report is what a user thinks that administrators should see.
type Report struct {
	ID         string     `json:"id"`
	Kind       ReportKind `json:"kind"`
	Reporter   string     `json:"reporter"`
	RoomID     string     `json:"room_id,omitzero"`
	EventID    string     `json:"event_id,omitzero"`
	UserID     string     `json:"user_id,omitzero"`
	Reason     string     `json:"reason"`
	CreatedTS  int64      `json:"created_ts"`           // milliseconds
	ResolvedTS int64      `json:"resolved_ts,omitzero"` // 0: open
	Note       string     `json:"note,omitzero"`        // of who has resolved it
}
