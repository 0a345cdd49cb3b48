package userapi

import (
	"path/filepath"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
)

// TestAuthoriseOnce: a session in which the password was given stands for one
// request only.
func TestAuthoriseOnce(t *testing.T) {
	db, err := sqldb.Open(t.Context(), sqldb.Options{URL: "file:" + filepath.Join(t.TempDir(), "users.db"), Durable: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	s := newServer(t, openLog(t, "log.db"), db)
	if _, err := s.register(t.Context(), &api.RegisterRequest{UserID: "@a:test", Password: "p", InhibitLogin: true}); err != nil {
		t.Fatal(err)
	}
	step := func(session, stage, auth string) *api.AuthoriseResponse {
		t.Helper()
		res, err := s.authorise(t.Context(), &api.AuthoriseRequest{Session: session, Operation: "password", UserID: "@a:test",
			Flows: [][]string{{"m.login.password"}}, Stage: stage, Auth: jsontext.Value(auth)})
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	first := step("", "", "")
	if first.Done {
		t.Fatal("nothing was asked for")
	}
	if res := step(first.Session, "m.login.password", `{"password":"wrong"}`); res.Done || res.ErrCode != "M_FORBIDDEN" {
		t.Fatalf("a wrong password: %+v", res)
	}
	if res := step(first.Session, "m.login.password", `{"password":"p"}`); !res.Done {
		t.Fatalf("the password: %+v", res)
	}
	if res := step(first.Session, "", ""); res.Done {
		t.Fatal("the session was good for a second request")
	}
}
