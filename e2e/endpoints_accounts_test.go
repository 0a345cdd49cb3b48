package e2e

import (
	"net/url"
	"strings"
	"testing"
)

const clientV1 = "/_matrix/client/v1"

// discovery: what tells clients about the server.
func (w *town) discovery(t *testing.T) {
	stranger := anonymous(w.s)
	if got := dig(stranger.call(t, "GET", "/.well-known/matrix/client", nil).body, "m.homeserver", "base_url"); got != "https://matrix.example.org" {
		t.Errorf("clients are sent to %v", got)
	}
	if got := find(stranger.call(t, "GET", "/.well-known/matrix/support", nil).body["contacts"], "role", "m.role.admin"); got["email_address"] != "help@example.org" {
		t.Errorf("who needs help finds %v", got)
	}
	if got := dig(stranger.call(t, "GET", "/.well-known/matrix/policy_server", nil).body, "public_keys", "ed25519"); got == nil {
		t.Error("the policy server's key is not told")
	}
	if got := stranger.call(t, "GET", "/login", nil); find(got.body["flows"], "type", "m.login.password") == nil {
		t.Errorf("one can log in by %s", got.raw)
	}
	a := w.alice.call(t, "GET", "/capabilities", nil)
	version, _ := dig(a.body, "capabilities", "m.room_versions", "default").(string)
	room := w.alice.createRoom(t, object{})
	created := w.alice.call(t, "GET", inRoom(room)+"/state/m.room.create/", nil)
	if version == "" || created.str("room_version") != version {
		t.Errorf("%q is said to be the default, and the new room is %s", version, created.raw)
	}
	if got := dig(a.body, "capabilities", "m.account_moderation"); got != nil {
		t.Errorf("alice is told that she may do as administrators: %v", got)
	}
	if got := dig(w.root.call(t, "GET", "/capabilities", nil).body, "capabilities", "m.account_moderation", "lock"); got != true {
		t.Error("root is not told that administrators may lock accounts")
	}
	turn := w.alice.call(t, "GET", "/voip/turnServer", nil)
	if !strings.HasSuffix(turn.str("username"), w.alice.id) || turn.str("password") == "" {
		t.Errorf("alice is told %s", turn.raw)
	}
	openid := w.alice.call(t, "POST", ofUser(w.alice.id)+"/openid/request_token", object{})
	stranger.token = openid.str("access_token")
	refuseAll(t, []refusal{
		{stranger, 401, "M_UNKNOWN_TOKEN", "GET", "/capabilities", nil}, // it says who somebody is, and gives access to nothing
		{anonymous(w.s), 401, "M_MISSING_TOKEN", "GET", "/capabilities", nil},
		{anonymous(w.s), 401, "M_MISSING_TOKEN", "GET", "/voip/turnServer", nil},
		{w.bob, 403, "M_FORBIDDEN", "POST", ofUser(w.alice.id) + "/openid/request_token", object{}},
	})
}

// allAsked is how often something is asked so that, by chance, all instances have been.
const allAsked = 8

// known has all instances know a token that is good.
func (u *user) known(t *testing.T) {
	t.Helper()
	for range allAsked {
		u.call(t, "GET", "/account/whoami", nil)
		u.call(t, "GET", "/sync", nil)
	}
}

// ended makes sure that no instance takes the token any more, once whoever ended its
// session has been told so.
func (u *user) ended(t *testing.T) {
	t.Helper()
	for range allAsked {
		u.refused(t, 401, "M_UNKNOWN_TOKEN", "GET", "/account/whoami", nil)
		u.refused(t, 401, "M_UNKNOWN_TOKEN", "GET", "/sync", nil)
	}
}

