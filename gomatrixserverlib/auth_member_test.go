package gomatrixserverlib

import "testing"

func rules_(joinRule string) string {
	return `m.room.join_rules @a:s "" {"join_rule":"` + joinRule + `"}`
}

func TestAuthoriseJoin(t *testing.T) {
	const (
		none   = "1:5.2.6 6:4.2.6 8:4.3.7 12:5.3.7"
		banned = "1:5.2.3 6:4.2.3 8:4.3.3 12:5.3.3"
	)
	via := func(user string) string {
		return `m.room.member @x:t @x:t {"membership":"join","join_authorised_via_users_server":` + user + `}`
	}
	runAuthCases(t, []authCase{
		{"public", member_("@x:t", "@x:t", "join"), []string{rules_("public")}, "-"},
		{"for another", member_("@a:s", "@x:t", "join"), []string{rules_("public")}, "1:5.2.2 6:4.2.2 8:4.3.2 12:5.3.2"},
		{"banned", member_("@b:t", "@b:t", "join"), []string{rules_("public")}, banned},
		{"banned, restricted", `m.room.member @b:t @b:t {"membership":"join","join_authorised_via_users_server":"@a:s"}`,
			[]string{rules_("restricted")}, banned},
		{"invited", member_("@i:t", "@i:t", "join"), nil, "-"},
		{"joined", member_("@u:t", "@u:t", "join"), nil, "-"},
		{"left", member_("@l:t", "@l:t", "join"), nil, none},
		{"never there", member_("@x:t", "@x:t", "join"), nil, none},
		{"no join rules, not invited", member_("@x:t", "@x:t", "join"), []string{"without m.room.join_rules "}, none},
		{"no join rules, invited", member_("@i:t", "@i:t", "join"), []string{"without m.room.join_rules "}, "-"},
		{"private", member_("@x:t", "@x:t", "join"), []string{rules_("private")}, none},
		{"private, joined", member_("@u:t", "@u:t", "join"), []string{rules_("private")}, none},
		{"odd join rule", member_("@i:t", "@i:t", "join"), []string{`m.room.join_rules @a:s "" {"join_rule":["public"]}`}, none},
		{"knock, invited", member_("@i:t", "@i:t", "join"), []string{rules_("knock")}, "1:5.2.6 6:4.2.6 7:-"},
		{"knock, knocking", member_("@k:t", "@k:t", "join"), []string{rules_("knock")}, none},
		{"restricted, invited", member_("@i:t", "@i:t", "join"), []string{rules_("restricted")}, "1:5.2.6 6:4.2.6 8:-"},
		{"restricted, joined", member_("@u:t", "@u:t", "join"), []string{rules_("restricted")}, "1:5.2.6 6:4.2.6 8:-"},
		{"restricted, nobody named", member_("@x:t", "@x:t", "join"), []string{rules_("restricted")}, "1:5.2.6 6:4.2.6 8:4.3.5.2 12:5.3.5.2"},
		{"restricted, vouched for", via(`"@u:t"`), []string{rules_("restricted")}, "1:5.2.6 6:4.2.6 8:-"},
		{"restricted, by outsider", via(`"@y:t"`), []string{rules_("restricted")}, "8:4.3.5.2 12:5.3.5.2"},
		{"restricted, by one without power", via(`"@u:t"`),
			[]string{rules_("restricted"), `m.room.power_levels @a:s "" {"invite":50}`}, "8:4.3.5.2 12:5.3.5.2"},
		{"restricted, by creator", via(`"@c:s"`),
			[]string{rules_("restricted"), `m.room.power_levels @a:s "" {"invite":50}`}, "8:4.3.5.2 12:-"},
		{"restricted, no user", via(`5`), []string{rules_("restricted")}, "1:5.2.6 6:4.2.6 8:4.2.1 12:5.2.1"},
		{"restricted, odd user", via(`"u"`), []string{rules_("public")}, "1:- 8:4.2.1 12:5.2.1"},
		{"knock_restricted, vouched for", via(`"@u:t"`), []string{rules_("knock_restricted")}, "1:5.2.6 6:4.2.6 8:4.3.7 10:-"},
		{"knock_restricted, nobody named", member_("@x:t", "@x:t", "join"), []string{rules_("knock_restricted")}, "8:4.3.7 10:4.3.5.2 12:5.3.5.2"},
	})
}

