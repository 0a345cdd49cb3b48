package gomatrixserverlib

// member has the rules on m.room.member.
// spec: rooms/v1..v5 §authorisation-rules 5, v6..v11 4, v12 5
func (a *authorisation) member() error {
	e, n := a.event, a.rules.ruleNumbers()
	if e.stateKey == nil || member(e.Content(), "membership") == nil {
		return refuse([]int{n.member, 1}, "m.room.member has no state key or no membership")
	}
	if a.rules.RestrictedAllowed {
		if _, present, ok := authorisingUser(e.Content()); present && !ok {
			// Nobody can have signed for it. If somebody can, the caller
			// has checked the signature.
			return refuse([]int{n.member, n.authorisedBy, 1}, "join_authorised_via_users_server is no user ID")
		}
	}
	switch {
	case e.membership == "join":
		return a.join(&n)
	case e.membership == "invite":
		return a.invite(&n)
	case e.membership == "leave":
		return a.leave(&n)
	case e.membership == "ban":
		return a.ban(&n)
	case e.membership == "knock" && a.rules.KnockAllowed:
		return a.knock(&n)
	}
	return refuse([]int{n.member, n.unknown}, "the membership is unknown")
}

// authorisingUser returns content.join_authorised_via_users_server, whether it
// is there, and whether it is a user ID.
func authorisingUser(content []byte) (user string, present, ok bool) {
	raw := member(content, "join_authorised_via_users_server")
	if raw == nil {
		return "", false, false
	}
	user, ok = stringOf(raw)
	if !ok {
		return "", true, false
	}
	_, _, err := ParseHistoricalUserID(user)
	return user, true, err == nil
}

// joinRule returns the room's join rule. A room without one is for invited
// users only.
func (a *authorisation) joinRule() string {
	e := a.state.StateEvent("m.room.join_rules", "")
	if e == nil {
		return "invite"
	}
	raw := member(e.Content(), "join_rule")
	switch string(raw) { // without allocation
	case `"public"`:
		return "public"
	case `"invite"`:
		return "invite"
	}
	rule, _ := stringOf(raw)
	return rule
}

func (a *authorisation) join(n *ruleNumbers) error {
	e, target := a.event, *a.event.stateKey
	if len(e.prevEvents) == 1 && e.prevEvents[0] == a.create.id && a.mayJoinFirst(target) {
		return nil
	}
	if e.sender != target {
		return refuse([]int{n.member, n.join, 2}, e.sender, " cannot join for ", target)
	}
	membership := a.membership(target)
	if membership == "ban" {
		return refuse([]int{n.member, n.join, 3}, target, " is banned")
	}
	member := membership == "invite" || membership == "join"
	rule := a.joinRule()
	switch {
	case rule == "public":
		return nil
	case rule == "invite", rule == "knock" && a.rules.KnockAllowed:
		if member {
			return nil
		}
	case rule == "restricted" && a.rules.RestrictedAllowed,
		rule == "knock_restricted" && a.rules.KnockRestrictedAllowed:
		if member || a.authorisedJoin() {
			return nil
		}
		return refuse([]int{n.member, n.join, n.restricted, 2},
			"nobody in the room who may invite vouches for ", target)
	}
	return refuse([]int{n.member, n.join, n.joinElse}, "the join rule does not let ", target, " in")
}

// mayJoinFirst reports whether the user is who may join right after
// m.room.create: up to room version 10 the creator that its content names,
// then its sender.
func (a *authorisation) mayJoinFirst(userID string) bool {
	if !a.rules.CreatorInContent {
		return userID == a.create.sender
	}
	creator, ok := stringOf(member(a.create.Content(), "creator"))
	return ok && creator == userID
}

// authorisedJoin reports whether the user that the event names as vouching for
// a join is in the room and may invite.
func (a *authorisation) authorisedJoin() bool {
	user, _, ok := authorisingUser(a.event.Content())
	return ok && a.membership(user) == "join" && a.levels.UserLevel(user) >= a.levels.Invite()
}

func (a *authorisation) invite(n *ruleNumbers) error {
	e, target := a.event, *a.event.stateKey
	if raw := member(e.Content(), "third_party_invite"); raw != nil {
		return a.thirdPartyInvite(n, raw)
	}
	if a.membership(e.sender) != "join" {
		return refuse([]int{n.member, n.invite, 2}, e.sender, " is not in the room")
	}
	if m := a.membership(target); m == "join" || m == "ban" {
		return refuse([]int{n.member, n.invite, 3}, target, " is in the room or banned")
	}
	if a.levels.UserLevel(e.sender) < a.levels.Invite() {
		return refuse([]int{n.member, n.invite, 5}, e.sender, " may not invite")
	}
	return nil
}

func (a *authorisation) leave(n *ruleNumbers) error {
	e, target := a.event, *a.event.stateKey
	before := a.membership(target)
	if e.sender == target {
		if before == "invite" || before == "join" || before == "knock" && a.rules.KnockAllowed {
			return nil
		}
		return refuse([]int{n.member, n.leave, 1}, target, " is not in the room and not invited")
	}
	if a.membership(e.sender) != "join" {
		return refuse([]int{n.member, n.leave, 2}, e.sender, " is not in the room")
	}
	level := a.levels.UserLevel(e.sender)
	if before == "ban" && level < a.levels.Ban() {
		return refuse([]int{n.member, n.leave, 3}, e.sender, " may not unban")
	}
	if level < a.levels.Kick() || a.levels.UserLevel(target) >= level {
		return refuse([]int{n.member, n.leave, 5}, e.sender, " may not remove ", target)
	}
	return nil
}

func (a *authorisation) ban(n *ruleNumbers) error {
	e, target := a.event, *a.event.stateKey
	if a.membership(e.sender) != "join" {
		return refuse([]int{n.member, n.ban, 1}, e.sender, " is not in the room")
	}
	level := a.levels.UserLevel(e.sender)
	if level < a.levels.Ban() || a.levels.UserLevel(target) >= level {
		return refuse([]int{n.member, n.ban, 3}, e.sender, " may not ban ", target)
	}
	return nil
}

func (a *authorisation) knock(n *ruleNumbers) error {
	e, target := a.event, *a.event.stateKey
	rule := a.joinRule()
	if rule != "knock" && !(rule == "knock_restricted" && a.rules.KnockRestrictedAllowed) {
		return refuse([]int{n.member, n.knock, 1}, "the join rule does not let anyone knock")
	}
	if e.sender != target {
		return refuse([]int{n.member, n.knock, 2}, e.sender, " cannot knock for ", target)
	}
	switch a.membership(target) {
	case "ban", "invite", "join":
		return refuse([]int{n.member, n.knock, 4}, target, " is banned, invited or in the room")
	}
	return nil
}
