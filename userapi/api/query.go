package api

import (
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/rpc"
)

// Service is the user-api's name in rpc.
const Service = "userapi"

// The methods that other components call.
var (
	// VerifyToken is asked for each request, unless the answer to an earlier one is
	// certain still: 401 M_UNKNOWN_TOKEN when unknown,
	// with soft_logout when expired.
	VerifyToken = rpc.NewMethod[VerifyTokenRequest, VerifyTokenResponse](Service, "verify_token").Harmless()
	// QueryProfile returns a local user's profile: 404 when there is no such user.
	QueryProfile = rpc.NewMethod[ProfileRequest, ProfileResponse](Service, "profile").Harmless()
	// QueryAccountData returns global and room account data.
	QueryAccountData = rpc.NewMethod[AccountDataRequest, AccountDataResponse](Service, "account_data").Harmless()
	// PutAccountData stores one account data event and returns its position.
	PutAccountData = rpc.NewMethod[PutAccountDataRequest, WriteResponse](Service, "put_account_data")
	// QueryFilter returns a stored filter: 404 when there is none.
	QueryFilter = rpc.NewMethod[FilterRequest, FilterResponse](Service, "filter").Harmless()
	// QueryReceipts returns the receipts of a user (for unread counts).
	QueryReceipts = rpc.NewMethod[ReceiptsRequest, ReceiptsResponse](Service, "receipts").Harmless()
	// QueryPresence returns the presence of several users.
	QueryPresence = rpc.NewMethod[PresenceRequest, PresenceResponse](Service, "presence").Harmless()
	// QueryGuests tells which of some local users are guests.
	QueryGuests = rpc.NewMethod[GuestsRequest, GuestsResponse](Service, "guests").Harmless()
	// QueryHeads returns the last Seq of each partition of user.output, as
	// stored: what a read without a token has to see.
	QueryHeads = rpc.NewMethod[HeadsRequest, HeadsResponse](Service, "heads").Harmless()
	// Resync has all that is current in a partition told anew on user.output,
	// from a ChangeResync to a ChangeResynced; it returns the first one's
	// position. It is for readers that user.output does not reach back to.
	Resync = rpc.NewMethod[ResyncRequest, WriteResponse](Service, "resync").Harmless()
)

// VerifyTokenRequest holds an access token.
type VerifyTokenRequest struct{ Token string }

// VerifyTokenResponse tells whose it is. The device has a Profile where the token
// had to be looked for.
type VerifyTokenResponse struct {
	Device httpapi.Device
	// KnownFor is for how many milliseconds from the request on that is certain: who
	// ends the session within that time is answered after it. Zero where that is
	// not known.
	KnownFor int64 `json:",omitempty"`
	// Lasts is for how many milliseconds it counts for who follows QueryEnds: it is as of
	// the answer At, or later.
	At, Lasts int64 `json:",omitempty"`
}

// ProfileRequest names a local user.
type ProfileRequest struct{ UserID string }

// ProfileResponse holds the profile's fields, displayname and avatar_url among them.
type ProfileResponse struct {
	Fields map[string]jsontext.Value
}

// String returns a field that is a string, or "".
func (p *ProfileResponse) String(key string) string { return ProfileText(p.Fields[key]) }

// ProfileText is the text of a field of a profile; "" where it is no string.
func ProfileText(v jsontext.Value) string {
	if len(v) == 0 || v.Kind() != '"' {
		return ""
	}
	b, err := jsontext.AppendUnquote(nil, v)
	if err != nil {
		return ""
	}
	return string(b)
}

// AccountDataRequest asks for a user's account data: all of it, or that of
// the rooms or types named. RoomIDs may hold "" for the global data.
type AccountDataRequest struct {
	UserID  string
	RoomIDs []string // nil: all
	Types   []string // nil: all
}

// AccountDataResponse maps room ID ("" for global) to type to content.
// m.push_rules (global) and m.fully_read and m.tag (rooms) are among them.
type AccountDataResponse struct {
	Data map[string]map[string]jsontext.Value
}

// PutAccountDataRequest stores one event of account data.
type PutAccountDataRequest struct {
	UserID, RoomID, Type string
	Content              jsontext.Value
}

// WriteResponse gives the position of a write on user.output.
type WriteResponse struct {
	Partition int
	Seq       int64
}

// FilterRequest names a filter of a user.
type FilterRequest struct{ UserID, FilterID string }

// FilterResponse is the filter as it was stored.
type FilterResponse struct{ Filter jsontext.Value }

// ReceiptsRequest asks for the receipts that a user has sent. RoomIDs nil means all.
type ReceiptsRequest struct {
	UserID  string
	RoomIDs []string
}

// ReceiptsResponse maps room ID to the user's receipts in it.
type ReceiptsResponse struct {
	Receipts map[string][]Receipt
}

// PresenceRequest names users.
type PresenceRequest struct{ UserIDs []string }

// PresenceResponse holds the presence of those that have any.
type PresenceResponse struct{ Presence []Presence }

// HeadsRequest has no members.
type HeadsRequest struct{}

// HeadsResponse holds the last Seq per partition of user.output.
type HeadsResponse struct{ Seqs []int64 }

// ResyncRequest names a partition of user.output.
type ResyncRequest struct{ Partition int }

// GuestsRequest names users, at most 1,000.
type GuestsRequest struct{ UserIDs []string }

// GuestsResponse holds those of them who are guests.
type GuestsResponse struct{ UserIDs []string }
