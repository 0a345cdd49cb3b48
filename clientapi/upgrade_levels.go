package clientapi

import (
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/matrixerror"
	directory "github.com/matrix-org/dendrite/directoryapi/api"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
)

// upgradedLevels makes the power levels of the new room. Where the user who
// upgrades has less power there than is needed to set the room up, first gives
// it for that long and last is sent in the end; else last is nil.
func upgradedLevels(up *directory.Upgrade, old *oldRoom) (first, last jsontext.Value, err error) {
	version := gomatrixserverlib.RoomVersion(up.Version)
	fields := map[string]jsontext.Value{}
	if old.levels != nil {
		if err := json.Unmarshal(old.levels.Content(), &fields); err != nil {
			return nil, nil, matrixerror.New(400, "M_INVALID_ROOM_STATE", "The room's power levels cannot be read")
		}
	} else {
		raw, err := powerLevels(&createRequest{}, up.UserID, version)
		if err != nil {
			return nil, nil, err
		}
		if err := json.Unmarshal(raw, &fields); err != nil {
			return nil, nil, err
		}
	}
	users := levelMap(fields["users"])
	for _, key := range []string{"events", "notifications"} {
		if raw, ok := fields[key]; ok {
			if fields[key], err = json.Marshal(levelMap(raw), json.Deterministic(true)); err != nil {
				return nil, nil, err
			}
		}
	}
	wholeLevels(fields)
	if version.Rules().CreatorsPrivileged {
		first, err = levelsWithCreators(fields, users, append(slices.Clone(up.Creators), up.UserID))
		return first, nil, err
	}
	return levelsWithUpgrader(fields, users, up.UserID, old)
}

// levelsWithCreators makes levels for a room whose creators stand above all:
// they must not be named.
// spec: rooms/v12
func levelsWithCreators(fields map[string]jsontext.Value, users map[string]int64, creators []string) (jsontext.Value, error) {
	for _, id := range creators {
		delete(users, id)
	}
	events := levelMap(fields["events"])
	state := int64(levelModerator)
	if raw, ok := fields["state_default"]; ok {
		if n, ok := wholeLevel(raw); ok {
			state = n
		}
	}
	if events[typeTombstone] <= state || events[typeTombstone] == levelAdmin {
		events[typeTombstone] = max(levelTombstone, min(state, maxPowerLevel-1)+1)
	}
	var err error
	if fields["events"], err = json.Marshal(events, json.Deterministic(true)); err != nil {
		return nil, err
	}
	if fields["users"], err = json.Marshal(users, json.Deterministic(true)); err != nil {
		return nil, err
	}
	return json.Marshal(fields, json.Deterministic(true))
}

// levelsWithUpgrader makes levels for a room whose creators are named like
// everybody else. The first are the old ones, with the upgrading user above all.
func levelsWithUpgrader(fields map[string]jsontext.Value, users map[string]int64, upgrader string, old *oldRoom) (first, last jsontext.Value, err error) {
	if old.version.Rules().CreatorsPrivileged {
		for _, id := range append(gomatrixserverlib.Creators(old.create), upgrader) {
			users[id] = max(users[id], levelAdmin)
		}
	}
	if fields["users"], err = json.Marshal(users, json.Deterministic(true)); err != nil {
		return nil, nil, err
	}
	if last, err = json.Marshal(fields, json.Deterministic(true)); err != nil {
		return nil, nil, err
	}
	needed := int64(levelAdmin)
	for _, n := range users {
		needed = max(needed, n)
	}
	for _, n := range levelMap(fields["events"]) {
		needed = max(needed, n)
	}
	if n, ok := wholeLevel(fields["state_default"]); ok {
		needed = max(needed, n)
	}
	if users[upgrader] >= needed {
		return last, nil, nil
	}
	users[upgrader] = needed
	if fields["users"], err = json.Marshal(users, json.Deterministic(true)); err != nil {
		return nil, nil, err
	}
	first, err = json.Marshal(fields, json.Deterministic(true))
	return first, last, err
}

// wholeLevels makes the plain levels integers, as version 10 and later want
// them; what is not a number goes, and with it the default holds.
func wholeLevels(fields map[string]jsontext.Value) {
	for _, key := range []string{"users_default", "events_default", "state_default", "ban", "kick", "redact", "invite"} {
		raw, ok := fields[key]
		if !ok {
			continue
		}
		if n, ok := wholeLevel(raw); ok {
			fields[key] = strconv.AppendInt(nil, n, 10)
		} else {
			delete(fields, key)
		}
	}
}

// levelMap reads an object of levels; what is not a number is left out.
func levelMap(raw jsontext.Value) map[string]int64 {
	out := map[string]int64{}
	var fields map[string]jsontext.Value
	if len(raw) == 0 || json.Unmarshal(raw, &fields) != nil {
		return out
	}
	for key, value := range fields {
		if n, ok := wholeLevel(value); ok {
			out[key] = n
		}
	}
	return out
}

// wholeLevel reads a level: an integer, or as rooms before version 10 have it
// a number with a fraction or a string of digits.
// spec: rooms/v1 §mroompower_levels-events-accept-values-as-strings
func wholeLevel(raw jsontext.Value) (int64, bool) {
	if len(raw) == 0 {
		return 0, false
	}
	text := string(raw)
	if raw.Kind() == '"' {
		var s string
		if json.Unmarshal(raw, &s) != nil {
			return 0, false
		}
		text = strings.TrimSpace(s)
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return max(-maxPowerLevel, min(maxPowerLevel, n)), true
	}
	if f, err := strconv.ParseFloat(text, 64); err == nil && f > -maxPowerLevel && f < maxPowerLevel {
		return int64(f), true
	}
	return 0, false
}
