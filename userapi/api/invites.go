package api

import (
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Account data by which a user says who may invite them.
const (
	// TypeInvitePermission blocks all invites. spec: client-server-api §invite-permission
	TypeInvitePermission = "m.invite_permission_config"
	// TypeInviteFilter tells inviters apart (MSC4155).
	TypeInviteFilter = "org.matrix.msc4155.invite_permission_config"
)

// InviteAction is what becomes of an invite.
type InviteAction int

// The actions. One that is ignored reaches the user's server but not the user.
const (
	InviteAllowed InviteAction = iota
	InviteIgnored
	InviteBlocked
)

// InviteRules say who may invite a user. The zero value lets everybody.
type InviteRules struct {
	blockAll bool
	rules    []inviteRule
}

// inviteRule is a pattern for the user ID of an inviter, or the server name.
type inviteRule struct {
	pattern string
	server  bool
	action  InviteAction
}

// SetPermission reads the content of TypeInvitePermission; what has not the form
// it should have blocks nothing.
func (r *InviteRules) SetPermission(content jsontext.Value) {
	var config struct {
		DefaultAction string `json:"default_action"`
	}
	r.blockAll = len(content) > 0 && json.Unmarshal(content, &config) == nil && config.DefaultAction == "block"
}

// SetFilter reads the content of TypeInviteFilter, of which the first list that
// has a pattern for the inviter counts: of users before servers, of who is allowed
// before who is ignored before who is blocked.
func (r *InviteRules) SetFilter(content jsontext.Value) {
	var config struct {
		Enabled        *bool    `json:"enabled"`
		AllowedUsers   []string `json:"allowed_users"`
		IgnoredUsers   []string `json:"ignored_users"`
		BlockedUsers   []string `json:"blocked_users"`
		AllowedServers []string `json:"allowed_servers"`
		IgnoredServers []string `json:"ignored_servers"`
		BlockedServers []string `json:"blocked_servers"`
	}
	r.rules = nil
	if len(content) == 0 || json.Unmarshal(content, &config) != nil || config.Enabled != nil && !*config.Enabled {
		return
	}
	add := func(patterns []string, server bool, action InviteAction) {
		for _, p := range patterns {
			r.rules = append(r.rules, inviteRule{p, server, action})
		}
	}
	add(config.AllowedUsers, false, InviteAllowed)
	add(config.IgnoredUsers, false, InviteIgnored)
	add(config.BlockedUsers, false, InviteBlocked)
	add(config.AllowedServers, true, InviteAllowed)
	add(config.IgnoredServers, true, InviteIgnored)
	add(config.BlockedServers, true, InviteBlocked)
}

// Action tells what becomes of an invite by a user.
func (r *InviteRules) Action(inviter string) InviteAction {
	if r.blockAll {
		return InviteBlocked
	}
	_, server, _ := strings.Cut(inviter, ":")
	for _, rule := range r.rules {
		who := inviter
		if rule.server {
			who = server
		}
		if fits(rule.pattern, who) {
			return rule.action
		}
	}
	return InviteAllowed
}

// fits matches a pattern, in which * stands for any number of characters and ?
// for one.
// spec: appendices §glob-style-matching
func fits(pattern, s string) bool {
	p, i, star, from := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0: // let the last * stand for one more
			from++
			p, i = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
