package gomatrixserverlib

import (
	"strconv"
	"testing"
)

// TestVersionRules has, for each rule, the first and the last room version
// with it.
func TestVersionRules(t *testing.T) {
	ranges := []struct {
		name        string
		get         func(*VersionRules) bool
		first, last int
	}{
		{"Stable", func(r *VersionRules) bool { return r.Stable }, 1, 12},
		{"StateResV1", func(r *VersionRules) bool { return r.StateRes == StateResV1 }, 1, 1},
		{"StateResV2", func(r *VersionRules) bool { return r.StateRes == StateResV2 }, 2, 11},
		{"StateResV21", func(r *VersionRules) bool { return r.StateRes == StateResV21 }, 12, 12},
		{"EventIDGiven", func(r *VersionRules) bool { return r.EventIDFormat == EventIDGiven && r.GivenEventIDs() }, 1, 2},
		{"EventIDBase64", func(r *VersionRules) bool { return r.EventIDFormat == EventIDBase64 }, 3, 3},
		{"EventIDURLSafe", func(r *VersionRules) bool { return r.EventIDFormat == EventIDURLSafe }, 4, 12},
		{"StrictJSON", func(r *VersionRules) bool { return r.StrictJSON && r.maxDepth() == MaxDepth }, 6, 12},
		{"EnforceKeyValidity", func(r *VersionRules) bool { return r.EnforceKeyValidity }, 5, 12},
		{"AliasesAuth", func(r *VersionRules) bool { return r.AliasesAuth }, 1, 5},
		{"RedactionAuth", func(r *VersionRules) bool { return r.RedactionAuth }, 1, 2},
		{"NotificationLevels", func(r *VersionRules) bool { return r.NotificationLevels }, 6, 12},
		{"KnockAllowed", func(r *VersionRules) bool { return r.KnockAllowed }, 7, 12},
		{"RestrictedAllowed", func(r *VersionRules) bool { return r.RestrictedAllowed }, 8, 12},
		{"KnockRestrictedAllowed", func(r *VersionRules) bool { return r.KnockRestrictedAllowed }, 10, 12},
		{"IntegerPowerLevels", func(r *VersionRules) bool { return r.IntegerPowerLevels }, 10, 12},
		{"CreatorInContent", func(r *VersionRules) bool { return r.CreatorInContent }, 1, 10},
		{"RedactsInContent", func(r *VersionRules) bool { return r.RedactsInContent }, 11, 12},
		{"RoomIDFromCreate", func(r *VersionRules) bool { return r.RoomIDFromCreate }, 12, 12},
		{"CreatorsPrivileged", func(r *VersionRules) bool { return r.CreatorsPrivileged }, 12, 12},
		{"CreateInAuthEvents", func(r *VersionRules) bool { return r.CreateInAuthEvents }, 1, 11},
	}
	for n := 1; n <= 12; n++ {
		v := RoomVersion(strconv.Itoa(n))
		rules := v.Rules()
		if rules == nil || rules.Version != v || !v.Supported() {
			t.Fatalf("version %s: %+v", v, rules)
		}
		for _, r := range ranges {
			if want := n >= r.first && n <= r.last; r.get(rules) != want {
				t.Errorf("version %s: %s is not %v", v, r.name, want)
			}
		}
	}
	if all := SupportedRoomVersions(); len(all) != 12 || all[0] != RoomVersionV1 || all[11] != DefaultRoomVersion {
		t.Errorf("supported: %q", all)
	}
}
