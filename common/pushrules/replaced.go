package pushrules

import (
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// CopyRoom gives a room that replaced another one the user's rules for that:
// those with its ID, as clients make them to mute a room or to be told of
// everything in it. Rules that the new room has already stay. It tells whether
// anything changed.
// spec: client-server-api §room-upgrades
func (r *Rules) CopyRoom(old, replacement string) bool {
	changed := false
	for _, kind := range []string{"override", "room", "underride"} {
		list := r.set.kind(kind)
		at := index(*list, old)
		if at < 0 || (*list)[at].Default || index(*list, replacement) >= 0 || len(*list) >= maxRules {
			continue
		}
		rule := (*list)[at]
		rule.ID = replacement
		rule.Conditions = slices.Clone(rule.Conditions)
		for i, c := range rule.Conditions {
			rule.Conditions[i] = inRoom(c, old, replacement)
		}
		if check(list, kind, &rule) == nil {
			*list = slices.Insert(slices.Clone(*list), at, rule)
			changed = true
		}
	}
	return changed
}

// inRoom makes a condition on the old room's ID one on the replacement's;
// others stay as they are.
func inRoom(condition jsontext.Value, old, replacement string) jsontext.Value {
	var is struct {
		Key     string         `json:"key"`
		Pattern jsontext.Value `json:"pattern"`
		Value   jsontext.Value `json:"value"`
	}
	var fields map[string]jsontext.Value
	if json.Unmarshal(condition, &is) != nil || is.Key != "room_id" || json.Unmarshal(condition, &fields) != nil {
		return condition
	}
	for name, value := range map[string]jsontext.Value{"pattern": is.Pattern, "value": is.Value} {
		var id string
		if len(value) > 0 && json.Unmarshal(value, &id) == nil && id == old {
			fields[name] = jsontext.Value(quote(replacement))
		}
	}
	raw, err := json.Marshal(fields, json.Deterministic(true))
	if err != nil {
		return condition
	}
	return raw
}
