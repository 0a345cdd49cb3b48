package userapi

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/pushrules"
	"github.com/matrix-org/dendrite/userapi/api"
	"github.com/matrix-org/dendrite/userapi/storage"
)

// changes lists the changes of alice that are stored, as words.
func (w *world) changes(s *Server) (out []string) {
	w.t.Helper()
	rows, err := s.db.Outbox(w.t.Context(), alicePartition, 0, 1000)
	w.check(err)
	for _, r := range rows {
		out = append(out, r.Value)
	}
	return out
}

// TestReceipts: one of a kind, room and thread is kept, and only news is told.
func TestReceipts(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		s := w.server()
		for _, c := range []struct {
			room string
			put  api.Receipt
			full string
			news int // changes so far
			want string
		}{
			{"!r", api.Receipt{EventID: "$1", Type: "m.read", TS: 1}, "", 1, "[{$1 m.read  1}]"},
			{"!r", api.Receipt{EventID: "$1", Type: "m.read", TS: 2}, "", 1, "[{$1 m.read  1}]"},
			{"!r", api.Receipt{EventID: "$2", Type: "m.read", TS: 3}, "", 2, "[{$2 m.read  3}]"},
			{"!r", api.Receipt{EventID: "$1", Type: "m.read", ThreadID: "main", TS: 4}, "", 3, "[{$2 m.read  3} {$1 m.read main 4}]"},
			{"!r", api.Receipt{EventID: "$3", Type: "m.read.private", TS: 5}, "", 4, "[{$2 m.read  3} {$1 m.read main 4} {$3 m.read.private  5}]"},
			{"!q", api.Receipt{EventID: "$9", Type: "m.read", TS: 6}, "$8", 6, "[{$9 m.read  6}]"},
		} {
			res, err := s.putReceipts(t.Context(), &api.PutReceiptsRequest{UserID: alice, RoomID: c.room, Receipts: []api.Receipt{c.put}, FullyRead: c.full})
			w.check(err)
			stored, err := s.db.Receipts(t.Context(), alice, []string{c.room})
			w.check(err)
			if got := fmt.Sprint(stored[c.room]); len(got) != len(c.want) {
				t.Errorf("%+v: %s", c, got)
			}
			if n := len(w.changes(s)); n != c.news || res.Seq != 0 && res.Seq != int64(n) {
				t.Errorf("%+v: %d changes, at %d", c, n, res.Seq)
			}
		}
		marker, err := s.queryAccountData(t.Context(), &api.AccountDataRequest{UserID: alice, RoomIDs: []string{"!q"}, Types: []string{typeFullyRead}})
		if err != nil || string(marker.Data["!q"][typeFullyRead]) != `{"event_id":"$8"}` {
			t.Error(marker, err)
		}
		all, err := s.queryReceipts(t.Context(), &api.ReceiptsRequest{UserID: alice})
		if err != nil || len(all.Receipts) != 2 {
			t.Error(all, err)
		}
	})
}