// sessions: how one begins and ends.
func (w *town) sessions(t *testing.T) {
	stranger := anonymous(w.s)
	second, a := w.login(t, w.alice, object{"refresh_token": true, "initial_device_display_name": "tablet"})
	who := second.call(t, "GET", "/account/whoami", nil)
	if who.str("user_id") != w.alice.id || who.str("device_id") != second.device {
		t.Errorf("the new session is %s", who.raw)
	}
	fresh := stranger.call(t, "POST", "/refresh", object{"refresh_token": a.str("refresh_token")})
	second.token = fresh.str("access_token")
	second.call(t, "GET", "/account/whoami", nil) // from here on the old ones are void
	refuseAll(t, []refusal{
		{stranger, 401, "M_UNKNOWN_TOKEN", "POST", "/refresh", object{"refresh_token": a.str("refresh_token")}},
		{stranger, 401, "M_MISSING_TOKEN", "GET", "/account/whoami", nil},
		{stranger, 401, "M_MISSING_TOKEN", "POST", "/logout", nil},
		{stranger, 401, "M_MISSING_TOKEN", "POST", "/logout/all", nil},
		{stranger, 403, "M_FORBIDDEN", "POST", "/login", object{"type": "m.login.token", "token": "made up"}},
		{stranger, 400, "M_UNKNOWN", "POST", "/login", object{"type": "org.example.unknown"}},
	})

	given := second.confirmed(t, "POST", clientV1+"/login/get_token", object{})
	third := anonymous(w.s)
	byToken := object{"type": "m.login.token", "token": given.str("login_token")}
	third.token = third.call(t, "POST", "/login", byToken).str("access_token")
	if got := third.call(t, "GET", "/account/whoami", nil); got.str("user_id") != w.alice.id {
		t.Errorf("the login token makes a session of %s", got.raw)
	}
	stranger.refused(t, 403, "M_FORBIDDEN", "POST", "/login", byToken) // once

	third.known(t)
	third.call(t, "POST", "/logout", nil)
	third.ended(t)
	gone := w.account(t, "leaver", false)
	other, _ := w.login(t, gone, nil)
	gone.known(t)
	other.call(t, "POST", "/logout/all", nil)
	for _, u := range []*user{gone, other} {
		u.ended(t)
	}
}

// accounts: how one is made, changed and ended.
func (w *town) accounts(t *testing.T) {
	stranger, carol := anonymous(w.s), w.account(t, "carol", false)
	if got := stranger.call(t, "GET", "/register/available?username=free", nil); got.body["available"] != true {
		t.Errorf("a free name: %s", got.raw)
	}
	if got := stranger.call(t, "GET", clientV1+"/register/m.login.registration_token/validity?token=nonsense", nil); got.body["valid"] != false {
		t.Errorf("a token that nobody has made: %s", got.raw)
	}
	asked, err := stranger.try("POST", "/register", object{"username": "free", "password": "correct horse"})
	if err != nil || asked.status != 401 {
		t.Fatalf("%v %d %s", err, asked.status, asked.raw)
	}
	auth := object{"type": "m.login.registration_token", "token": "nonsense", "session": asked.str("session")}
	refuseAll(t, []refusal{
		{stranger, 401, "M_UNAUTHORIZED", "POST", "/register", object{"username": "free", "password": "correct horse", "auth": auth}},
		{stranger, 400, "M_USER_IN_USE", "GET", "/register/available?username=carol", nil},
		{stranger, 400, "M_INVALID_USERNAME", "GET", "/register/available?username=%C3%A9", nil},
		{stranger, 400, "M_EXCLUSIVE", "GET", "/register/available?username=_irc_x", nil},
		{stranger, 400, "M_MISSING_PARAM", "GET", clientV1 + "/register/m.login.registration_token/validity", nil},
		{stranger, 401, "M_MISSING_TOKEN", "GET", "/account/3pid", nil},
	})
	if got := carol.call(t, "GET", "/account/3pid", nil); len(list(got.body["threepids"])) != 0 {
		t.Errorf("carol has %s", got.raw)
	}

	other, _ := w.login(t, carol, nil)
	other.known(t)
	carol.confirmed(t, "POST", "/account/password", object{"new_password": "battery staple"})
	login := func(password string) object {
		return object{"type": "m.login.password", "identifier": object{"type": "m.id.user", "user": "carol"}, "password": password}
	}
	other.ended(t)
	stranger.refused(t, 403, "M_FORBIDDEN", "POST", "/login", login("correct horse"))
	stranger.call(t, "POST", "/login", login("battery staple"))

	dave := w.account(t, "dave", false)
	room := w.alice.createRoom(t, object{"preset": "public_chat"})
	dave.join(t, room)
	dave.known(t)
	if got := dave.confirmed(t, "POST", "/account/deactivate", object{}); got.str("id_server_unbind_result") != "no-support" {
		t.Errorf("deactivation: %s", got.raw)
	}
	dave.ended(t)
	body := login("correct horse")
	body["identifier"] = object{"type": "m.id.user", "user": "dave"}
	stranger.refused(t, 403, "M_USER_DEACTIVATED", "POST", "/login", body)
	stranger.refused(t, 400, "M_USER_IN_USE", "GET", "/register/available?username=dave", nil)
	until(t, "dave leaves his rooms", func() bool {
		return dig(w.alice.call(t, "GET", inRoom(room)+"/joined_members", nil).body, "joined", dave.id) == nil
	})
}

