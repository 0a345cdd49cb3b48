package clientapi

import (
	"fmt"
	"strings"
	"testing"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	userapis "github.com/matrix-org/dendrite/userapi/api"
)

// found are the localparts of the users that a search finds, with "…" where there
// are more.
func (w *fullWorld) found(user, term, rest string) string {
	w.t.Helper()
	a := w.must(user, "POST", "/user_directory/search", fmt.Sprintf(`{"search_term":%q%s}`, term, rest))
	var names []string
	for _, r := range a.body["results"].([]any) {
		name, _, _ := strings.Cut(r.(map[string]any)["user_id"].(string)[1:], ":")
		names = append(names, name)
	}
	if a.body["limited"] == true {
		names = append(names, "…")
	}
	return strings.Join(names, " ")
}

func TestUserDirectory(t *testing.T) { sqldbtest.Each(t, testUserDirectory) }

func testUserDirectory(t *testing.T) {
	w := newFullWorld(t, Deps{})
	w.register(true, "root")
	w.register(false, "alice", "bob", "zoe", "jens_maria", "hidden", "taro")
	name := func(user, name string) {
		t.Helper()
		w.must(user, "PUT", "/profile/@"+user+":test/displayname", fmt.Sprintf(`{"displayname":%q}`, name))
	}
	name("zoe", "Zoë ÅNGSTRÖM")
	name("bob", "Robert (Bob) Straße")
	name("taro", "山田太郎")
	name("hidden", "Bob the Hidden")
	private := w.create("alice", `{"preset":"private_chat","invite":["@zoe:test"]}`)
	w.must("zoe", "POST", "/rooms/"+private+"/join", `{}`)
	open := w.create("bob", `{"preset":"public_chat"}`)
	w.must("taro", "POST", "/rooms/"+open+"/join", `{}`)
	w.must("jens_maria", "POST", "/rooms/"+open+"/join", `{}`)
	w.create("hidden", `{}`)

	for _, tt := range []struct{ user, term, want string }{
		{"alice", "zoe", "zoe"}, {"alice", "ZOÉ", "zoe"}, {"alice", "ångs zo", "zoe"}, {"alice", "angstrom", "zoe"},
		{"alice", "ström", ""},          // not the beginning of a word
		{"bob", "zoe", ""},              // shares no room
		{"alice", "bob", "bob"},         // the other one is in no room of hers
		{"alice", "strasse", "bob"},     // ß
		{"alice", "@bob", "bob"},        // by ID
		{"alice", "@bob:te", "bob"},     // of this server
		{"alice", "@bob:elsewhere", ""}, // of another
		{"alice", "太郎", "taro"}, {"alice", "山", "taro"}, {"alice", "田太", "taro"},
		{"alice", "mar", "jens_maria"}, {"alice", "@jens_m", "jens_maria"},
		{"alice", "", ""}, {"alice", "!?", ""}, {"alice", "robert nobody", ""}, {"alice", "ROBERT bo", "bob"},
		{"hidden", "hidden", "hidden"},
	} {
		if got := w.found(tt.user, tt.term, ""); got != tt.want {
			t.Errorf("%s finds with %q: %q, want %q", tt.user, tt.term, got, tt.want)
		}
	}
	a := w.must("alice", "POST", "/user_directory/search", `{"search_term":"zoe"}`)
	if a.raw != `{"results":[{"user_id":"@zoe:test","display_name":"Zoë ÅNGSTRÖM"}],"limited":false}` {
		t.Error(a.raw)
	}
	name("zoe", "Other")
	w.must("alice", "PUT", "/user/@alice:test/account_data/m.ignored_user_list", `{"ignored_users":{"@taro:test":{}}}`)
	w.must("root", "PUT", "/_matrix/client/v1/admin/lock/@jens_maria:test", `{"locked":true}`)
	w.restart()
	for term, want := range map[string]string{"angstrom": "", "other": "zoe", "taro": "", "jens": ""} {
		if got := w.found("alice", term, ""); got != want {
			t.Errorf("after the changes, alice finds with %q: %q, want %q", term, got, want)
		}
	}
	w.must("root", "PUT", "/_matrix/client/v1/admin/lock/@jens_maria:test", `{"locked":false}`)
	if got := w.found("alice", "jens", ""); got != "jens_maria" {
		t.Errorf("after the lock, alice finds %q", got)
	}
	w.must("zoe", "POST", "/account/deactivate", `{"auth":{"type":"m.login.password","identifier":{"type":"m.id.user","user":"zoe"},"password":"secret"}}`)
	if got := w.found("alice", "zoe", ""); got != "" {
		t.Errorf("somebody who is gone is found: %q", got)
	}
}

func TestUserDirectoryPages(t *testing.T) { sqldbtest.Each(t, testUserDirectoryPages) }

func testUserDirectoryPages(t *testing.T) {
	w := newFullWorld(t, Deps{Config: config.ClientAPI{SearchAllUsers: true}})
	w.register(false, "kim", "kimberly", "kimono", "tim")
	if got := w.found("tim", "kim", ""); got != "kim kimberly kimono" {
		t.Error(got)
	}
	if got := w.found("tim", "kim", `,"limit":2`); got != "kim kimberly …" {
		t.Error(got)
	}
	if got := w.found("tim", "kim", `,"limit":3`); got != "kim kimberly kimono" {
		t.Error(got)
	}
	page, err := userapis.SearchUsers.Call(t.Context(), w.caller, &userapis.SearchUsersRequest{Term: "kim", Limit: 1})
	if err != nil || len(page.Users) != 1 || page.Users[0].UserID != "@kim:test" {
		t.Fatal(page, err)
	}
	page, err = userapis.SearchUsers.Call(t.Context(), w.caller, &userapis.SearchUsersRequest{Term: "kim", Limit: 9, After: page.Users[0].UserPlace})
	if err != nil || len(page.Users) != 2 || page.Users[0].UserID != "@kimberly:test" || page.Users[0].Rank != 1 {
		t.Fatal(page, err)
	}
	for want, body := range map[string]string{
		"400 M_MISSING_PARAM": `{}`, "400 M_BAD_JSON": `{"search_term":7}`, "400 M_INVALID_PARAM": `{"search_term":"a","limit":0}`, "400 M_NOT_JSON": ``,
	} {
		w.expect(want, "tim", "POST", "/user_directory/search", body)
	}
	w.expect("400 M_INVALID_PARAM", "tim", "POST", "/user_directory/search", `{"search_term":"`+strings.Repeat("x", maxSearchTerm+1)+`"}`)
	w.expect("401 M_MISSING_TOKEN", "", "POST", "/user_directory/search", `{"search_term":"kim"}`)

	// Accounts of before there were words get them at the next start.
	if err := w.userDB.Write(t.Context(), func(tx *sqldb.Tx) error {
		_, err := tx.Exec(t.Context(), "DELETE FROM user_words")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if got := w.found("tim", "kim", ""); got != "" {
		t.Errorf("without words: %q", got)
	}
	w.restart()
	for w.found("tim", "kim", "") != "kim kimberly kimono" {
		if t.Context().Err() != nil {
			t.Fatal("words are not made")
		}
	}
}
