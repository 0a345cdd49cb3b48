package syncapi

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/pushrules"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// notifiedOf is an answer of /notifications as a client reads it.
type notifiedOf struct {
	Next string `json:"next_token"`
	List []struct {
		Actions []jsontext.Value `json:"actions"`
		Event   eventOf          `json:"event"`
		Read    bool             `json:"read"`
		RoomID  string           `json:"room_id"`
		TS      int64            `json:"ts"`
	} `json:"notifications"`
}

// notified reads all notifications of a user, in pages, as lines.
func (m *model) notified(user, query string) []string {
	m.t.Helper()
	m.settle()
	var out []string
	from := ""
	for range 100 {
		var page notifiedOf
		m.s = m.all[len(out)%len(m.all)]
		if err := m.get(m.s.notifications, user, query+"&from="+url.QueryEscape(from), nil, &page); err != nil {
			m.t.Fatal(err)
		}
		for _, n := range page.List {
			var how []string
			for _, a := range n.Actions {
				how = append(how, string(a))
			}
			if n.RoomID == "" || n.Event.RoomID != "" || n.TS == 0 {
				m.t.Errorf("a notification is shown as %+v", n)
			}
			read := ""
			if n.Read {
				read = " read"
			}
			out = append(out, n.Event.ID+" "+strings.Join(how, ",")+read)
		}
		if from = page.Next; from == "" {
			return out
		}
	}
	m.t.Fatal("the pages have no end")
	return nil
}