// devices of a user.
func (w *town) devices(t *testing.T) {
	erin := w.account(t, "erin", false)
	second, _ := w.login(t, erin, object{"initial_device_display_name": "phone"})
	third, _ := w.login(t, erin, nil)
	path := "/devices/" + url.PathEscape(second.device)
	erin.call(t, "PUT", path, object{"display_name": "erin's telephone"})
	if got := second.call(t, "GET", path, nil); got.str("display_name") != "erin's telephone" {
		t.Errorf("the device is %s", got.raw)
	}
	if got := list(third.call(t, "GET", "/devices", nil).body["devices"]); len(got) != 3 || find(got, "device_id", second.device)["display_name"] != "erin's telephone" {
		t.Errorf("erin's devices are %v", got)
	}
	refuseAll(t, []refusal{
		{w.bob, 404, "M_NOT_FOUND", "GET", path, nil},
		{w.bob, 404, "M_NOT_FOUND", "PUT", path, object{"display_name": "bob's"}},
		{erin, 400, "M_BAD_JSON", "PUT", path, object{"display_name": 1}},
		{anonymous(w.s), 401, "M_MISSING_TOKEN", "GET", "/devices", nil},
		{erin, 400, "M_MISSING_PARAM", "POST", "/delete_devices", object{}},
	})
	second.known(t)
	erin.confirmed(t, "DELETE", path, object{})
	second.ended(t)
	erin.refused(t, 404, "M_NOT_FOUND", "GET", path, nil)
	erin.confirmed(t, "POST", "/delete_devices", object{"devices": []string{third.device}})
	third.ended(t)
	if got := list(erin.call(t, "GET", "/devices", nil).body["devices"]); len(got) != 1 {
		t.Errorf("erin's devices are %v", got)
	}
}

// administrators of the server, who see and stop others.
func (w *town) administrators(t *testing.T) {
	frank := w.account(t, "frank", false)
	lock, suspend := clientV1+"/admin/lock/", clientV1+"/admin/suspend/"
	whois := w.root.call(t, "GET", "/admin/whois/"+url.PathEscape(frank.id), nil)
	if whois.str("user_id") != frank.id || dig(whois.body, "devices", frank.device) == nil {
		t.Errorf("root sees %s", whois.raw)
	}
	w.root.call(t, "PUT", suspend+url.PathEscape(frank.id), object{"suspended": true})
	if got := w.root.call(t, "GET", suspend+url.PathEscape(frank.id), nil); got.body["suspended"] != true {
		t.Errorf("frank is suspended: %s", got.raw)
	}
	frank.refused(t, 403, "M_USER_SUSPENDED", "POST", "/createRoom", object{})
	w.root.call(t, "PUT", lock+url.PathEscape(frank.id), object{"locked": true})
	if got := w.root.call(t, "GET", lock+url.PathEscape(frank.id), nil); got.body["locked"] != true {
		t.Errorf("frank is locked: %s", got.raw)
	}
	frank.refused(t, 401, "M_USER_LOCKED", "GET", "/account/whoami", nil)
	all := []refusal{
		{w.bob, 403, "M_FORBIDDEN", "GET", "/admin/whois/" + url.PathEscape(frank.id), nil},
		{w.root, 404, "M_NOT_FOUND", "GET", "/admin/whois/" + nobody, nil},
	}
	for path, member := range map[string]string{lock: "locked", suspend: "suspended"} {
		all = append(all, []refusal{
			{w.bob, 403, "M_FORBIDDEN", "GET", path + url.PathEscape(frank.id), nil},
			{w.bob, 403, "M_FORBIDDEN", "PUT", path + url.PathEscape(frank.id), object{member: false}},
			{w.root, 403, "M_FORBIDDEN", "PUT", path + url.PathEscape(w.root.id), object{member: true}},
			{w.root, 404, "M_NOT_FOUND", "GET", path + nobody, nil},
			{w.root, 404, "M_NOT_FOUND", "PUT", path + nobody, object{member: true}},
			{w.root, 400, "M_INVALID_PARAM", "GET", path + "@x:elsewhere.example", nil},
			{w.root, 400, "M_INVALID_PARAM", "PUT", path + "@x:elsewhere.example", object{member: true}},
			{w.root, 400, "M_MISSING_PARAM", "PUT", path + url.PathEscape(frank.id), object{}},
		}...)
	}
	refuseAll(t, all)
}