// TestUserData: every statement does on both engines what it says.
func TestUserData(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		s := w.server()
		w.signUp(s, alice)
		ctx := t.Context()
		for _, tag := range []struct{ name, content, want string }{
			{"m.a", `{"order":1}`, `{"tags":{"m.a":{"order":1}}}`},
			{"m.b", `{}`, `{"tags":{"m.a":{"order":1},"m.b":{}}}`},
			{"m.a", "", `{"tags":{"m.b":{}}}`},
		} {
			_, err := s.putTag(ctx, &api.PutTagRequest{UserID: alice, RoomID: "!r", Tag: tag.name, Content: jsontext.Value(tag.content)})
			if tag.content == "" {
				_, err = s.putTag(ctx, &api.PutTagRequest{UserID: alice, RoomID: "!r", Tag: tag.name})
			}
			w.check(err)
			res, err := s.queryAccountData(ctx, &api.AccountDataRequest{UserID: alice, RoomIDs: []string{"!r"}})
			if err != nil || string(res.Data["!r"][typeTag]) != tag.want {
				t.Errorf("%+v: %s, %v", tag, res.Data, err)
			}
		}
		for range 2 {
			put, err := s.putFilter(ctx, &api.PutFilterRequest{UserID: alice, Filter: jsontext.Value(`{"room":{}}`)})
			w.check(err)
			got, err := s.queryFilter(ctx, &api.FilterRequest{UserID: alice, FilterID: put.FilterID})
			if err != nil || string(got.Filter) != `{"room":{}}` {
				t.Error(got, err)
			}
		}
		for field, value := range map[string]string{"displayname": `"A"`, "m.tz": `"UTC"`} {
			_, err := s.setProfile(ctx, &api.PutProfileRequest{UserID: alice, Field: field, Value: jsontext.Value(value)})
			w.check(err)
		}
		_, err := s.setProfile(ctx, &api.PutProfileRequest{UserID: alice, Field: "m.tz"})
		w.check(err)
		profile, err := s.queryProfile(ctx, &api.ProfileRequest{UserID: alice})
		if err != nil || len(profile.Fields) != 1 || profile.String("displayname") != "A" {
			t.Error(profile, err)
		}
		for _, id := range []string{"$1", "$2"} {
			_, err := s.forget(ctx, &api.ForgetRequest{UserID: alice, RoomID: "!r", EventID: id})
			w.check(err)
			res, err := s.queryForgotten(ctx, &api.ForgottenRequest{UserID: alice, RoomID: "!r"})
			if err != nil || res.EventID != id {
				t.Error(res, err)
			}
		}
		name := "mine"
		_, err = s.putDevice(ctx, &api.PutDeviceRequest{UserID: alice, DeviceID: "D", DisplayName: &name})
		w.check(err)
		if _, err := s.putDevice(ctx, &api.PutDeviceRequest{UserID: alice, DeviceID: "none"}); code(err) != "M_NOT_FOUND" {
			t.Error(err)
		}
		for uses, want := range []bool{true, true, false} { // 2 uses
			_, err := s.putRegistrationToken(ctx, &api.PutRegistrationTokenRequest{Token: "t", UsesAllowed: 2})
			w.check(err)
			res, err := s.queryRegistrationToken(ctx, &api.RegistrationTokenRequest{Token: "t"})
			if err != nil || res.Valid != want {
				t.Error(uses, res, err)
			}
			_, err = s.register(ctx, &api.RegisterRequest{UserID: fmt.Sprintf("@u%d:test", uses), InhibitLogin: true, RegistrationToken: "t"})
			if (err == nil) != want {
				t.Error(uses, err)
			}
		}
		open, err := s.issueToken(ctx, &api.IssueTokenRequest{UserID: alice, Kind: api.TokenOpenID})
		w.check(err)
		if who, err := s.queryOpenID(ctx, &api.OpenIDRequest{Token: open.Token}); err != nil || who.UserID != alice {
			t.Error(who, err)
		}
	})
}

