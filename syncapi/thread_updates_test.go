package syncapi

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/matrixerror"
)

// updatedOf is what a client reads of threads in which something was said.
type updatedOf struct {
	Updates map[string]map[string]updateOf `json:"updates"`
	Chunk   map[string]map[string]updateOf `json:"chunk"`
	Prev    string                         `json:"prev_batch"`
	Next    string                         `json:"next_batch"`
}

type updateOf struct {
	Root *eventOf `json:"thread_root"`
	Prev string   `json:"prev_batch"`
}

// words tells what was said, by the names of roots: "+" where there is more.
func (o *updatedOf) words(names map[string]string) string {
	var out []string
	for _, rooms := range []map[string]map[string]updateOf{o.Updates, o.Chunk} {
		for _, threads := range rooms {
			for root, is := range threads {
				word := names[root]
				if is.Root != nil && is.Root.ID == root && is.Root.Unsigned.Relations[relThread] != nil {
					word = "*" + word
				}
				if is.Prev != "" {
					word += "+"
				}
				out = append(out, word)
			}
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// updated reads all pages of /thread_updates.
func (m *model) updated(user, query string, names map[string]string) (out []string) {
	m.t.Helper()
	m.settle()
	for from := ""; len(out) < 10; {
		var page updatedOf
		m.s = m.all[len(out)%len(m.all)]
		if err := m.get(m.s.threadsUpdated, user, query+"&from="+url.QueryEscape(from), nil, &page); err != nil {
			m.t.Fatal(err)
		}
		out = append(out, page.words(names))
		if from = page.Next; from == "" {
			break
		}
	}
	return out
}

// TestThreadUpdates: a client is told in which threads something was said that it was
// not given, of all rooms, or in all of them with their roots; the rest comes in pages.
// spec: MSC4360
func TestThreadUpdates(t *testing.T) { both(t, testThreadUpdates) }

func testThreadUpdates(t *testing.T, m *model) {
	const other = "!other:test"
	m.create(testRoom, alice)
	secret := m.message(testRoom, alice, "before bob")
	m.related(alice, relThread, secret, "")
	m.member(testRoom, bob, bob, "join")
	m.create(other, alice, bob)
	a, b, c := m.message(testRoom, alice, "a"), m.message(testRoom, alice, "b"), m.message(other, alice, "c")
	names := map[string]string{a: "a", b: "b", c: "c", secret: "secret"}
	m.related(alice, relThread, a, "")
	m.related(alice, relThread, b, "")
	m.related(alice, relThread, a, "")
	inOther := func() {
		m.send(sent{room: other, sender: alice, typ: "m.room.message", content: `{"body":"x","m.relates_to":{"rel_type":"m.thread","event_id":"` + c + `"}}`})
	}
	inOther()
	ask := func(pos, how, want string) *slidOf {
		t.Helper()
		m.settle()
		// Of the other room no timeline is asked for.
		out := m.slide(bob, pos, `{"room_subscriptions":{"`+testRoom+`":{"timeline_limit":1}},"extensions":{"io.element.msc4360.threads":{"enabled":true`+how+`}}}`)
		if got := out.Extensions.Updated.words(names); got != want {
			t.Errorf("%s: told %q, not %q", how, got, want)
		}
		return out
	}
	const roots = `,"include_roots":true`
	first := ask("", roots, "*a+ *b *c")
	prev := first.Extensions.Updated.Updates[testRoom][a].Prev
	var page struct {
		Chunk []eventOf `json:"chunk"`
	}
	if err := m.get(m.s.relations, bob, "dir=b&from="+prev, map[string]string{"roomId": testRoom, "eventId": a}, &page); err != nil || len(page.Chunk) != 1 {
		t.Errorf("before the last event of the thread: %+v, %v", page, err)
	}
	ask("", "", "a+ b c")
	if again := ask(first.Pos, roots, ""); again.Pos != first.Pos {
		t.Errorf("nothing has happened, and %s became %s", first.Pos, again.Pos)
	}
	m.related(alice, relThread, a, "")
	ask(first.Pos, "", "") // it is there
	ask(first.Pos, roots, "*a")
	m.related(alice, relThread, a, "")
	m.related(alice, relThread, b, "")
	inOther()
	ask(first.Pos, "", "a+ c")
	most := ask(first.Pos, roots+`,"limit":1`, "*c")
	if most.Extensions.Updated.Prev == "" {
		t.Error("there is more, and no token")
	}
	for range 2 {
		if got := m.updated(bob, "dir=b&limit=1&to="+url.QueryEscape(first.Pos), names); !slices.Equal(got, []string{"*c", "*b", "*a+"}) {
			t.Errorf("the pages are %q", got)
		}
		var rest updatedOf
		if err := m.get(m.s.threadsUpdated, bob, "dir=b&from="+most.Extensions.Updated.Prev+"&to="+url.QueryEscape(first.Pos), nil, &rest); err != nil || rest.words(names) != "*a+ *b" {
			t.Errorf("the rest is %q, %v", rest.words(names), err)
		}
		ask(first.Pos, "", "a+ c")
		ask(first.Pos, roots, "*a+ *b *c")
		m.restart()
	}
	if got := m.updated(alice, "dir=b", names); !slices.Equal(got, []string{"*a+ *b+ *c+ *secret"}) {
		t.Errorf("alice finds %q", got)
	}
	for _, bad := range []string{"", "dir=f", "dir=b&limit=0", "dir=b&from=s1", "dir=b&from=u1", "dir=b&to=x"} {
		if err := m.get(m.s.threadsUpdated, bob, bad, nil, new(jsontext.Value)); matrixerror.From(err) == nil || matrixerror.From(err).Status != 400 {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// TestThreadUpdatesOfLateMember: threads of before somebody came, of which there are
// many, do not stand in the way of others.
func TestThreadUpdatesOfLateMember(t *testing.T) { both(t, testThreadUpdatesOfLateMember) }

func testThreadUpdatesOfLateMember(t *testing.T, m *model) {
	other := ""
	for n := 0; other == "" || m.view.partition(other) != m.view.partition(testRoom); n++ {
		other = fmt.Sprintf("!other%d:test", n)
	}
	m.create(other, alice, bob)
	m.create(testRoom, alice)
	root := m.message(other, alice, "root")
	in := func(room, root string) {
		m.send(sent{room: room, sender: alice, typ: "m.room.message", content: `{"body":"x","m.relates_to":{"rel_type":"m.thread","event_id":"` + root + `"}}`})
	}
	in(other, root)
	for i := range 8 {
		in(testRoom, m.message(testRoom, alice, fmt.Sprint("early ", i)))
	}
	m.member(testRoom, bob, bob, "join")
	for i := range 150 { // more than is kept in memory
		m.message(other, alice, fmt.Sprint(i))
		m.message(testRoom, alice, fmt.Sprint(i))
	}
	if got := m.updated(bob, "dir=b&limit=2", map[string]string{root: "root"}); !slices.Equal(got, []string{"*root"}) {
		t.Errorf("bob is told of %q", got)
	}
}

// TestManyThreadUpdates: pages hold each thread once, in their order, from rows as
// from memory, also while more is being said.
func TestManyThreadUpdates(t *testing.T) { both(t, testManyThreadUpdates) }

func testManyThreadUpdates(t *testing.T, m *model) {
	m.create(testRoom, alice, bob)
	names, want := map[string]string{}, []string{}
	var all []string
	for i := range 20 {
		root := m.message(testRoom, alice, fmt.Sprint("root ", i))
		names[root] = fmt.Sprint(i)
		all = append(all, root)
	}
	for range 8 { // more than is kept in memory
		for i := range all {
			m.related(alice, relThread, all[i], "")
		}
	}
	for i := range all {
		want = append([]string{"*" + names[all[i]] + "+"}, want...)
	}
	m.settle()
	var got []string
	from := ""
	for page := range 10 {
		var out updatedOf
		m.s = m.all[page%len(m.all)]
		if err := m.get(m.s.threadsUpdated, bob, "dir=b&limit=4&from="+from, nil, &out); err != nil {
			t.Fatal(err)
		}
		words := strings.Fields(out.words(names))
		slices.SortFunc(words, func(x, y string) int { return slices.Index(want, x) - slices.Index(want, y) })
		got = append(got, words...)
		if page == 1 {
			m.related(alice, relThread, all[0], "") // would have been on the last page
			m.settle()
		}
		if from = out.Next; from == "" {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the pages hold %q, not %q", got, want)
	}
}