// profiles: members of rooms have them too.
func (w *town) profiles(t *testing.T) {
	profile := "/profile/" + url.PathEscape(w.alice.id)
	room := w.alice.createRoom(t, object{})
	w.alice.call(t, "PUT", profile+"/displayname", object{"displayname": "Alice"})
	w.alice.call(t, "PUT", profile+"/avatar_url", object{"avatar_url": "mxc://localhost/alice"})
	w.alice.call(t, "PUT", profile+"/org.example.colour", object{"org.example.colour": object{"name": "blue"}})
	if got := w.bob.call(t, "GET", profile, nil); got.str("displayname") != "Alice" || dig(got.body, "org.example.colour", "name") != "blue" {
		t.Errorf("bob sees %s", got.raw)
	}
	if got := w.bob.call(t, "GET", profile+"/avatar_url", nil); got.str("avatar_url") != "mxc://localhost/alice" {
		t.Errorf("bob sees %s", got.raw)
	}
	until(t, "the room has alice's name", func() bool {
		return w.alice.call(t, "GET", inRoom(room)+"/state/m.room.member/"+url.PathEscape(w.alice.id), nil).str("displayname") == "Alice"
	})
	w.alice.call(t, "DELETE", profile+"/org.example.colour", nil)
	refuseAll(t, []refusal{
		{w.bob, 404, "M_NOT_FOUND", "GET", profile + "/org.example.colour", nil},
		{w.bob, 404, "M_NOT_FOUND", "GET", "/profile/" + nobody, nil},
		{w.bob, 404, "M_NOT_FOUND", "GET", "/profile/" + nobody + "/displayname", nil},
		{w.bob, 403, "M_FORBIDDEN", "PUT", profile + "/displayname", object{"displayname": "Bob"}},
		{w.bob, 403, "M_FORBIDDEN", "DELETE", profile + "/displayname", nil},
		{w.alice, 400, "M_MISSING_PARAM", "PUT", profile + "/displayname", object{}},
		{w.alice, 400, "M_KEY_TOO_LARGE", "PUT", profile + "/org.example." + strings.Repeat("x", 250), object{}},
		{w.alice, 400, "M_PROFILE_TOO_LARGE", "PUT", profile + "/org.example.long", object{"org.example.long": strings.Repeat("x", 64<<10)}},
	})
}

// notServed: what needs an identity server is refused as what is not there.
func (w *town) notServed(t *testing.T) {
	room := w.alice.createRoom(t, object{})
	refuseAll(t, []refusal{
		{w.alice, 404, "M_UNRECOGNIZED", "POST", "/account/3pid/add", object{}},
		{w.alice, 404, "M_UNRECOGNIZED", "POST", "/account/3pid/email/requestToken", object{}},
		{w.alice, 405, "M_UNRECOGNIZED", "POST", "/account/3pid", object{}},
		{w.alice, 403, "M_SERVER_NOT_TRUSTED", "POST", inRoom(room) + "/invite",
			object{"id_server": "id.example.org", "id_access_token": "x", "medium": "email", "address": "x@example.org"}},
	})
}
