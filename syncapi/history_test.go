package syncapi

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/property"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

type pageOf struct {
	Chunk []eventOf `json:"chunk"`
	Start string    `json:"start"`
	End   string    `json:"end"`
	State []eventOf `json:"state"`
	Next  string    `json:"next_batch"`
	Depth int       `json:"recursion_depth"`
}

func TestMessagesBothWays(t *testing.T) { both(t, messagesBothWays) }

func messagesBothWays(t *testing.T, m *model) {
	m.create(testRoom, alice)
	for range 7 {
		m.message(testRoom, alice, "x")
	}
	all := m.order[testRoom]
	path := map[string]string{"roomId": testRoom}
	for _, dir := range []string{"b", "f"} {
		var got []string
		from := ""
		for {
			q := url.Values{"dir": {dir}, "limit": {"3"}}
			if from != "" {
				q.Set("from", from)
			}
			var page pageOf
			if err := m.get(m.s.messages, alice, q.Encode(), path, &page); err != nil {
				t.Fatal(err)
			}
			got = append(got, ids(page.Chunk)...)
			if page.End == "" {
				break
			}
			from = page.End
		}
		if dir == "b" {
			slices.Reverse(got)
		}
		if !slices.Equal(got, all) {
			t.Errorf("%s: %d events of %d", dir, len(got), len(all))
		}
	}
	var page pageOf
	if err := m.get(m.s.messages, alice, `dir=b&filter={"types":["m.room.message"],"lazy_load_members":true}&limit=2`, path, &page); err != nil {
		t.Fatal(err)
	}
	if len(page.Chunk) != 2 || len(page.State) != 1 || page.Chunk[0].RoomID != testRoom {
		t.Errorf("filtered: %+v", page)
	}
	for _, bad := range []string{"", "dir=x", "dir=b&limit=-1", "dir=b&from=x", "dir=b&filter={"} {
		if err := m.get(m.s.messages, alice, bad, path, &page); matrixerror.From(err) == nil || matrixerror.From(err).Status != 400 {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if err := m.get(m.s.messages, carol, "dir=b", path, &page); !matrixerror.Is(err, "M_FORBIDDEN") {
		t.Errorf("a stranger: %v", err)
	}
	if err := m.get(m.s.messages, carol, "dir=b", map[string]string{"roomId": "!no:test"}, &page); !matrixerror.Is(err, "M_FORBIDDEN") {
		t.Errorf("no such room: %v", err)
	}
}

func TestContextAndEvent(t *testing.T) { both(t, contextAndEvent) }

func contextAndEvent(t *testing.T, m *model) {
	m.create(testRoom, alice)
	var sentIDs []string
	for range 9 {
		sentIDs = append(sentIDs, m.message(testRoom, alice, "x"))
	}
	var got struct {
		Event  eventOf   `json:"event"`
		Before []eventOf `json:"events_before"`
		After  []eventOf `json:"events_after"`
		State  []eventOf `json:"state"`
		Start  string    `json:"start"`
		End    string    `json:"end"`
	}
	path := map[string]string{"roomId": testRoom, "eventId": sentIDs[4]}
	if err := m.get(m.s.context, alice, "limit=4", path, &got); err != nil {
		t.Fatal(err)
	}
	if got.Event.ID != sentIDs[4] || !slices.Equal(ids(got.Before), []string{sentIDs[3], sentIDs[2]}) || !slices.Equal(ids(got.After), sentIDs[5:7]) || len(got.State) < 3 {
		t.Fatalf("%+v", got)
	}
	var page pageOf
	if err := m.get(m.s.messages, alice, "dir=f&limit=1&from="+got.End, path, &page); err != nil || !slices.Equal(ids(page.Chunk), sentIDs[7:8]) {
		t.Errorf("from end: %v %v", ids(page.Chunk), err)
	}
	if err := m.get(m.s.messages, alice, "dir=b&limit=1&from="+got.Start, path, &page); err != nil || !slices.Equal(ids(page.Chunk), sentIDs[1:2]) {
		t.Errorf("from start: %v %v", ids(page.Chunk), err)
	}
	if err := m.get(m.s.context, alice, "limit=0", path, &got); err != nil || len(got.Before)+len(got.After) != 0 {
		t.Errorf("limit 0: %+v %v", got, err)
	}
	var one eventOf
	if err := m.get(m.s.event, alice, "", path, &one); err != nil || one.ID != sentIDs[4] || one.RoomID != testRoom {
		t.Errorf("event: %+v %v", one, err)
	}
	if err := m.get(m.s.event, carol, "", path, &one); !matrixerror.Is(err, "M_NOT_FOUND") {
		t.Errorf("a stranger: %v", err)
	}
}

// related sends an event that relates to another.
func (m *model) related(sender, relType, parent, more string) string {
	return m.send(sent{room: testRoom, sender: sender, typ: "m.room.message",
		content: `{"body":"r"` + more + `,"m.relates_to":{"rel_type":"` + relType + `","event_id":"` + parent + `"}}`})
}

func TestRelations(t *testing.T) { both(t, relationsOf) }

func relationsOf(t *testing.T, m *model) {
	m.create(testRoom, alice, bob)
	root := m.message(testRoom, alice, "root")
	edit := m.related(alice, relReplace, root, `,"m.new_content":{"body":"edited"}`)
	m.related(bob, relReplace, root, `,"m.new_content":{"body":"not mine"}`)
	reply := m.related(bob, relThread, root, "")
	last := m.related(bob, relThread, root, "")
	lastEdit := m.related(bob, relReplace, last, `,"m.new_content":{"body":"e"}`)
	reference := m.related(alice, relReference, root, "")
	m.settle()
	path := map[string]string{"roomId": testRoom, "eventId": root}
	check := func(name string, e eventOf) {
		t.Helper()
		rel := e.Unsigned.Relations
		if replaced, _ := property.Member(rel[relReplace], "event_id"); string(replaced) != `"`+edit+`"` {
			t.Errorf("%s: replace %s", name, rel[relReplace])
		}
		if string(rel[relReference]) != `{"chunk":[{"event_id":"`+reference+`"}]}` {
			t.Errorf("%s: reference %s", name, rel[relReference])
		}
		count, _ := property.Member(rel[relThread], "count")
		latest, _ := property.Member(rel[relThread], "latest_event")
		in, _ := property.Member(rel[relThread], "current_user_participated")
		if string(count) != "2" || string(in) != "true" || !strings.Contains(string(latest), last) || !strings.Contains(string(latest), lastEdit) {
			t.Errorf("%s: thread %s", name, rel[relThread])
		}
	}
	var one eventOf
	if err := m.get(m.s.event, alice, "", path, &one); err != nil {
		t.Fatal(err)
	}
	check("event", one)
	for _, e := range m.sync(alice, "").Rooms.Join[testRoom].Timeline.Events {
		if e.ID == root {
			check("sync", e)
		}
	}
	var page pageOf
	if err := m.get(m.s.relations, alice, "limit=2", path, &page); err != nil || !slices.Equal(ids(page.Chunk), []string{reference, last}) || page.Next == "" {
		t.Fatalf("relations: %v %+v", err, page)
	}
	if err := m.get(m.s.relations, alice, "limit=9&from="+page.Next, path, &page); err != nil || len(page.Chunk) != 3 || page.Chunk[0].ID != reply {
		t.Fatalf("second page: %v %v", err, ids(page.Chunk))
	}
	typed := map[string]string{"roomId": testRoom, "eventId": root, "relType": relThread, "eventType": "m.room.message"}
	if err := m.get(m.s.relations, alice, "dir=f", typed, &page); err != nil || !slices.Equal(ids(page.Chunk), []string{reply, last}) {
		t.Errorf("threads forward: %v %v", err, ids(page.Chunk))
	}
	if err := m.get(m.s.relations, alice, "recurse=true", path, &page); err != nil || len(page.Chunk) != 6 || page.Depth == 0 {
		t.Errorf("recursive: %v %v", err, page)
	}
	m.send(sent{room: testRoom, sender: bob, typ: "m.room.redaction", content: `{}`, redacts: last})
	m.settle()
	if err := m.get(m.s.relations, alice, "", typed, &page); err != nil || !slices.Equal(ids(page.Chunk), []string{reply}) {
		t.Errorf("after a redaction: %v %v", err, ids(page.Chunk))
	}
	// A root that is redacted keeps its thread and its references, but no edit.
	m.send(sent{room: testRoom, sender: alice, typ: "m.room.redaction", content: `{}`, redacts: root})
	m.settle()
	one = eventOf{}
	if err := m.get(m.s.event, alice, "", path, &one); err != nil {
		t.Fatal(err)
	}
	synced := eventOf{}
	for _, e := range m.sync(alice, "").Rooms.Join[testRoom].Timeline.Events {
		if e.ID == root {
			synced = e
		}
	}
	for _, e := range []eventOf{one, synced} {
		rel := e.Unsigned.Relations
		if count, _ := property.Member(rel[relThread], "count"); string(count) != "1" || len(rel[relReference]) == 0 || len(rel[relReplace]) > 0 {
			t.Errorf("a redacted root shows %v", rel)
		}
	}
}

func TestThreads(t *testing.T) { both(t, threadsOf) }

func threadsOf(t *testing.T, m *model) {
	m.create(testRoom, alice, bob)
	var roots []string
	for range 3 {
		roots = append(roots, m.message(testRoom, alice, "root"))
	}
	m.related(bob, relThread, roots[1], "")
	m.related(alice, relThread, roots[0], "")
	m.related(alice, relThread, roots[2], "")
	m.settle()
	path := map[string]string{"roomId": testRoom}
	var page pageOf
	if err := m.get(m.s.threads, bob, "limit=2", path, &page); err != nil || !slices.Equal(ids(page.Chunk), []string{roots[2], roots[0]}) || page.Next == "" {
		t.Fatalf("%v %+v", err, page)
	}
	next := page.Next
	page.Next = ""
	if err := m.get(m.s.threads, bob, "limit=2&from="+next, path, &page); err != nil || !slices.Equal(ids(page.Chunk), roots[1:2]) || page.Next != "" {
		t.Fatalf("%v %+v", err, page)
	}
	if err := m.get(m.s.threads, bob, "include=participated", path, &page); err != nil || !slices.Equal(ids(page.Chunk), roots[1:2]) {
		t.Errorf("participated: %v %v", err, ids(page.Chunk))
	}
	m.change(userapi.UserChange{UserID: bob, Kind: userapi.ChangeAccountData, Type: userapi.TypeIgnoredUsers, Content: jsontext.Value(`{"ignored_users":{"@alice:test":{}}}`)})
	m.settle()
	if err := m.get(m.s.threads, bob, "", path, &page); err != nil || len(page.Chunk) != 3 || string(page.Chunk[0].Content) != "{}" {
		t.Errorf("ignored: %v %+v", err, page.Chunk)
	}
}

// TestDelayIDs: the sender of an event that was delayed is told by which ID it
// was, on every device and by whatever it is read, and nobody else is.
func TestDelayIDs(t *testing.T) { both(t, testDelayIDs) }

func testDelayIDs(t *testing.T, m *model) {
	m.create(testRoom, alice, bob)
	since := map[string]string{}
	for _, user := range []string{alice, bob} {
		since[user] = m.sync(user, "").Next
	}
	id := m.send(sent{room: testRoom, sender: alice, typ: "m.room.message", content: `{"body":"late"}`, delayID: "later"})
	m.settle()
	for range 2 { // as it came, and as it is read again
		for user, want := range map[string]string{alice: "later", bob: ""} {
			var page struct {
				Chunk []eventOf `json:"chunk"`
			}
			if err := m.get(m.s.messages, user, "dir=b&limit=1", map[string]string{"roomId": testRoom}, &page); err != nil {
				t.Fatal(err)
			}
			slid := m.slide(user, "", `{"lists":{"all":{"range":[0,9],"timeline_limit":1}}}`).Rooms[testRoom].Timeline
			for how, events := range map[string][]eventOf{
				"sync":         m.sync(user, since[user], "device", "ANOTHER").Rooms.Join[testRoom].Timeline.Events,
				"messages":     page.Chunk,
				"sliding sync": slid,
			} {
				if len(events) != 1 || events[0].ID != id || events[0].Unsigned.DelayID != want {
					t.Errorf("%s of %s: %+v", how, user, events)
				}
			}
		}
		m.restart()
	}
}