func TestAuthoriseFirstJoin(t *testing.T) {
	for _, v := range SupportedRoomVersions() {
		r := newAuthRoom(t, v, `,"additional_creators":["@d:t"]`)
		state := r.state()
		join := func(user string, prev ...*Event) *Event {
			return r.add("m.room.member", user, &user, `{"membership":"join"}`, nil, prev)
		}
		requireRule(t, Authorise(join("@c:s", r.create), state), "-")
		no := ruleFor(v, "1:5.2.6 6:4.2.6 8:4.3.7 12:5.3.7")
		requireRule(t, Authorise(join("@d:t", r.create), state), no)
		first := join("@c:s", r.create)
		requireRule(t, Authorise(join("@c:s", first), state), no)
		requireRule(t, Authorise(join("@c:s", r.create, first), state), no)
	}
	// Who content.creator names counts up to version 10, the sender from then on.
	for _, v := range SupportedRoomVersions() {
		r := &authRoom{t: t, v: v, events: map[string]*Event{}, now: 1}
		r.create = r.add("m.room.create", "@o:s", ptr(""), `{"room_version":"`+string(v)+`","creator":"@c:s"}`, nil, nil)
		for user, want := range map[string]string{
			"@c:s": "1:- 11:4.3.7 12:5.3.7", "@o:s": "1:5.2.6 6:4.2.6 8:4.3.7 11:-",
		} {
			e := r.add("m.room.member", user, &user, `{"membership":"join"}`, nil, []*Event{r.create})
			requireRule(t, Authorise(e, r.state()), ruleFor(v, want))
		}
	}
}

func TestAuthoriseInvite(t *testing.T) {
	const invited = "1:5.3.3 6:4.3.3 8:4.4.3 12:5.4.3"
	runAuthCases(t, []authCase{
		{"by member", member_("@u:t", "@x:t", "invite"), nil, "-"},
		{"by outsider", member_("@x:t", "@y:t", "invite"), nil, "1:5.3.2 6:4.3.2 8:4.4.2 12:5.4.2"},
		{"of member", member_("@u:t", "@m:t", "invite"), nil, invited},
		{"of banned", member_("@a:s", "@b:t", "invite"), nil, invited},
		{"again", member_("@u:t", "@i:t", "invite"), nil, "-"},
		{"of one who knocks", member_("@u:t", "@k:t", "invite"), nil, "-"},
		{"without power", member_("@u:t", "@x:t", "invite"), []string{`m.room.power_levels @a:s "" {"invite":1}`}, "1:5.3.5 6:4.3.5 8:4.4.5 12:5.4.5"},
	})
}

