package clientapi

import (
	"testing"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
)

// TestGuestAccounts: who has no account gets one that may do what guests may, until it
// is made a user's.
func TestGuestAccounts(t *testing.T) { sqldbtest.Each(t, testGuestAccounts) }

func testGuestAccounts(t *testing.T) {
	w := newAccountWorld(t, config.Registration{Open: true, GuestsOpen: true})
	guest := w.must("", "POST", "/register?kind=guest", `{"username":"root","password":"x","device_id":"MINE"}`)
	token, id := guest.body["access_token"].(string), guest.body["user_id"].(string)
	if id == "@root:test" || guest.body["device_id"] == "MINE" {
		t.Error(guest.raw)
	}
	const forbidden = "403 M_GUEST_ACCESS_FORBIDDEN"
	for _, c := range []struct{ want, method, path, body string }{
		{"200", "GET", "/account/whoami", ""},
		{"200", "GET", "/devices", ""},
		{"200", "PUT", "/profile/" + id + "/displayname", `{"displayname":"G"}`},
		{"200", "DELETE", "/profile/" + id + "/displayname", ""},
		{forbidden, "PUT", "/profile/" + id + "/avatar_url", `{"avatar_url":"mxc://a/b"}`},
		{forbidden, "POST", "/account/password", `{"new_password":"x"}`},
		{forbidden, "GET", "/pushrules/", ""},
		{forbidden, "PUT", "/user/" + id + "/account_data/x", `{}`},
		{forbidden, "PUT", "/presence/" + id + "/status", `{"presence":"online"}`},
		{forbidden, "POST", "/createRoom", `{}`},
	} {
		w.expect(c.want, token, c.method, c.path, c.body)
	}
	name := id[1 : len(id)-len(":test")]
	user := w.must("", "POST", "/register", `{"auth":{"type":"m.login.dummy"},"username":"`+name+`","password":"p","guest_access_token":"`+token+`"}`)
	w.expect("200", user.body["access_token"].(string), "GET", "/pushrules/", "")
}

// TestGuestEndpoints: of what belongs to accounts guests have what the spec lists.
func TestGuestEndpoints(t *testing.T) {
	allowed := map[string]bool{
		"GET /account/whoami": true, "GET /devices": true, "GET /devices/{deviceId}": true, "PUT /devices/{deviceId}": true,
		"PUT /profile/{userId}/{keyName}": true, "DELETE /profile/{userId}/{keyName}": true,
		"POST /keys/upload": true, "POST /keys/query": true, "POST /keys/claim": true, "PUT /sendToDevice/{eventType}/{txnId}": true,
	}
	for _, e := range testServer(t).accountEndpoints() {
		name := e.Method + " " + e.Path[min(len(v3), len(e.Path)):]
		if (e.Access == httpapi.Guest) != allowed[name] {
			t.Errorf("%s", name)
		}
	}
}
