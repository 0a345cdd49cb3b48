package e2e

import (
	"net/url"
	"testing"
	"time"
)

// TestEndpoints walks the operations of docs/endpoints.txt that other tests have
// no reason to: each one's effect is seen through another endpoint or by another
// user, in a cluster through any instance, and each refuses what it has to.
// walk.missing tells what was left out.
func TestEndpoints(t *testing.T) {
	page := startPage(t)
	env := []string{
		"DENDRITE_REGISTRATION_SHARED_SECRET=" + townSecret, "DENDRITE_REGISTRATION_TOKEN_REQUIRED=true", "DENDRITE_REGISTRATION_GUESTS_OPEN=true",
		"DENDRITE_GLOBAL_WELL_KNOWN_CLIENT_BASE_URL=https://matrix.example.org", "DENDRITE_GLOBAL_SUPPORT_EMAIL=help@example.org",
		"DENDRITE_GLOBAL_POLICY_SERVER_KEY=6yhHGKhCiXTSEN2ksjV7kX+N6rBQZ3Xb+M7LlC6NS+s",
		"DENDRITE_CLIENT_API_CALLS_TURN_URIS=turn:turn.example.org", "DENDRITE_CLIENT_API_CALLS_TURN_SECRET=a secret of the TURN server",
		"DENDRITE_MEDIA_API_UNAUTHENTICATED_BEFORE=2100-01-01T00:00:00Z", "DENDRITE_MEDIA_API_URL_PREVIEW_ALLOW_RANGES=127.0.0.0/8",
	}
	test := func(t *testing.T, s site) {
		w := &town{s: s, page: page}
		w.root, w.alice, w.bob = w.account(t, "root", true), w.account(t, "alice", false), w.account(t, "bob", false)
		for _, part := range []struct {
			name string
			walk func(*town, *testing.T)
		}{
			{"discovery", (*town).discovery}, {"sessions", (*town).sessions}, {"accounts", (*town).accounts}, {"devices", (*town).devices},
			{"administrators", (*town).administrators}, {"profiles", (*town).profiles}, {"account data", (*town).accountData},
			{"tags", (*town).tags}, {"filters", (*town).filters}, {"push rules", (*town).pushRules},
			{"presence", (*town).presence}, {"typing", (*town).typing}, {"receipts", (*town).receipts}, {"unread", (*town).unread},
			{"memberships", (*town).memberships}, {"knocks", (*town).knocks}, {"guests", (*town).guests}, {"state", (*town).state},
			{"aliases", (*town).aliases}, {"directory", (*town).directory}, {"spaces", (*town).spaces}, {"upgrade", (*town).upgrade},
			{"history", (*town).history}, {"relations", (*town).relations}, {"old sync", (*town).oldSync},
			{"reports", (*town).reports}, {"keys", (*town).keys}, {"cross-signing", (*town).crossSigning}, {"key backup", (*town).keyBackup},
			{"to device", (*town).toDevice}, {"media", (*town).media}, {"previews", (*town).previews}, {"what is not served", (*town).notServed},
		} {
			t.Run(part.name, func(t *testing.T) { part.walk(w, t) })
		}
	}
	inBoth(t, func(t *testing.T) { test(t, startServer(t, env...)) }, func(t *testing.T) { test(t, startCluster(t, clusterOptions{env: env})) })
}

// town is a server and who lives there.
type town struct {
	s                site
	page             string // the URL of a page on the web
	root, alice, bob *user
}

const townSecret = "a secret of the tests"

func (w *town) account(t *testing.T, name string, admin bool) *user {
	t.Helper()
	return bySecret(t, w.s, name, townSecret, admin)
}

// login makes another session of a user.
func (w *town) login(t *testing.T, u *user, more object) (*user, *answer) {
	t.Helper()
	body := object{"type": "m.login.password", "identifier": object{"type": "m.id.user", "user": u.id}, "password": "correct horse"}
	for key, v := range more {
		body[key] = v
	}
	other := anonymous(w.s)
	a := other.call(t, "POST", "/login", body)
	other.id, other.token, other.device = a.str("user_id"), a.str("access_token"), a.str("device_id")
	return other, a
}

// password is the auth of who has been asked for a password.
func (u *user) password(session, password string) object {
	return object{"type": "m.login.password", "session": session, "identifier": object{"type": "m.id.user", "user": u.id}, "password": password}
}

// confirmed makes a request that asks for the password: it is refused without and
// with a wrong one, and done with the right one.
func (u *user) confirmed(t *testing.T, method, path string, body object) *answer {
	t.Helper()
	asked, err := u.try(method, path, body)
	if err != nil || asked.status != 401 || len(list(asked.body["flows"])) == 0 {
		t.Fatalf("%s %s: %v %d %s, and no flows", method, path, err, asked.status, asked.raw)
	}
	with := func(password string) object {
		out := object{"auth": u.password(asked.str("session"), password)}
		for key, v := range body {
			out[key] = v
		}
		return out
	}
	u.refused(t, 401, "M_FORBIDDEN", method, path, with("wrong"))
	return u.call(t, method, path, with("correct horse"))
}

// refusal is a request that is refused.
type refusal struct {
	who          *user
	status       int
	errcode      string
	method, path string
	body         any
}

func refuseAll(t *testing.T, all []refusal) {
	t.Helper()
	for _, r := range all {
		a, err := r.who.try(r.method, r.path, r.body)
		if err != nil {
			t.Fatalf("%s %s: %v", r.method, r.path, err)
		}
		if a.status != r.status || a.errcode() != r.errcode {
			t.Errorf("%s %s %v: %d %s, want %d %s", r.method, r.path, r.body, a.status, a.raw, r.status, r.errcode)
		}
	}
}

// until waits until something is so: what takes effect after it was answered.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("%s: not after 20 s", what)
		}
	}
}

// syncUntil syncs until an answer has something, and returns the answer.
func (u *user) syncUntil(t *testing.T, since, what string, has func(body object) bool) *answer {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); ; {
		a := u.syncOnce(t, since, "1000")
		if has(a.body) {
			return a
		}
		if time.Now().After(limit) {
			t.Fatalf("%s does not come down /sync", what)
		}
		if since != "" {
			since = a.str("next_batch")
		}
	}
}

// find finds an object of a list by a member.
func find(in any, key string, value any) object {
	for _, one := range list(in) {
		if o, ok := one.(object); ok && o[key] == value {
			return o
		}
	}
	return nil
}

func inRoom(id string) string { return "/rooms/" + url.PathEscape(id) }

func ofUser(id string) string { return "/user/" + url.PathEscape(id) }

// nobody is a user whom there is not.
const nobody = "@nobody:localhost"
