package api

import (
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Types of account data.
const (
	// TypeIgnoredUsers says whom a user ignores.
	TypeIgnoredUsers = "m.ignored_user_list"
	// TypePushRules has a user's push rules.
	TypePushRules = "m.push_rules"
)

// IgnoredUsers reads the content of TypeIgnoredUsers; what is not one, or nothing,
// ignores nobody.
// spec: client-server-api §ignoring-users
func IgnoredUsers(content jsontext.Value) map[string]struct{} {
	var list struct {
		Users map[string]jsontext.Value `json:"ignored_users"`
	}
	if len(content) == 0 || json.Unmarshal(content, &list) != nil || len(list.Users) == 0 {
		return nil
	}
	out := make(map[string]struct{}, len(list.Users))
	for id := range list.Users {
		out[id] = struct{}{}
	}
	return out
}
