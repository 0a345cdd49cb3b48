package syncapi

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// putThread stores what a change says of a thread. m.mu is held.
func (m *model) putThread(c *userapi.UserChange) {
	is, err := userapi.ThreadStateOf(c)
	if err != nil {
		m.t.Fatal(err)
	}
	row := userapi.ThreadSubscription{RoomID: c.RoomID, ThreadID: c.EventID}
	m.threads[c.UserID] = slices.DeleteFunc(m.threads[c.UserID], func(o userapi.ThreadSubscription) bool {
		same := o.RoomID == c.RoomID && o.ThreadID == c.EventID
		if same {
			row = o
		}
		return same
	})
	row.ThreadState, row.Seq = is, c.Seq
	row.Past = append(row.Past, userapi.ThreadChange{TS: m.said(), Subscribed: is.Subscribed})
	m.threads[c.UserID] = append(m.threads[c.UserID], row)
}

// said is right after the time of the last event that was sent. m.mu is held.
func (m *model) said() int64 {
	if m.real != nil {
		return 1_700_000_000_000 + int64(m.real.n) + 1
	}
	return m.clock + 1
}

func (m *model) queryThreads(_ context.Context, r *userapi.ThreadSubscriptionsRequest) (*userapi.ThreadSubscriptionsResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count("threads")
	res := &userapi.ThreadSubscriptionsResponse{}
	for _, row := range slices.Backward(m.threads[r.UserID]) {
		if row.Seq > r.After && (r.Before == 0 || row.Seq < r.Before) && (r.Limit == 0 || len(res.Subscriptions) < r.Limit) {
			res.Subscriptions = append(res.Subscriptions, row)
		}
	}
	return res, nil
}

// subscribe has a user say something of a thread of the room.
func (m *model) subscribe(user, root string, is userapi.ThreadState) {
	m.t.Helper()
	c, err := userapi.ChangeOfThread(user, testRoom, root, is)
	if err != nil {
		m.t.Fatal(err)
	}
	m.change(c)
	m.settle()
}

// TestSubscribedThreads: who has said something of threads is told of those that it
// is subscribed to, and of no others, by counts and afterwards by notifications.
func TestSubscribedThreads(t *testing.T) { both(t, testSubscribedThreads) }