func TestAuthoriseLeaveAndBan(t *testing.T) {
	const (
		self   = "1:5.4.1 6:4.4.1 8:4.5.1 12:5.5.1"
		kick   = "1:5.4.5 6:4.4.5 8:4.5.5 12:5.5.5"
		banned = "1:5.5.3 6:4.5.3 8:4.6.3 12:5.6.3"
	)
	runAuthCases(t, []authCase{
		{"leave", member_("@u:t", "@u:t", "leave"), nil, "-"},
		{"decline", member_("@i:t", "@i:t", "leave"), nil, "-"},
		{"stop knocking", member_("@k:t", "@k:t", "leave"), nil, "1:5.4.1 6:4.4.1 7:-"},
		{"leave twice", member_("@l:t", "@l:t", "leave"), nil, self},
		{"unban oneself", member_("@b:t", "@b:t", "leave"), nil, self},
		{"kick by outsider", member_("@x:t", "@u:t", "leave"), nil, "1:5.4.2 6:4.4.2 8:4.5.2 12:5.5.2"},
		{"kick", member_("@m:t", "@u:t", "leave"), nil, "-"},
		{"kick without power", member_("@u:t", "@v:t", "leave"), nil, kick},
		{"kick of equal", member_("@m:t", "@m2:t", "leave"),
			[]string{`m.room.power_levels @a:s "" {"users":{"@m:t":50,"@m2:t":50}}`}, kick},
		{"kick of creator", member_("@a:s", "@c:s", "leave"), nil, "1:- 12:5.5.5"},
		{"kick by creator", member_("@c:s", "@a:s", "leave"), nil, "1:5.4.5 6:4.4.5 8:4.5.5 12:-"},
		{"unban", member_("@m:t", "@b:t", "leave"), nil, "-"},
		{"unban without ban level", member_("@m:t", "@b:t", "leave"),
			[]string{`m.room.power_levels @a:s "" {"ban":51,"users":{"@m:t":50}}`}, "1:5.4.3 6:4.4.3 8:4.5.3 12:5.5.3"},
		{"unban without kick level", member_("@m:t", "@b:t", "leave"),
			[]string{`m.room.power_levels @a:s "" {"kick":51,"users":{"@m:t":50}}`}, kick},
		{"ban", member_("@m:t", "@u:t", "ban"), nil, "-"},
		{"ban of outsider", member_("@m:t", "@x:t", "ban"), nil, "-"},
		{"ban of banned", member_("@m:t", "@b:t", "ban"), nil, "-"},
		{"ban by outsider", member_("@x:t", "@u:t", "ban"), nil, "1:5.5.1 6:4.5.1 8:4.6.1 12:5.6.1"},
		{"ban without power", member_("@u:t", "@v:t", "ban"), nil, banned},
		{"ban of stronger", member_("@m:t", "@a:s", "ban"), nil, banned},
		{"ban of oneself", member_("@a:s", "@a:s", "ban"), nil, banned},
	})
}

func TestAuthoriseKnock(t *testing.T) {
	const unknown = "1:5.6 6:4.6 "
	runAuthCases(t, []authCase{
		{"knock", member_("@x:t", "@x:t", "knock"), []string{rules_("knock")}, unknown + "7:-"},
		{"again", member_("@k:t", "@k:t", "knock"), []string{rules_("knock")}, unknown + "7:-"},
		{"after leaving", member_("@l:t", "@l:t", "knock"), []string{rules_("knock")}, unknown + "7:-"},
		{"invite only", member_("@x:t", "@x:t", "knock"), nil, unknown + "7:4.6.1 8:4.7.1 12:5.7.1"},
		{"knock_restricted", member_("@x:t", "@x:t", "knock"), []string{rules_("knock_restricted")}, unknown + "7:4.6.1 8:4.7.1 10:-"},
		{"restricted", member_("@x:t", "@x:t", "knock"), []string{rules_("restricted")}, unknown + "7:4.6.1 8:4.7.1 12:5.7.1"},
		{"for another", member_("@u:t", "@x:t", "knock"), []string{rules_("knock")}, unknown + "7:4.6.2 8:4.7.2 12:5.7.2"},
		{"banned", member_("@b:t", "@b:t", "knock"), []string{rules_("knock")}, unknown + "7:4.6.4 8:4.7.4 12:5.7.4"},
		{"invited", member_("@i:t", "@i:t", "knock"), []string{rules_("knock")}, unknown + "7:4.6.4 8:4.7.4 12:5.7.4"},
		{"joined", member_("@u:t", "@u:t", "knock"), []string{rules_("knock")}, unknown + "7:4.6.4 8:4.7.4 12:5.7.4"},
	})
}

func TestAuthoriseMemberFormat(t *testing.T) {
	const unknown = "1:5.6 6:4.6 7:4.7 8:4.8 12:5.8"
	runAuthCases(t, []authCase{
		{"no state key", `m.room.member @u:t - {"membership":"join"}`, nil, "1:5.1 6:4.1 12:5.1"},
		{"no membership", `m.room.member @u:t @u:t {}`, nil, "1:5.1 6:4.1 12:5.1"},
		{"membership null", `m.room.member @u:t @u:t {"membership":null}`, nil, unknown},
		{"membership of object", `m.room.member @u:t @u:t {"membership":{"join":[]}}`, nil, unknown},
		{"unknown membership", `m.room.member @u:t @u:t {"membership":"dance"}`, nil, unknown},
		{"empty membership", `m.room.member @u:t @u:t {"membership":""}`, nil, unknown},
	})
}
