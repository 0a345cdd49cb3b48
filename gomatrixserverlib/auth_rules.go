package gomatrixserverlib

// ruleNumbers are the numbers that the specification of a room version gives
// its authorisation rules, for AuthError.
type ruleNumbers struct {
	authEvents, federate, aliases, member, joined, thirdParty int
	required, userKey, powerLevels, redaction                 int

	// Below member:
	authorisedBy, join, invite, leave, ban, knock, unknown int
	// Below join:
	restricted, joinElse int
	// Below powerLevels; from first on they follow each other as in version 1.
	levels, maps, users, creators, first int
}

// ruleNumbers returns the numbers of a room version. It allocates nothing.
func (r *VersionRules) ruleNumbers() ruleNumbers {
	n := ruleNumbers{authEvents: 2, federate: 3}
	next := 4
	if r.RoomIDFromCreate {
		n.authEvents, n.federate, next = 3, 4, 5
	}
	if r.AliasesAuth {
		n.aliases = next
		next++
	}
	n.member, n.joined, n.thirdParty = next, next+1, next+2
	n.required, n.userKey, n.powerLevels = next+3, next+4, next+5
	if r.RedactionAuth {
		n.redaction = next + 6
	}

	n.join = 2
	if r.RestrictedAllowed {
		n.authorisedBy, n.join = 2, 3
	}
	n.invite, n.leave, n.ban, n.unknown = n.join+1, n.join+2, n.join+3, n.join+4
	if r.KnockAllowed {
		n.knock, n.unknown = n.unknown, n.unknown+1
	}
	n.joinElse = 6
	if r.RestrictedAllowed {
		n.restricted, n.joinElse = 5, 7
	}

	n.users, n.first = 1, 2
	if r.IntegerPowerLevels {
		n.levels, n.maps, n.users, n.first = 1, 2, 3, 4
	}
	if r.CreatorsPrivileged {
		n.creators, n.first = n.first, n.first+1
	}
	return n
}