// TestJobs: a job is one instance's for a time, a later one of its kind takes
// its place, and one that failed is tried again.
func TestJobs(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		s, other := w.server(), w.server()
		ctx := t.Context()
		w.signUp(s, alice)
		change := func() {
			_, err := s.setProfile(ctx, &api.PutProfileRequest{UserID: alice, Field: "displayname", Value: jsontext.Value(`"A"`)})
			w.check(err)
		}
		take := func(s *Server, owner string, found bool) api.Job {
			t.Helper()
			res, err := s.takeJob(ctx, &api.TakeJobRequest{Owner: owner})
			if err != nil || res.Found != found {
				t.Fatalf("%s takes %+v, %v", owner, res, err)
			}
			return res.Job
		}
		held := func(owner string, j api.Job) bool {
			res, err := s.renewJob(ctx, &api.RenewJobRequest{Owner: owner, Job: j})
			w.check(err)
			return res.Held
		}
		finish := func(owner string, j api.Job) {
			_, err := s.finishJob(ctx, &api.FinishJobRequest{Owner: owner, Job: j})
			w.check(err)
		}
		take(s, "a", false)
		change()
		first := take(s, "a", true)
		take(other, "b", false)
		if first.UserID != alice || first.Kind != api.JobProfile || !held("a", first) || held("b", first) {
			t.Errorf("%+v", first)
		}
		change()
		second := take(other, "b", true)
		if held("a", first) || second.ID == first.ID {
			t.Error("a job that was replaced goes on")
		}
		finish("a", first)
		finish("a", second)
		if !held("b", second) {
			t.Error("a job was finished by who had lost it")
		}
		finish("b", second)
		take(s, "a", false)
		_, err := s.deactivate(ctx, &api.DeactivateRequest{UserID: alice})
		w.check(err)
		leave := take(s, "a", true)
		// Its owner dies: its time runs out.
		if ok, err := s.db.RenewJob(ctx, storage.Job{UserID: leave.UserID, Kind: string(leave.Kind), ID: leave.ID}, "a", -1000); err != nil || !ok {
			t.Fatal(ok, err)
		}
		if again := take(other, "b", true); again != leave || held("a", leave) {
			t.Errorf("%+v", again)
		}
	})
}

// TestTagsTogether: what is read, changed and written at the same time on two
// instances is all there.
func TestTagsTogether(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		a, b := w.server(), w.server()
		w.signUp(a, alice)
		const each = 10
		var wait sync.WaitGroup
		for i := range 2 * each {
			s := []*Server{a, b}[i%2]
			wait.Go(func() {
				_, err := s.putTag(t.Context(), &api.PutTagRequest{UserID: alice, RoomID: "!r", Tag: fmt.Sprint("u.", i), Content: jsontext.Value(`{}`)})
				w.check(err)
			})
		}
		wait.Wait()
		data, err := a.queryAccountData(t.Context(), &api.AccountDataRequest{UserID: alice, RoomIDs: []string{"!r"}, Types: []string{typeTag}})
		if n := strings.Count(string(data.Data["!r"][typeTag]), "u."); err != nil || n != 2*each {
			t.Errorf("%d tags of %d, %v", n, 2*each, err)
		}
	})
}

// TestPastRules: the push rules that a user had stay, the last ones, and change
// nothing where nothing was changed.
func TestPastRules(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		s := w.server()
		w.signUp(s, alice)
		at := time.UnixMilli(1_700_000_000_000)
		s.now = func() time.Time { return at }
		enable := func(on bool) {
			t.Helper()
			at = at.Add(time.Second)
			_, err := s.changePushRule(t.Context(), &api.ChangePushRuleRequest{UserID: alice, Kind: "underride", Change: api.RuleEnable,
				Rule: pushrules.Rule{ID: ".m.rule.message", Enabled: on}})
			w.check(err)
		}
		past := func() []api.PastRules {
			t.Helper()
			res, err := s.queryPastRules(t.Context(), &api.PastRulesRequest{UserID: alice})
			w.check(err)
			return res.Rules
		}
		enable(true) // as it is
		if got := past(); len(got) != 0 {
			t.Errorf("nothing has changed, and %v stays", got)
		}
		off := func(p api.PastRules) bool {
			return strings.Contains(string(p.Content), `{"rule_id":".m.rule.message","default":true,"enabled":false`)
		}
		enable(false)
		enable(true)
		got := past()
		if len(got) != 2 || off(got[0]) || !off(got[1]) || got[0].UntilTS != at.Add(-time.Second).UnixMilli() || got[1].UntilTS != at.UnixMilli() {
			t.Fatalf("past rules are %v", got)
		}
		for i := range 30 {
			enable(i%2 == 1)
		}
		if got := past(); len(got) != 20 || got[19].UntilTS != at.UnixMilli() || !off(got[19]) || off(got[18]) {
			t.Errorf("of many there stay %d", len(got))
		}
		if other, err := s.queryPastRules(t.Context(), &api.PastRulesRequest{UserID: bob}); err != nil || len(other.Rules) != 0 {
			t.Errorf("another has %v, %v", other, err)
		}
	})
}
