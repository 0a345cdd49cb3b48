package userapi

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
)

func logIn(w *world, s *Server, user, password, device string) (*api.Session, error) {
	return s.login(w.t.Context(), &api.LoginRequest{UserID: user, Password: password, Device: api.NewDevice{DeviceID: device, IP: "10.9.9.9"}})
}

func (w *world) deviceIDs(s *Server, userID string) (ids string) {
	w.t.Helper()
	res, err := s.queryDevices(w.t.Context(), &api.DevicesRequest{UserID: userID})
	w.check(err)
	for _, d := range res.Devices {
		ids += d.DeviceID + " "
	}
	return ids
}

// TestAuthoriseOnce: a session in which the password was given stands for one
// request only.
func TestAuthoriseOnce(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		s := w.server()
		w.signUp(s, alice)
		step := func(session, stage, auth string) *api.AuthoriseResponse {
			t.Helper()
			res, err := s.authorise(t.Context(), &api.AuthoriseRequest{Session: session, Operation: "password", UserID: alice,
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
		if res := step(first.Session, "m.login.password", `{"identifier":{"type":"m.id.user","user":"Alice"},"password":"p"}`); !res.Done {
			t.Fatalf("the password: %+v", res)
		}
		if res := step(first.Session, "", ""); res.Done {
			t.Fatal("the session was good for a second request")
		}
	})
}

// TestTokenCache: a token is unknown as soon as its session ends.
func TestTokenCache(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		s := w.server()
		session := w.signUp(s, alice)
		verify := func() string {
			_, err := s.verifyToken(t.Context(), &api.VerifyTokenRequest{Token: session.AccessToken})
			return code(err)
		}
		if verify() != "" || verify() != "" {
			t.Fatal(verify())
		}
		_, err := s.deleteDevices(t.Context(), &api.DeleteDevicesRequest{UserID: alice, All: true})
		w.check(err)
		if verify() != "M_UNKNOWN_TOKEN" {
			t.Fatal(verify())
		}
	})
}

// TestTokenProfile: a profile comes with a token that had to be looked for, as it
// is then, and never from memory.
func TestTokenProfile(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		s, other := w.server(), w.server()
		session := w.signUp(s, alice)
		profile := func() string {
			res, err := s.verifyToken(t.Context(), &api.VerifyTokenRequest{Token: session.AccessToken})
			if err != nil {
				t.Fatal(err)
			}
			if res.Device.Profile == nil {
				return "not told"
			}
			return res.Device.Profile.DisplayName + "," + res.Device.Profile.AvatarURL
		}
		for _, step := range []struct {
			field, value, want string // "" for no value
		}{
			{"displayname", `"A\u0041 \"x\""`, `AA "x",`},
			{"avatar_url", `"mxc://a/b"`, `AA "x",mxc://a/b`},
			{"m.other", `"x"`, `AA "x",mxc://a/b`},
			{"displayname", ``, `,mxc://a/b`},
		} {
			var value jsontext.Value
			if step.value != "" {
				value = jsontext.Value(step.value)
			}
			_, err := other.setProfile(t.Context(), &api.PutProfileRequest{UserID: alice, Field: step.field, Value: value})
			w.check(err)
			s.tokens.forget(alice)
			if got := profile(); got != step.want {
				t.Errorf("%s %s: %s, want %s", step.field, step.value, got, step.want)
			}
			if got := profile(); got != "not told" {
				t.Errorf("from memory: %s", got)
			}
		}
	})
}

// TestLoginRace: a login that began before the account's sessions were ended
// makes none.
func TestLoginRace(t *testing.T) {
	for _, c := range []struct {
		name, want string
		meanwhile  func(*world, *Server) error
	}{
		{"password", "M_FORBIDDEN", func(w *world, s *Server) error {
			_, err := s.setPassword(w.t.Context(), &api.SetPasswordRequest{UserID: alice, Password: "new", LogoutOthers: true})
			return err
		}},
		{"deactivation", "M_USER_DEACTIVATED", func(w *world, s *Server) error {
			_, err := s.deactivate(w.t.Context(), &api.DeactivateRequest{UserID: alice})
			return err
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			engines(t, func(t *testing.T, w *world) {
				s, other := w.server(), w.server()
				w.signUp(s, alice)
				// The clock is asked first when the account has been read.
				happened := false
				s.now = func() time.Time {
					if !happened {
						happened = true
						w.check(c.meanwhile(w, other))
					}
					return w.now()
				}
				if _, err := logIn(w, s, alice, "p", "NEW"); code(err) != c.want {
					t.Errorf("the login: %v", err)
				}
				if ids := w.deviceIDs(other, alice); ids != "" {
					t.Errorf("devices: %s", ids)
				}
			})
		})
	}
}

