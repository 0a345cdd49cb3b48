package gomatrixserverlib

// RoomVersion names a room version: "1" to "12".
type RoomVersion string

// The room versions of the specification.
const (
	RoomVersionV1  RoomVersion = "1"
	RoomVersionV2  RoomVersion = "2"
	RoomVersionV3  RoomVersion = "3"
	RoomVersionV4  RoomVersion = "4"
	RoomVersionV5  RoomVersion = "5"
	RoomVersionV6  RoomVersion = "6"
	RoomVersionV7  RoomVersion = "7"
	RoomVersionV8  RoomVersion = "8"
	RoomVersionV9  RoomVersion = "9"
	RoomVersionV10 RoomVersion = "10"
	RoomVersionV11 RoomVersion = "11"
	RoomVersionV12 RoomVersion = "12"

	// DefaultRoomVersion is the version of rooms whose creator names none.
	// spec: rooms §complete-list-of-room-versions
	DefaultRoomVersion = RoomVersionV12
)

// StateResVersion names a state resolution algorithm.
type StateResVersion int

// The state resolution algorithms.
const (
	StateResV1  StateResVersion = 1  // room version 1
	StateResV2  StateResVersion = 2  // room versions 2 to 11
	StateResV21 StateResVersion = 21 // v2.1: room version 12
)

// EventIDFormat says where a room version's event IDs come from.
type EventIDFormat int

// The formats of event IDs.
const (
	// EventIDGiven: "$opaque:domain", a field of the event (v1, v2).
	EventIDGiven EventIDFormat = iota + 1
	// EventIDBase64: "$" and the reference hash in unpadded base64 (v3).
	EventIDBase64
	// EventIDURLSafe: the same in URL-safe base64 (v4 and later).
	EventIDURLSafe
)

// VersionRules says how a room version differs from others. Never change one.
type VersionRules struct {
	Version       RoomVersion
	Stable        bool            // fit for production, says the specification
	StateRes      StateResVersion // which state resolution algorithm
	EventIDFormat EventIDFormat

	StrictJSON             bool // v6+: events must be strict canonical JSON
	EnforceKeyValidity     bool // v5+: signing keys must be valid at origin_server_ts
	AliasesAuth            bool // v1-v5: m.room.aliases has an auth rule of its own and survives redaction
	RedactionAuth          bool // v1-v2: m.room.redaction has an auth rule of its own
	NotificationLevels     bool // v6+: auth rules check notifications in m.room.power_levels
	KnockAllowed           bool // v7+: join rule and membership "knock"
	RestrictedAllowed      bool // v8+: join rule "restricted"
	KnockRestrictedAllowed bool // v10+: join rule "knock_restricted"
	IntegerPowerLevels     bool // v10+: power levels must be integers
	CreatorInContent       bool // v1-v10: m.room.create needs content.creator
	RedactsInContent       bool // v11+: redacts is in content
	RoomIDFromCreate       bool // v12: the room ID is the create event's ID; no room_id in m.room.create
	CreatorsPrivileged     bool // v12: creators have infinite power
	CreateInAuthEvents     bool // v1-v11: m.room.create is among the auth events

	redaction redactionRules
}

// GivenEventIDs reports whether events carry their ID, and refer to others by
// pairs of ID and hash: room versions 1 and 2.
func (r *VersionRules) GivenEventIDs() bool { return r.EventIDFormat == EventIDGiven }

// maxDepth is the largest depth that an event may have.
func (r *VersionRules) maxDepth() int64 {
	if r.StrictJSON {
		return MaxDepth
	}
	return MaxDepthLenient
}

// versionTable has the rules of each version, v1 first. It is never written.
var versionTable = makeVersionTable()

func makeVersionTable() [12]VersionRules {
	names := [12]RoomVersion{
		RoomVersionV1, RoomVersionV2, RoomVersionV3, RoomVersionV4, RoomVersionV5, RoomVersionV6,
		RoomVersionV7, RoomVersionV8, RoomVersionV9, RoomVersionV10, RoomVersionV11, RoomVersionV12,
	}
	var table [12]VersionRules
	for i := range table {
		n := i + 1
		table[i] = VersionRules{
			Version:                names[i],
			Stable:                 true,
			StateRes:               StateResV2,
			EventIDFormat:          EventIDURLSafe,
			StrictJSON:             n >= 6,
			EnforceKeyValidity:     n >= 5,
			AliasesAuth:            n <= 5,
			RedactionAuth:          n <= 2,
			NotificationLevels:     n >= 6,
			KnockAllowed:           n >= 7,
			RestrictedAllowed:      n >= 8,
			KnockRestrictedAllowed: n >= 10,
			IntegerPowerLevels:     n >= 10,
			CreatorInContent:       n <= 10,
			RedactsInContent:       n >= 11,
			RoomIDFromCreate:       n >= 12,
			CreatorsPrivileged:     n >= 12,
			CreateInAuthEvents:     n <= 11,
			redaction: redactionRules{
				aliases:            n <= 5,
				joinRuleAllow:      n >= 8,
				memberAuthorisedBy: n >= 9,
				updated:            n >= 11,
			},
		}
	}
	table[0].StateRes = StateResV1
	table[11].StateRes = StateResV21
	table[0].EventIDFormat = EventIDGiven
	table[1].EventIDFormat = EventIDGiven
	table[2].EventIDFormat = EventIDBase64
	return table
}

// Rules returns what is particular to the room version; nil if it is unknown.
func (v RoomVersion) Rules() *VersionRules {
	n := 0
	switch len(v) {
	case 1:
		n = int(v[0]) - '0'
	case 2:
		if v[0] == '1' && v[1] >= '0' && v[1] <= '2' {
			n = 10 + int(v[1]-'0')
		}
	}
	if n < 1 || n > len(versionTable) {
		return nil
	}
	return &versionTable[n-1]
}

// Supported reports whether the room version is known.
func (v RoomVersion) Supported() bool { return v.Rules() != nil }

// SupportedRoomVersions lists the room versions that are known, oldest first.
func SupportedRoomVersions() []RoomVersion {
	all := make([]RoomVersion, len(versionTable))
	for i := range versionTable {
		all[i] = versionTable[i].Version
	}
	return all
}
