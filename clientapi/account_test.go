package clientapi

import (
	"context"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/userapi"
	userapis "github.com/matrix-org/dendrite/userapi/api"
)

// tokens asks the user-api whose token it is.
type tokens struct{ caller rpc.Caller }

func (t tokens) Authenticate(ctx context.Context, token string) (*httpapi.Device, error) {
	res, err := userapis.VerifyToken.Call(ctx, t.caller, &userapis.VerifyTokenRequest{Token: token})
	if err != nil {
		return nil, err
	}
	return &res.Device, nil
}

// newAccountWorld is the edge with the real user-api behind it.
func newAccountWorld(t *testing.T, registration config.Registration) *world {
	t.Helper()
	w := &world{t: t, caller: rpc.NewServer(), log: openLog(t)}
	o := sqldbtest.Options(t, filepath.Join(t.TempDir(), "users.db"))
	o.Durable = true
	db, err := sqldb.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	users, err := userapi.New(t.Context(), userapi.Deps{ServerName: "test", Log: w.log, DB: db, Caller: w.caller, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	users.Register(w.caller)
	w.server, err = New(t.Context(), Deps{Registration: registration, ServerName: "test", Keys: testServer(t).keys, Log: w.log, Caller: w.caller, Partitions: 2, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	w.edge, err = httpapi.NewRouter(httpapi.Options{Authenticator: tokens{w.caller}, Logger: quiet()}, w.server.Endpoints())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- users.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		for _, err := range []error{<-done, w.log.Close(), db.Close()} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	return w
}

func (w *world) signUp(name string) string {
	w.t.Helper()
	a := w.must("", http.MethodPost, "/register", `{"auth":{"type":"m.login.dummy"},"username":"`+name+`","password":"secret","device_id":"D"}`)
	return a.body["access_token"].(string)
}

func TestAccounts(t *testing.T) { sqldbtest.Each(t, testAccounts) }

func testAccounts(t *testing.T) {
	w := newAccountWorld(t, config.Registration{Open: true})
	first := w.do("", "POST", "/register", `{"username":"alice","password":"secret"}`)
	if first.status != 401 || first.body["session"] == "" || first.body["flows"] == nil {
		t.Fatal(first.status, first.raw)
	}
	alice := w.signUp("alice")
	const own = "/user/@alice:test"
	for _, c := range []struct{ want, user, method, path, body string }{
		{"400 M_USER_IN_USE", "", "POST", "/register", `{"username":"alice","password":"x"}`},
		{"400 M_INVALID_USERNAME", "", "POST", "/register", `{"username":"Älice","password":"x"}`},
		{"403 M_GUEST_ACCESS_FORBIDDEN", "", "POST", "/register?kind=guest", `{}`},
		{"400 M_NOT_JSON", "", "POST", "/register", `{`},
		{"403 M_FORBIDDEN", "", "POST", "/login", `{"type":"m.login.password","user":"alice","password":"x"}`},
		{"400 M_UNKNOWN", "", "POST", "/login", `{"type":"m.login.magic"}`},
		{"200", "", "POST", "/login", `{"type":"m.login.password","identifier":{"type":"m.id.user","user":"alice"},"password":"secret"}`},
		{"200", "", "POST", "/login", `{"type":"m.login.password","identifier":{"type":"m.id.user","user":"ALICE"},"password":"secret"}`},
		{"200", "", "POST", "/login", `{"type":"m.login.password","user":"@Alice:test","password":"secret"}`},
		{"200", alice, "GET", "/account/whoami", ``},
		{"401 M_UNKNOWN_TOKEN", "nonsense", "GET", "/account/whoami", ``},
		{"200", alice, "GET", "/devices/D", ``},
		{"404 M_NOT_FOUND", alice, "GET", "/devices/E", ``},
		{"200", alice, "PUT", "/devices/D", `{"display_name":"mine"}`},
		{"401", alice, "POST", "/delete_devices", `{"devices":["D"]}`},
		{"200", "", "GET", "/profile/@alice:test", ``},
		{"404 M_NOT_FOUND", "", "GET", "/profile/@bob:test", ``},
		{"200", alice, "PUT", "/profile/@alice:test/displayname", `{"displayname":"A"}`},
		{"403 M_FORBIDDEN", alice, "PUT", "/profile/@bob:test/displayname", `{"displayname":"A"}`},
		{"200", alice, "PUT", own + "/account_data/m.direct", `{"a":1}`},
		{"200", alice, "GET", own + "/account_data/m.direct", ``},
		{"404 M_NOT_FOUND", alice, "GET", own + "/account_data/none", ``},
		{"400 M_BAD_JSON", alice, "PUT", own + "/account_data/x", `[]`},
		{"200", alice, "PUT", own + "/rooms/!r:test/tags/m.favourite", `{"order":0.5}`},
		{"400 M_BAD_JSON", alice, "PUT", own + "/rooms/!r:test/tags/m.favourite", `{"order":null}`},
		{"200", alice, "GET", own + "/rooms/!r:test/tags", ``},
		{"200", alice, "POST", own + "/filter", `{"room":{"timeline":{"limit":5}}}`},
		{"400 M_BAD_JSON", alice, "POST", own + "/filter", `{"room":5}`},
		{"400 M_BAD_JSON", alice, "POST", own + "/filter", `{"room":{"timeline":{"limit":-1}}}`},
		{"400 M_BAD_JSON", alice, "POST", own + "/filter", `{"room":{"timeline":{"limit":1.5}}}`},
		{"400 M_BAD_JSON", alice, "POST", own + "/filter", `{"room":{"state":{"lazy_load_members":"yes"}}}`},
		{"404 M_NOT_FOUND", alice, "GET", own + "/filter/none", ``},
		{"200", alice, "GET", "/pushrules/", ``},
		{"200", alice, "GET", "/pushrules/global/override/.m.rule.master", ``},
		{"200", alice, "PUT", "/pushrules/global/content/x", `{"pattern":"cake","actions":["notify"]}`},
		{"200", alice, "PUT", "/pushrules/global/content/x/enabled", `{"enabled":false}`},
		{"200", alice, "DELETE", "/pushrules/global/content/x", ``},
		{"404 M_NOT_FOUND", alice, "DELETE", "/pushrules/global/content/x", ``},
		{"200", alice, "PUT", "/presence/@alice:test/status", `{"presence":"online","status_msg":"hi"}`},
		{"400 M_BAD_JSON", alice, "PUT", "/presence/@alice:test/status", `{"presence":"asleep"}`},
		{"200", alice, "GET", "/presence/@alice:test/status", ``},
		{"200", alice, "POST", own + "/openid/request_token", `{}`},
		{"200", alice, "POST", "/account/password", `{"new_password":"n","auth":{"type":"m.login.password","password":"secret"}}`},
		{"200", "", "POST", "/login", `{"type":"m.login.password","user":"@alice:test","password":"n"}`},
		{"200", alice, "POST", "/logout", `{}`},
		{"401 M_UNKNOWN_TOKEN", alice, "GET", "/account/whoami", ``},
	} {
		w.expect(c.want, c.user, c.method, c.path, c.body)
	}
}

func TestRefresh(t *testing.T) { sqldbtest.Each(t, testRefresh) }

func testRefresh(t *testing.T) {
	w := newAccountWorld(t, config.Registration{Open: true})
	w.signUp("a")
	session := w.must("", "POST", "/login", `{"type":"m.login.password","user":"a","password":"secret","refresh_token":true}`)
	body := `{"refresh_token":"` + session.body["refresh_token"].(string) + `"}`
	w.must("", "POST", "/refresh", body)
	next := w.must("", "POST", "/refresh", body) // the first answer was lost
	w.must(next.body["access_token"].(string), "GET", "/account/whoami", "")
	w.expect("401 M_UNKNOWN_TOKEN", session.body["access_token"].(string), "GET", "/account/whoami", "")
	w.expect("401 M_UNKNOWN_TOKEN", "", "POST", "/refresh", body)
}

func TestClosedRegistration(t *testing.T) { sqldbtest.Each(t, testClosedRegistration) }

func testClosedRegistration(t *testing.T) {
	w := newAccountWorld(t, config.Registration{SharedSecret: "s"})
	w.expect("403 M_FORBIDDEN", "", "POST", "/register", `{"username":"a","password":"b"}`)
	nonce := w.server.newNonce(time.Now())
	if !w.server.nonceValid(nonce, time.Now()) || w.server.nonceValid(nonce+"00", time.Now()) {
		t.Error("nonces")
	}
}

func TestRegistrationLimit(t *testing.T) { sqldbtest.Each(t, testRegistrationLimit) }

// testRegistrationLimit: asking what authentication there is costs nothing, as often
// as it is done; accounts, names and tokens do.
func testRegistrationLimit(t *testing.T) {
	w := newAccountWorld(t, config.Registration{Open: true})
	limits := httpapi.NewLimiter(map[httpapi.Limit]httpapi.Rate{httpapi.LimitRegistration: {PerSecond: 1e-6, Burst: 2}})
	var err error
	if w.edge, err = httpapi.NewRouter(httpapi.Options{Authenticator: tokens{w.caller}, Logger: quiet(), Limits: limits}, w.server.Endpoints()); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		w.expect("401", "", "POST", "/register", `{}`)
		w.expect("401", "", "POST", "/register", `{"username":"","auth":{"session":"s"}}`)
	}
	w.signUp("alice")
	w.expect("401", "", "POST", "/register", `{"username":"bob","password":"x"}`)
	for _, body := range []string{`{"username":"bob","password":"x"}`, `{"username":"alice"}`, `{"auth":{"type":"m.login.dummy"}}`} {
		w.expect("429 M_LIMIT_EXCEEDED", "", "POST", "/register", body)
	}
	w.expect("401", "", "POST", "/register", `{}`)
}