// TestLoginTokens: a login token is good once, and not after its user's
// sessions were ended.
func TestLoginTokens(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		s := w.server()
		w.signUp(s, alice)
		issue := func() *api.LoginRequest {
			res, err := s.issueToken(t.Context(), &api.IssueTokenRequest{UserID: alice, Kind: api.TokenLogin})
			w.check(err)
			return &api.LoginRequest{Token: res.Token}
		}
		first, second := issue(), issue()
		for _, want := range []string{"", "M_FORBIDDEN"} {
			if _, err := s.login(t.Context(), first); code(err) != want {
				t.Errorf("%v, want %s", err, want)
			}
		}
		_, err := s.deleteDevices(t.Context(), &api.DeleteDevicesRequest{UserID: alice, All: true})
		w.check(err)
		if _, err := s.login(t.Context(), second); code(err) != "M_FORBIDDEN" {
			t.Error(err)
		}
		late := issue()
		w.advance(loginTokenLifetime + time.Second)
		if _, err := s.login(t.Context(), late); code(err) != "M_FORBIDDEN" {
			t.Error(err)
		}
	})
}

// TestDeviceLimit: who has all devices that are allowed may log in to one of
// them, which keeps its name.
func TestDeviceLimit(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		w.deps.Config.MaxDevices = 2
		s := w.server()
		w.signUp(s, alice)
		for _, c := range []struct{ device, want string }{{"E", ""}, {"F", "M_USER_LIMIT_EXCEEDED"}, {"", "M_USER_LIMIT_EXCEEDED"}, {"E", ""}, {"D", ""}} {
			if _, err := logIn(w, s, alice, "p", c.device); code(err) != c.want {
				t.Errorf("device %q: %v, want %q", c.device, err, c.want)
			}
		}
		if ids := w.deviceIDs(s, alice); ids != "D E " {
			t.Error(ids)
		}
	})
}

// TestWrongPasswords: an account bears some, in a time; who is logged in, or
// was at that address, is not kept out by strangers.
func TestWrongPasswords(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		w.deps.WrongPasswords = config.Rate{PerSecond: 0.1, Burst: 3}
		s := w.server()
		session := w.signUp(s, alice)
		w.signUp(s, "@bob:test")
		from := func(user, password, ip, want string) {
			t.Helper()
			_, err := s.login(t.Context(), &api.LoginRequest{UserID: user, Password: password, Device: api.NewDevice{DeviceID: "D", IP: ip}})
			if code(err) != want {
				t.Errorf("%s at %s: %v, want %q", user, ip, err, want)
			}
			if known := matrixerror.From(err); want == "M_LIMIT_EXCEEDED" && (known.Status != 429 || known.RetryAfter <= 0 || known.RetryAfter > 10*time.Second) {
				t.Errorf("%+v", known)
			}
		}
		for range 5 {
			from(alice, "p", "10.0.0.1", "") // what is right counts as nothing
		}
		for _, user := range []string{alice, "@nobody:test"} {
			for _, ip := range []string{"1.1.1.1", "2.2.2.2", "3.3.3.3"} {
				from(user, "wrong", ip, "M_FORBIDDEN")
			}
			from(user, "wrong", "4.4.4.4", "M_LIMIT_EXCEEDED")
		}
		from(alice, "p", "4.4.4.4", "M_LIMIT_EXCEEDED")
		from(alice, "p", "10.0.0.1", "")
		from("@bob:test", "p", "4.4.4.4", "")
		if _, err := s.verifyToken(t.Context(), &api.VerifyTokenRequest{Token: session.AccessToken}); code(err) != "M_UNKNOWN_TOKEN" {
			t.Error("logging in to a device leaves its old token good")
		}
		again, err := s.login(t.Context(), &api.LoginRequest{UserID: alice, Password: "p", Device: api.NewDevice{DeviceID: "D", IP: "10.0.0.1"}})
		w.check(err)
		if _, err := s.verifyToken(t.Context(), &api.VerifyTokenRequest{Token: again.AccessToken}); err != nil {
			t.Error(err)
		}
		// Interactive authentication has attempts of its own.
		for i, want := range []string{"M_FORBIDDEN", "M_FORBIDDEN", "M_FORBIDDEN", "M_LIMIT_EXCEEDED"} {
			res, err := s.authorise(t.Context(), &api.AuthoriseRequest{Operation: "o", UserID: alice, Flows: [][]string{{"m.login.password"}},
				Stage: "m.login.password", Auth: jsontext.Value(`{"password":"wrong"}`)})
			got := code(err)
			if err == nil {
				got = res.ErrCode
			}
			if got != want {
				t.Errorf("attempt %d: %s", i, got)
			}
		}
		w.advance(11 * time.Second) // one attempt comes back
		from(alice, "p", "4.4.4.4", "")
	})
}

