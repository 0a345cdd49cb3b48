package api

import (
	"time"

	"github.com/matrix-org/dendrite/common/rpc"
)

// The methods around what is to be purged from rooms. A purge is a row that one
// instance takes at a time; whoever takes it up after a crash goes on at its Place,
// and what is done again has no effect. User-apis of before v0.3.0 do not have them:
// nothing is purged then.
var (
	// TakePurge gives out a purge that is due and that nobody does, for JobLease.
	TakePurge = rpc.NewMethod[TakePurgeRequest, TakePurgeResponse](Service, "take_purge")
	// KeepPurge says how far a purge is, and prolongs it by JobLease.
	KeepPurge = rpc.NewMethod[KeepPurgeRequest, KeepPurgeResponse](Service, "keep_purge")
	// FinishPurge says that a purge is over, or for now.
	FinishPurge = rpc.NewMethod[FinishPurgeRequest, struct{}](Service, "finish_purge")
)

// PurgeKind is what is purged.
type PurgeKind string

// The kinds of purges.
const (
	// PurgeExpired is for what has expired in the rooms of a partition. It is due
	// again and again.
	PurgeExpired PurgeKind = "retention"
	// PurgeHistory is for what is older in a room than a time or an event.
	PurgeHistory PurgeKind = "history"
	// PurgeRoom is for a room.
	PurgeRoom PurgeKind = "room"
)

// PurgesKept is how long is known what became of a purge.
const PurgesKept = 30 * 24 * time.Hour

// Purge is something to be purged. Times are in milliseconds.
type Purge struct {
	ID        string
	Kind      PurgeKind
	Partition int    // of PurgeExpired
	RoomID    string // of the others
	// BeforeTS or EventID say of PurgeHistory what is older.
	BeforeTS int64
	EventID  string
	// Force has members of this server leave before PurgeRoom.
	Force bool
	// Place is how far it is, in words of who does it.
	Place      string
	Purged     int64 // events, so far
	CreatedTS  int64
	FinishedTS int64
	Error      string // why it was given up
}

// TakePurgeRequest names the instance that asks, unlike every other. Partitions is
// how many have rooms with events that expire; 0 where none do.
type TakePurgeRequest struct {
	Owner      string
	Partitions int
}

// TakePurgeResponse holds a purge, if one was Found.
type TakePurgeResponse struct {
	Found bool
	Purge Purge
}

// KeepPurgeRequest says how far a purge is, and how many more events are gone.
type KeepPurgeRequest struct {
	Owner, ID, Place string
	Purged           int64
}

// KeepPurgeResponse tells whether it is still the owner's to do.
type KeepPurgeResponse struct{ Held bool }

// FinishPurgeRequest ends a purge, for a reason (Error) or because it is done; one
// that is due AgainMS later begins anew.
type FinishPurgeRequest struct {
	Owner, ID string
	Purged    int64
	Error     string
	AgainMS   int64
}
