package api

import "github.com/matrix-org/dendrite/common/rpc"

// The methods around room upgrades: an upgrade is a row until all its steps are
// done, so that whoever repeats it, or takes it up after a crash, makes the
// same new room.
var (
	// BeginUpgrade stores an upgrade, or returns the one of the room that has
	// begun already: 409 M_UNKNOWN when that is another user's or version's.
	BeginUpgrade = rpc.NewMethod[BeginUpgradeRequest, BeginUpgradeResponse](Service, "begin_upgrade")
	// FinishUpgrade removes an upgrade that is done, or that was refused.
	FinishUpgrade = rpc.NewMethod[FinishUpgradeRequest, FinishUpgradeResponse](Service, "finish_upgrade")
	// QueryUpgrades lists upgrades that have begun but are not done.
	QueryUpgrades = rpc.NewMethod[UpgradesRequest, UpgradesResponse](Service, "upgrades").Harmless()
)

// Upgrade is a room upgrade: all that its steps need but the room's state.
type Upgrade struct {
	RoomID string
	UserID string
	// Version is that of the new room.
	Version string
	// Creators are the additional creators asked for.
	Creators []string
	// EventID is the last event of the old room that the user knew of.
	EventID string
	// Seed is the entropy of the new room's ID, TS its origin_server_ts in
	// milliseconds.
	Seed string
	TS   int64
}

// BeginUpgradeRequest holds an upgrade that is about to begin.
type BeginUpgradeRequest struct{ Upgrade Upgrade }

// BeginUpgradeResponse holds the one that has.
type BeginUpgradeResponse struct{ Upgrade Upgrade }

// FinishUpgradeRequest names the old room.
type FinishUpgradeRequest struct{ RoomID string }

// FinishUpgradeResponse has no members.
type FinishUpgradeResponse struct{}

// UpgradesRequest asks for those that began before a time, at most 100.
type UpgradesRequest struct{ Before int64 } // milliseconds

// UpgradesResponse holds them, oldest first.
type UpgradesResponse struct{ Upgrades []Upgrade }