// TestFailuresBounded: buckets that are full again are forgotten, and of too many
// the fullest.
func TestFailuresBounded(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		w.deps.WrongPasswords = config.Rate{PerSecond: 1, Burst: 2}
		s := w.server()
		for i := range 10 {
			w.check(s.failures.take(t.Context(), fmt.Sprint(i), w.now()))
			w.advance(100 * time.Millisecond)
		}
		left := func() (n int) {
			w.check(s.db.Read(t.Context(), func(tx *sqldb.Tx) error {
				return tx.QueryRow(t.Context(), "SELECT count(*) FROM attempts").Scan(&n)
			}))
			return n
		}
		w.check(s.failures.sweep(t.Context(), w.now()))
		if left() != 9 {
			t.Errorf("%d buckets, when the first is full", left())
		}
		w.check(s.db.DropAttempts(t.Context(), w.now().UnixMilli(), 4))
		if left() != 4 {
			t.Errorf("%d buckets, of at most 4", left())
		}
		w.advance(time.Minute)
		w.check(s.sweep(t.Context()))
		if left() != 0 {
			t.Errorf("%d buckets, when all are full", left())
		}
	})
}

// TestLoginCase: a user name is found in whatever case it is typed, and an
// account of an older grammar by its very name.
func TestLoginCase(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		s := w.server()
		for _, id := range []string{alice, "@Historical:test", "@bob:test", "@Bob:test", "@ǆ:test"} {
			w.signUp(s, id)
		}
		for _, c := range []struct{ typed, want string }{
			{alice, alice}, {"@ALICE:test", alice}, {"@Historical:test", "@Historical:test"}, {"@historical:test", ""},
			{"@Bob:test", "@Bob:test"}, {"@bob:test", "@bob:test"}, {"@BOB:test", "@bob:test"}, {"@Ǆ:test", ""}, {"@alice:TEST", ""},
		} {
			session, err := logIn(w, s, c.typed, "p", "")
			if c.want == "" && code(err) != "M_FORBIDDEN" || c.want != "" && (err != nil || session.UserID != c.want) {
				t.Errorf("%s: %+v, %v", c.typed, session, err)
			}
		}
	})
}

