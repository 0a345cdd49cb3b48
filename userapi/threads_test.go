package userapi

import (
	"fmt"
	"sync"
	"testing"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/userapi/api"
)

// subscribe has alice say something of a thread.
func (w *world) subscribe(s *Server, thread string, is api.ThreadState, at int64) (*api.WriteResponse, error) {
	return s.putThreadSubscription(w.t.Context(), &api.PutThreadSubscriptionRequest{UserID: alice, RoomID: "!r", ThreadID: thread, ThreadState: is, At: at})
}

// threads tells what alice has said of threads, last first.
func (w *world) threads(s *Server, r api.ThreadSubscriptionsRequest) (out string) {
	w.t.Helper()
	r.UserID = alice
	res, err := s.queryThreadSubscriptions(w.t.Context(), &r)
	w.check(err)
	for _, t := range res.Subscriptions {
		out += fmt.Sprintf("%s %v %v %d;", t.ThreadID, t.Subscribed, t.Automatic, len(t.Past))
	}
	return out
}

// TestThreadSubscriptions: what was chosen stays chosen, what was ended does not
// begin again for what was there by then, and each change is told once.
// spec: MSC4306 §new-endpoints
func TestThreadSubscriptions(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		s := w.server()
		w.signUp(s, alice)
		before := len(w.changes(s))
		chosen, automatic, ended := api.ThreadState{Subscribed: true}, api.ThreadState{Subscribed: true, Automatic: true}, api.ThreadState{}
		told := 0
		for _, c := range []struct {
			what string
			is   api.ThreadState
			at   int64
			code string
			told bool
			want string
		}{
			{"the end of nothing", ended, 3, "", false, ""},
			{"of itself", automatic, 5, "", true, "$t true true 1;"},
			{"again", automatic, 6, "", false, "$t true true 1;"},
			{"chosen", chosen, 0, "", true, "$t true false 1;"},
			{"of itself where it is chosen", automatic, 7, "", false, "$t true false 1;"},
			{"ended", ended, 10, "", true, "$t false false 2;"},
			{"ended again", ended, 12, "", false, "$t false false 2;"},
			{"for what was there", automatic, 10, "IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION", false, "$t false false 2;"},
			{"for what is new", automatic, 11, "", true, "$t true true 3;"},
			{"ended once more", ended, 20, "", true, "$t false false 4;"},
			{"chosen again", chosen, 0, "", true, "$t true false 5;"},
		} {
			res, err := w.subscribe(s, "$t", c.is, c.at)
			if c.code != "" && !matrixerror.Is(err, c.code) || c.code == "" && err != nil {
				t.Errorf("%s: %v", c.what, err)
			}
			if c.told {
				told++
				if row := w.changes(s); len(row) != before+told || res.Seq != int64(before+told) {
					t.Errorf("%s: %d changes are told, the last as %+v", c.what, len(row)-before, res)
				}
			}
			if got := w.threads(s, api.ThreadSubscriptionsRequest{}); got != c.want {
				t.Errorf("%s: %s, not %s", c.what, got, c.want)
			}
		}
		if n := len(w.changes(s)); n != before+told {
			t.Errorf("%d changes are told, not %d", n-before, told)
		}
		first, err := w.subscribe(s, "$u", automatic, 1)
		w.check(err)
		last, err := w.subscribe(s, "$v", automatic, 1)
		w.check(err)
		for want, r := range map[string]api.ThreadSubscriptionsRequest{
			"$v true true 1;":                 {Limit: 1},
			"$u true true 1;$t true false 5;": {Before: last.Seq},
			"$v true true 1;$u true true 1;":  {After: first.Seq - 1},
			"$u true true 1;":                 {RoomID: "!r", ThreadID: "$u"},
		} {
			if got := w.threads(s, r); got != want {
				t.Errorf("%+v: %s, not %s", r, got, want)
			}
		}
	})
}

// TestThreadsTogether: of what is said of a thread at once on two instances, one
// thing is told last and stays; and the threads of many users come in pages.
func TestThreadsTogether(t *testing.T) {
	engines(t, func(t *testing.T, w *world) {
		a, b := w.server(), w.server()
		w.signUp(a, alice)
		w.signUp(a, bob)
		var wait sync.WaitGroup
		for i := range 12 {
			s := []*Server{a, b}[i%2]
			wait.Go(func() {
				_, err := w.subscribe(s, fmt.Sprint("$", i/4), api.ThreadState{Subscribed: i%4 < 2}, 1)
				w.check(err)
			})
		}
		wait.Wait()
		_, err := a.putThreadSubscription(t.Context(), &api.PutThreadSubscriptionRequest{UserID: bob, RoomID: "!q", ThreadID: "$0", ThreadState: api.ThreadState{Subscribed: true}})
		w.check(err)
		req, got := &api.ThreadsOfRequest{UserIDs: []string{bob, alice}, Limit: 2}, []api.ThreadOf{}
		for {
			res, err := b.queryThreadsOf(t.Context(), req)
			w.check(err)
			got = append(got, res.Threads...)
			if len(res.Threads) < req.Limit {
				break
			}
			req.After = res.Threads[len(res.Threads)-1]
		}
		if len(got) != 4 || got[3].UserID != bob || got[0].ThreadID != "$0" || got[2].ThreadID != "$2" {
			t.Fatalf("the threads are %+v", got)
		}
		for _, one := range got[:3] {
			res, err := a.queryThreadSubscriptions(t.Context(), &api.ThreadSubscriptionsRequest{UserID: alice, RoomID: "!r", ThreadID: one.ThreadID})
			if w.check(err); len(res.Subscriptions) != 1 || res.Subscriptions[0].Seq != one.Seq || res.Subscriptions[0].Subscribed != one.Subscribed {
				t.Errorf("%+v is %+v too", one, res)
			}
		}
	})
}