// defaultRules gives a user the default rules, changed.
func (m *model) defaultRules(user string, change func(*pushrules.Rules) error) jsontext.Value {
	m.t.Helper()
	rules, err := pushrules.Load(nil, user, pushrules.Features{ThreadSubscriptions: true})
	if err == nil && change != nil {
		err = change(rules)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	content, err := rules.Content()
	if err != nil {
		m.t.Fatal(err)
	}
	m.change(userapi.UserChange{UserID: user, Kind: userapi.ChangeAccountData, Type: userapi.TypePushRules, Content: content})
	return content
}

const (
	plain   = `"notify"`
	sounds  = `"notify",{"set_tweak":"sound","value":"default"}`
	mention = sounds + `,{"set_tweak":"highlight"}`
)

// TestNotifications: what notified a user is listed in all its rooms, with what the
// rules said then, whether it was read, in pages, on any instance and after restarts.
func TestNotifications(t *testing.T) { both(t, testNotifications) }

func testNotifications(t *testing.T, m *model) {
	const other, invited = "!other:test", "!invited:test"
	m.defaultRules(bob, nil)
	m.create(testRoom, alice, bob, carol)
	m.create(other, alice, bob)
	want := []string{}
	expect := func(what string, lines ...string) {
		t.Helper()
		slices.Reverse(lines)
		want = append(lines, want...)
		for _, query := range []string{"limit=2", "limit=50"} {
			if got := m.notified(bob, query); !slices.Equal(got, want) {
				t.Errorf("%s, %s:\n%s\nnot\n%s", what, query, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		}
	}
	three := m.message(testRoom, alice, "three of us")
	m.message(testRoom, bob, "mine")
	two := m.message(other, alice, "two of us")
	m.send(sent{room: testRoom, sender: alice, typ: "m.reaction", content: `{}`})
	at := m.send(sent{room: testRoom, sender: alice, typ: "m.room.message", content: `{"body":"you","m.mentions":{"user_ids":["` + bob + `"]}}`})
	expect("messages", three+" "+plain, two+" "+sounds, at+" "+mention)
	m.member(testRoom, carol, carol, "leave")
	now := m.message(testRoom, alice, "two of us now")
	expect("somebody has left", now+" "+sounds)
	if got := m.notified(bob, "only=highlight"); !slices.Equal(got, []string{at + " " + mention}) {
		t.Errorf("highlights: %v", got)
	}

	m.receipt(bob, testRoom, three, receiptPrivate, "")
	want[3] += " read"
	inThread := m.related(alice, relThread, three, "")
	expect("one is read", inThread+" "+sounds)
	m.receipt(bob, testRoom, now, receiptPublic, "main")
	want[1], want[2] = want[1]+" read", want[2]+" read"
	expect("all but the thread is read")
	m.receipt(bob, testRoom, inThread, receiptPublic, three)
	want[0] += " read"
	gone := m.message(testRoom, alice, "gone")
	expect("the thread is read, too", gone+" "+sounds)
	m.send(sent{room: testRoom, sender: alice, typ: "m.room.redaction", content: `{}`, redacts: gone})
	want = want[1:]
	expect("one is redacted")

	m.create(invited, alice)
	invite := m.member(invited, alice, bob, "invite")
	expect("an invite", invite+" "+sounds)
	m.member(invited, bob, bob, "join")
	want[0] += " read"
	expect("it is accepted", m.message(invited, alice, "welcome")+" "+sounds)
	m.member(other, bob, bob, "leave")
	m.message(other, alice, "alone")
	expect("a room was left")
	m.restart()
	expect("restarted")
	m.change(userapi.UserChange{UserID: bob, Kind: userapi.ChangeForget, RoomID: other, EventID: "$unknown"})
	want = slices.DeleteFunc(want, func(line string) bool { return strings.HasPrefix(line, two) })
	expect("it is forgotten")

	for _, bad := range []string{"limit=0", "from=nothing", "from=s12", "only=lowlight"} {
		if err := m.get(m.s.notifications, bob, bad, nil, &notifiedOf{}); matrixerror.From(err) == nil || matrixerror.From(err).Status != 400 {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// TestNotificationsOfBefore: rules say of events what they said when these were
// sent, however often they have changed since, and however long the room is.
func TestNotificationsOfBefore(t *testing.T) { both(t, testNotificationsOfBefore) }

func testNotificationsOfBefore(t *testing.T, m *model) {
	first := m.defaultRules(bob, nil)
	m.create(testRoom, alice, bob)
	loud := m.message(testRoom, alice, "loud")
	var after []string
	timeOf := func(id string) int64 {
		t.Helper()
		var ev struct {
			TS int64 `json:"origin_server_ts"`
		}
		m.settle()
		if err := m.get(m.s.event, bob, "", map[string]string{"roomId": testRoom, "eventId": id}, &ev); err != nil {
			t.Fatal(err)
		}
		return ev.TS
	}
	keep := func(rules jsontext.Value, last string) {
		until := timeOf(last) + 1
		m.mu.Lock()
		defer m.mu.Unlock()
		m.past[bob] = append(m.past[bob], userapi.PastRules{UntilTS: until, Content: rules})
	}
	keep(first, loud)
	muted := m.defaultRules(bob, func(r *pushrules.Rules) error {
		return r.Put("override", "", "", pushrules.Rule{ID: testRoom, Conditions: []jsontext.Value{jsontext.Value(`{"kind":"event_match","key":"room_id","pattern":"` + testRoom + `"}`)}, Actions: []jsontext.Value{}})
	})
	var last string
	for i := range 2*maxTail + pastPage + 20 {
		last = m.message(testRoom, alice, fmt.Sprint("muted ", i))
	}
	keep(muted, last)
	m.defaultRules(bob, func(r *pushrules.Rules) error {
		return r.SetActions("underride", ".m.rule.room_one_to_one", []jsontext.Value{jsontext.Value(plain)})
	})
	for i := range 3 {
		after = append(after, m.message(testRoom, alice, fmt.Sprint("quiet ", i))+" "+plain)
	}
	slices.Reverse(after)
	want := append(after, loud+" "+sounds)
	for range 2 {
		if got := m.notified(bob, "limit=2"); !slices.Equal(got, want) {
			t.Errorf("got %s\nnot %s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		m.restart()
	}
}

// TestExpiredIsNotListed: what has outlived the room's policy is among neither the
// notifications nor the threads in which something was said.
func TestExpiredIsNotListed(t *testing.T) { realOnes(t, testExpiredIsNotListed) }

func testExpiredIsNotListed(t *testing.T, m *model) {
	m.retention = config.Retention{Enabled: true}
	m.restart()
	m.defaultRules(bob, nil)
	m.create(testRoom, alice, bob, carol)
	old, root := m.message(testRoom, alice, "old"), m.message(testRoom, alice, "root")
	m.related(alice, relThread, old, "")
	fresh := m.related(alice, relThread, root, "")
	m.settle()
	at, err := m.sentAt(fresh)
	if err != nil {
		t.Fatal(err)
	}
	m.send(sent{room: testRoom, sender: alice, typ: "m.room.retention", key: stateKey(""), content: `{"max_lifetime":1000}`})
	for _, s := range m.all {
		s.now = func() time.Time { return time.UnixMilli(at).Add(time.Second) }
	}
	if got := m.notified(bob, "limit=9"); !slices.Equal(got, []string{fresh + " " + plain}) {
		t.Errorf("notifications: %v", got)
	}
	if got := m.updated(bob, "dir=b", map[string]string{old: "old", root: "new"}); !slices.Equal(got, []string{"new"}) {
		t.Errorf("threads: %q", got)
	}
}