// TestRefresh: tokens are replaced, the old ones end when the new ones are
// used, an answer that was lost locks nobody out, and nothing outlives a logout.
func TestRefresh(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		s := w.server()
		w.signUp(s, alice)
		session, err := s.login(t.Context(), &api.LoginRequest{UserID: alice, Password: "p", Device: api.NewDevice{DeviceID: "R", Refresh: true}})
		w.check(err)
		refresh := func(token, want string) *api.Session {
			t.Helper()
			next, err := s.refresh(t.Context(), &api.RefreshRequest{Token: token})
			if code(err) != want {
				t.Errorf("refresh: %v, want %q", err, want)
			}
			return next
		}
		verify := func(token, want string, soft bool) {
			t.Helper()
			_, err := s.verifyToken(t.Context(), &api.VerifyTokenRequest{Token: token})
			if code(err) != want || err != nil && matrixerror.From(err).SoftLogout != soft {
				t.Errorf("verify: %v, want %q", err, want)
			}
		}
		if session.ExpiresInMS != time.Hour.Milliseconds() {
			t.Error(session.ExpiresInMS)
		}
		lost := refresh(session.RefreshToken, "")
		verify(session.AccessToken, "", false) // the new one was not used
		next := refresh(session.RefreshToken, "")
		verify(lost.AccessToken, "M_UNKNOWN_TOKEN", false)
		verify(next.AccessToken, "", false)
		verify(session.AccessToken, "M_UNKNOWN_TOKEN", false)
		refresh(session.RefreshToken, "M_UNKNOWN_TOKEN")
		refresh(lost.RefreshToken, "M_UNKNOWN_TOKEN")
		w.advance(time.Hour)
		verify(next.AccessToken, "M_UNKNOWN_TOKEN", true)
		last := refresh(next.RefreshToken, "")
		again := refresh(last.RefreshToken, "") // confirms last by its use
		refresh(next.RefreshToken, "M_UNKNOWN_TOKEN")
		_, err = s.deleteDevices(t.Context(), &api.DeleteDevicesRequest{UserID: alice, DeviceIDs: []string{"R", "none"}})
		w.check(err)
		refresh(again.RefreshToken, "M_UNKNOWN_TOKEN")
		verify(again.AccessToken, "M_UNKNOWN_TOKEN", false)
	})
}

// TestGuestUpgrade: a guest becomes a user with the guest's own token only.
func TestGuestUpgrade(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		s := w.server()
		guest, err := s.register(t.Context(), &api.RegisterRequest{UserID: "@g:test", Guest: true})
		w.check(err)
		other := w.signUp(s, alice)
		isGuest := func() bool {
			res, err := s.verifyToken(t.Context(), &api.VerifyTokenRequest{Token: guest.AccessToken})
			w.check(err)
			list, err := s.queryGuests(t.Context(), &api.GuestsRequest{UserIDs: []string{alice, "@g:test", "@nobody:test"}})
			w.check(err)
			if res.Device.IsGuest != slices.Equal(list.UserIDs, []string{"@g:test"}) {
				t.Errorf("guests are %v", list.UserIDs)
			}
			return res.Device.IsGuest
		}
		if !isGuest() {
			t.Error("not a guest")
		}
		for _, c := range []struct{ user, token, want string }{
			{"@g:test", "", "M_USER_IN_USE"}, {"@g:test", other.AccessToken, "M_FORBIDDEN"}, {"@new:test", guest.AccessToken, "M_FORBIDDEN"},
			{alice, other.AccessToken, "M_USER_IN_USE"}, {"@g:test", guest.AccessToken, ""}, {"@g:test", guest.AccessToken, "M_USER_IN_USE"},
		} {
			if _, err := s.register(t.Context(), &api.RegisterRequest{UserID: c.user, Password: "p", GuestToken: c.token}); code(err) != c.want {
				t.Errorf("%+v: %v", c, err)
			}
		}
		if isGuest() {
			t.Error("still a guest")
		}
		if _, err := logIn(w, s, "@g:test", "p", "X"); err != nil {
			t.Error(err)
		}
	})
}

// TestNameAsTyped: who logs in may type the name in any case; an account of an
// older grammar, with capitals, is found by its very name alone.
func TestNameAsTyped(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		s := w.server()
		for user, password := range map[string]string{alice: "p", "@Carol:test": "C", "@carol:test": "c"} {
			_, err := s.register(t.Context(), &api.RegisterRequest{UserID: user, Password: password, InhibitLogin: true})
			w.check(err)
		}
		for _, c := range []struct{ typed, password, want string }{
			{alice, "p", alice}, {"@ALICE:test", "p", alice}, {"@Alice:test", "p", alice}, {"@alice:TEST", "p", ""}, {"@\u00c5lice:test", "p", ""},
			{"@Carol:test", "C", "@Carol:test"}, {"@carol:test", "c", "@carol:test"}, {"@CAROL:test", "c", "@carol:test"}, {"@CAROL:test", "C", ""},
		} {
			session, err := s.login(t.Context(), &api.LoginRequest{UserID: c.typed, Password: c.password})
			switch {
			case c.want == "" && code(err) != "M_FORBIDDEN", c.want != "" && (err != nil || session.UserID != c.want):
				t.Errorf("%s: %+v, %v", c.typed, session, err)
			}
		}
	})
}