func testSubscribedThreads(t *testing.T, m *model) {
	for _, s := range m.all {
		s.judge = s.judgeByRules
	}
	m.defaultRules(bob, nil)
	m.create(testRoom, alice, bob, carol)
	one, two := m.message(testRoom, alice, "one"), m.message(testRoom, alice, "two")
	counts := func(what string, want map[string]tallyOf) {
		t.Helper()
		m.settle()
		all := m.all
		for _, s := range all { // each judges what it has not judged yet
			if got := m.on(s).unreadNow(bob); !maps.Equal(got, want) {
				t.Errorf("%s: %v, not %v", what, got, want)
			}
		}
		m.all = all
	}
	before := m.related(alice, relThread, one, "")
	counts("nothing was ever said", map[string]tallyOf{mainThread: {0, 2}, one: {0, 1}})
	m.subscribe(bob, two, userapi.ThreadState{Subscribed: true})
	m.related(alice, relThread, one, "")
	loud := m.related(alice, relThread, two, "")
	counts("subscribed to one of two", map[string]tallyOf{mainThread: {0, 2}, one: {0, 1}, two: {0, 1}})
	m.subscribe(bob, two, userapi.ThreadState{})
	m.related(alice, relThread, two, "")
	named := m.related(alice, relThread, two, `,"m.mentions":{"user_ids":["`+bob+`"]}`)
	counts("subscribed to none", map[string]tallyOf{mainThread: {0, 2}, one: {0, 1}, two: {1, 2}})
	want := []string{named + " " + mention, loud + " " + sounds, before + " " + plain, two + " " + plain, one + " " + plain}
	for range 2 {
		if got := m.notified(bob, "limit=3"); !slices.Equal(got, want) {
			t.Errorf("notified of %s\nnot %s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		m.restart()
	}
}

const askThreads = `{"extensions":{"io.element.msc4308.thread_subscriptions":{"enabled":true,"limit":%d}}}`

// shape tells what a client is told of threads, in words.
func (t *toldSubscriptions) shape(names map[string]string) string {
	var out []string
	for root, is := range t.Subscribed[testRoom] {
		out = append(out, fmt.Sprintf("+%s %v", names[root], *is.Automatic))
	}
	for root, is := range t.Unsubscribed[testRoom] {
		if is.Automatic == nil {
			out = append(out, "-"+names[root])
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// TestSubscriptionsAreTold: what is said of threads is told to all of a user's
// clients, each by itself, the last of too much; the rest can be had in pages.
// spec: MSC4308
func TestSubscriptionsAreTold(t *testing.T) { sqldbtest.Each(t, testSubscriptionsAreTold) }

func testSubscriptionsAreTold(t *testing.T) {
	m := newModelOn(t, false, 2)
	names := map[string]string{}
	for i := range 6 {
		names[fmt.Sprint("$", i)] = fmt.Sprint(i)
	}
	chosen, automatic, ended := userapi.ThreadState{Subscribed: true}, userapi.ThreadState{Subscribed: true, Automatic: true}, userapi.ThreadState{}
	ask := func(pos string, limit int, want string) *slidOf {
		t.Helper()
		m.settle()
		out := m.slide(bob, pos, fmt.Sprintf(askThreads, limit))
		if got := out.Extensions.Threads.shape(names); got != want {
			t.Errorf("told %q, not %q", got, want)
		}
		return out
	}
	m.create(testRoom, bob)
	m.subscribe(bob, "$0", chosen)
	m.subscribe(bob, "$1", automatic)
	m.subscribe(bob, "$0", ended)
	first := ask("", 10, "+1 true")
	if again := ask(first.Pos, 10, ""); again.Pos != first.Pos {
		t.Errorf("nothing has happened, and %s became %s", first.Pos, again.Pos)
	}
	m.subscribe(bob, "$2", automatic)
	m.subscribe(alice, "$3", chosen)
	m.subscribe(bob, "$2", chosen)
	m.subscribe(bob, "$1", ended)
	next := ask(first.Pos, 10, "+2 false -1")
	if ask(first.Pos, 10, "+2 false -1"); next.Extensions.Threads.PrevBatch != "" {
		t.Error("all is told, and there is to be more")
	}
	for _, i := range []string{"$3", "$4", "$5"} {
		m.subscribe(bob, i, automatic)
	}
	most := ask(next.Pos, 1, "+5 true")
	ask(most.Pos, 1, "")
	from := most.Extensions.Threads.PrevBatch
	var pages []string
	for from != "" && len(pages) < 5 {
		var page toldSubscriptions
		if err := m.get(m.all[len(pages)%2].threadSubscriptions, bob, "dir=b&limit=1&from="+from+"&to="+url.QueryEscape(next.Pos), nil, &page); err != nil {
			t.Fatal(err)
		}
		pages = append(pages, page.shape(names))
		from = page.End
	}
	if !slices.Equal(pages, []string{"+4 true", "+3 true"}) {
		t.Errorf("the pages are %q", pages)
	}
	var all toldSubscriptions
	if err := m.get(m.s.threadSubscriptions, bob, "dir=b", nil, &all); err != nil || all.shape(names) != "+2 false +3 true +4 true +5 true -0 -1" || all.End != "" {
		t.Errorf("all are %q, %v", all.shape(names), err)
	}
	if all.Subscribed[testRoom]["$5"].BumpStamp != most.Extensions.Threads.Subscribed[testRoom]["$5"].BumpStamp {
		t.Error("what is the same has two stamps")
	}
	for _, bad := range []string{"", "dir=f", "dir=b&from=x1", "dir=b&from=b0", "dir=b&to=s1", "dir=b&limit=0"} {
		if err := m.get(m.s.threadSubscriptions, bob, bad, nil, &all); matrixerror.From(err) == nil || matrixerror.From(err).Status != 400 {
			t.Errorf("%s: %v", bad, err)
		}
	}
	m.restart()
	ask(next.Pos, 10, "+3 true +4 true +5 true")
	ask(most.Pos, 10, "")
}

// TestSubscriptionWakes: a client that waits is told at once.
func TestSubscriptionWakes(t *testing.T) {
	m := newModel(t)
	m.create(testRoom, bob)
	first := m.slide(bob, "", fmt.Sprintf(askThreads, 10))
	got := polling(m, bob, func() (*slidOf, error) {
		return m.slideOn(t.Context(), m.s, bob, first.Pos, "&timeout=20000", fmt.Sprintf(askThreads, 10))
	})
	m.subscribe(bob, "$t", userapi.ThreadState{Subscribed: true})
	if a := <-got; a == nil || a.Extensions.Threads.shape(map[string]string{"$t": "t"}) != "+t false" {
		t.Errorf("told %+v", a)
	}
}
