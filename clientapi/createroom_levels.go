package clientapi

import (
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
)

// The power levels of a new room.
const (
	levelAdmin     = 100
	levelModerator = 50
	// levelTombstone guards upgrades where creators stand above all: higher
	// than state_default, as the specification wants it.
	levelTombstone = 150
)

const typeTombstone = "m.room.tombstone"

// powerLevels makes the content of m.room.power_levels: the defaults, over
// them power_level_content_override member by member.
// spec: client-server-api §post_matrixclientv3createroom
func powerLevels(req *createRequest, creator string, version gomatrixserverlib.RoomVersion) (jsontext.Value, error) {
	privileged := version.Rules().CreatorsPrivileged
	users := map[string]int64{}
	if !privileged {
		users[creator] = levelAdmin
		if req.preset() == presetTrusted {
			for _, id := range req.Invite {
				users[id] = levelAdmin
			}
		}
	}
	invite := int64(0)
	if req.preset() == presetPublic {
		invite = levelModerator
	}
	tombstone := int64(levelAdmin)
	if privileged {
		tombstone = levelTombstone
	}
	defaults := defaultLevels(users, invite, tombstone)
	fields := make(map[string]jsontext.Value, len(defaults))
	for key, value := range defaults {
		raw, err := json.Marshal(value, json.Deterministic(true))
		if err != nil {
			return nil, err
		}
		fields[key] = raw
	}
	override := map[string]jsontext.Value{}
	if err := unmarshalObject(req.PowerLevelContentOverride, &override, "power_level_content_override"); err != nil {
		return nil, err
	}
	for key, value := range override {
		fields[key] = value
	}
	if privileged {
		if err := guardTombstone(fields); err != nil {
			return nil, err
		}
	}
	return json.Marshal(fields, json.Deterministic(true))
}

// defaultLevels are those that nothing overrides.
func defaultLevels(users map[string]int64, invite, tombstone int64) map[string]any {
	return map[string]any{
		"users":          users,
		"users_default":  0,
		"events_default": 0,
		"state_default":  levelModerator,
		"ban":            levelModerator,
		"kick":           levelModerator,
		"redact":         levelModerator,
		"invite":         invite,
		"notifications":  map[string]int64{"room": levelModerator},
		"events": map[string]int64{
			"m.room.name":               levelModerator,
			"m.room.avatar":             levelModerator,
			"m.room.canonical_alias":    levelModerator,
			"m.room.power_levels":       levelAdmin,
			"m.room.history_visibility": levelAdmin,
			"m.room.encryption":         levelAdmin,
			"m.room.server_acl":         levelAdmin,
			typeTombstone:               tombstone,
		},
	}
}

// guardTombstone sees to it that m.room.tombstone has a level above
// state_default where the overriding content does not give it one.
// spec: client-server-api §post_matrixclientv3createroom
func guardTombstone(fields map[string]jsontext.Value) error {
	events := map[string]jsontext.Value{}
	if err := unmarshalObject(fields["events"], &events, "events of the power levels"); err != nil {
		return err
	}
	if _, ok := events[typeTombstone]; ok {
		return nil
	}
	state := int64(levelModerator)
	if raw, ok := fields["state_default"]; ok {
		if err := json.Unmarshal(raw, &state); err != nil {
			return matrixerror.BadJSON("state_default of the power levels is not an integer")
		}
	}
	level := int64(levelTombstone)
	if state >= level {
		level = min(state, maxPowerLevel-1) + 1
	}
	events[typeTombstone] = strconv.AppendInt(nil, level, 10)
	raw, err := json.Marshal(events, json.Deterministic(true))
	fields["events"] = raw
	return err
}

// maxPowerLevel is the largest integer of canonical JSON.
const maxPowerLevel = 1<<53 - 1
