package api

import "testing"

func TestInviteRules(t *testing.T) {
	const everything = `{"allowed_users":["@friend:*"],"ignored_users":["@quiet?:bad.org"],"blocked_users":["@*spam*:*"],
		"allowed_servers":["good.org"],"ignored_servers":["*.meh.org"],"blocked_servers":["bad.org","*.good.org"]}`
	for _, tt := range []struct {
		permission, filter, inviter string
		want                        InviteAction
	}{
		{``, ``, "@a:b", InviteAllowed},
		{`{"default_action":"block"}`, everything, "@friend:good.org", InviteBlocked},
		{`{"default_action":"allow"}`, `[]`, "@a:b", InviteAllowed},
		{`{}`, everything, "@friend:bad.org", InviteAllowed},
		{`{}`, everything, "@quiet1:bad.org", InviteIgnored},
		{`{}`, everything, "@quiet12:bad.org", InviteBlocked},
		{`{}`, everything, "@myspammer:good.org", InviteBlocked},
		{`{}`, everything, "@a:good.org", InviteAllowed},
		{`{}`, everything, "@a:x.good.org", InviteBlocked},
		{`{}`, everything, "@a:x.y.meh.org", InviteIgnored},
		{`{}`, everything, "@a:meh.org", InviteAllowed},
		{`{}`, `{"enabled":false,"blocked_servers":["*"]}`, "@a:b", InviteAllowed},
		{`{}`, `{"blocked_servers":["*"]}`, "@a:b", InviteBlocked},
		{`{}`, `{"blocked_servers":"*"}`, "@a:b", InviteAllowed},
	} {
		var rules InviteRules
		rules.SetPermission([]byte(tt.permission))
		rules.SetFilter([]byte(tt.filter))
		if got := rules.Action(tt.inviter); got != tt.want {
			t.Errorf("%s, %s: an invite by %s is %d, want %d", tt.permission, tt.filter, tt.inviter, got, tt.want)
		}
	}
}
