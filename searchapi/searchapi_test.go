package searchapi

import (
	"fmt"
	"slices"
	"testing"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
	"github.com/matrix-org/dendrite/common/testwait"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

func TestFind(t *testing.T) { sqldbtest.Each(t, testFind) }

func testFind(t *testing.T) {
	if eventlog.PartitionFor(roomA, partitions) == eventlog.PartitionFor(roomB, partitions) {
		t.Fatal("both rooms are of one partition")
	}
	w := newWorld(t)
	s, _ := w.server()
	w.create(roomA, alice, bob)
	w.create(roomB, alice)
	hello := w.say(roomA, alice, "Hello World, from Zürich")
	japanese := w.say(roomA, bob, "東京都に住んでいます hello")
	thai := w.say(roomB, alice, "สวัสดีครับ")
	name := w.state(roomA, alice, "m.room.name", `{"name":"Hello room"}`)
	topic := w.state(roomA, alice, "m.room.topic", `{"topic":"plain","m.topic":{"m.text":[{"mimetype":"text/html","body":"html"},{"body":"extended words"}]}}`)
	w.send(roomA, alice, "m.room.encrypted", nil, `{"algorithm":"m.megolm.v1.aes-sha2","ciphertext":"hello","body":"hello"}`)
	w.send(roomA, alice, "org.example.other", nil, `{"body":"hello"}`)
	w.expect(s, bob, "hello", name, japanese, hello)
	w.expect(s, bob, "HELLO world", hello)
	w.expect(s, bob, "zürich", hello)
	w.expect(s, bob, "hell")
	w.expect(s, bob, "京都", japanese)
	w.expect(s, bob, "都", japanese)
	w.expect(s, bob, "extended plain", topic)
	w.expect(s, bob, "html")
	w.expect(s, bob, "สวัสดี")
	w.expect(s, alice, "ดี", thai)
	w.expect(s, carol, "hello")
	w.expect(s, bob, "!!")
	if got := w.search(s, bob, "zurich straße", "", ""); len(got.Results) != 0 || !slices.Equal(got.Highlights, []string{"zurich", "straße"}) {
		t.Errorf("%+v", got)
	}

	// Edits: the newest text is found, and not the one before, at the original.
	first := w.edit(roomA, alice, hello, "Goodbye world")
	w.expect(s, bob, "world", hello)
	w.expect(s, bob, "zürich")
	w.expect(s, bob, "goodbye", hello)
	second := w.edit(roomA, alice, hello, "Farewell world")
	w.edit(roomA, bob, hello, "Forged world")
	w.expect(s, bob, "goodbye")
	w.expect(s, bob, "forged")
	w.expect(s, bob, "farewell", hello)
	// Redactions, of edits and of what they edit.
	w.redact(roomA, alice, second)
	w.expect(s, bob, "farewell")
	w.expect(s, bob, "goodbye", hello)
	w.redact(roomA, alice, first)
	w.expect(s, bob, "zürich", hello)
	w.redact(roomA, alice, hello)
	w.expect(s, bob, "zürich")
	w.redact(roomA, bob, japanese)
	w.expect(s, bob, "hello", name)

	w.ignore(bob, alice)
	last := w.say(roomA, bob, "plain words")
	testwait.Until(t, "alice is ignored", func() bool { return w.search(s, bob, "words", "", "").Count == 2 })
	w.say(roomA, alice, "unheard words")
	w.expect(s, bob, "words", last, topic) // state of a room is seen, whoever sent it
}

// TestVisibility: a user finds what he may see, and it is only that which is counted.
func TestVisibility(t *testing.T) { sqldbtest.Each(t, testVisibility) }

func testVisibility(t *testing.T) {
	w := newWorld(t)
	s, _ := w.server()
	w.create(roomA, alice)
	early := w.say(roomA, alice, "secret early")
	w.state(roomA, alice, "m.room.history_visibility", `{"history_visibility":"joined"}`)
	w.say(roomA, alice, "secret before bob")
	w.member(roomA, bob, "join")
	seen := w.say(roomA, alice, "secret with bob")
	w.member(roomA, bob, "leave")
	w.say(roomA, alice, "secret after bob")
	w.expect(s, bob, "secret", seen, early)
	w.expect(s, carol, "secret")
	w.state(roomA, alice, "m.room.history_visibility", `{"history_visibility":"world_readable"}`)
	open := w.say(roomA, alice, "secret of all")
	w.expect(s, bob, "secret", open, seen, early)
	w.expect(s, carol, "secret") // who was never in the room

	w.create(roomB, alice, bob)
	gone := w.say(roomB, alice, "secret elsewhere")
	w.expect(s, bob, "secret", gone, open, seen, early)
	state := w.search(s, bob, "with", `,"include_state":true`, "").State
	if len(state) != 1 || len(state[roomA]) == 0 {
		t.Errorf("state: %+v", state)
	}
	for _, e := range state[roomA] {
		if e.Type == "m.room.name" {
			t.Error("who left sees what the room is called since")
		}
	}
	w.submit(roomapi.InputRecord{RoomID: roomB, Kind: roomapi.KindPurge})
	w.expect(s, bob, "secret", open, seen, early)
	testwait.Until(t, "the purged room's events are removed", func() bool {
		left, err := s.db.Sweep(t.Context(), []int64{0, 1}, 1)
		if err != nil {
			t.Fatal(err)
		}
		return !left
	})
	w.expect(s, bob, "secret", open, seen, early)
	w.submit(roomapi.InputRecord{RoomID: roomA, Kind: roomapi.KindPurgeHistory, Purge: []string{early}})
	w.expect(s, bob, "secret", open, seen)
}

func TestPages(t *testing.T) { sqldbtest.Each(t, testPages) }

func testPages(t *testing.T) {
	w := newWorld(t)
	s, _ := w.server()
	w.create(roomA, alice, bob)
	w.create(roomB, bob)
	// pages says seven things of growing length, and reads them in pages of two while
	// more is said.
	pages := func(term, more string) (said, got []string) {
		t.Helper()
		for i := range 7 {
			text := term
			for n := range i {
				text += fmt.Sprint(" x", n)
			}
			said = append(said, w.say([]string{roomA, roomA, roomB}[i%3], bob, text))
		}
		for next, n, count := "", 0, int64(0); ; n++ {
			res := w.search(s, bob, term, more+`,"filter":{"limit":2}`, next)
			if n == 0 {
				count = res.Count
				w.say(roomA, alice, term)
			}
			if res.Count != count {
				t.Errorf("%s: page %d counts %d, not %d", term, n, res.Count, count)
			}
			got = append(got, res.ids()...)
			if next = res.Next; next == "" {
				return said, got
			}
		}
	}
	compare := func(what string, said, got []string, want ...int) {
		t.Helper()
		var places []int
		for _, id := range got {
			places = append(places, slices.Index(said, id))
		}
		if !slices.Equal(places, want) {
			t.Errorf("%s: %v, not %v", what, places, want)
		}
	}
	said, got := pages("apple", `,"order_by":"recent"`)
	compare("recent", said, got, 6, 5, 4, 3, 2, 1, 0)
	said, got = pages("pear", "")
	compare("rank", said, got, 0, 1, 2, 3, 4, 5, 6)
	s.examines = 3
	said, got = pages("plum", `,"order_by":"recent"`)
	compare("recent, looking at few", said, got, 6, 5, 4, 3, 2, 1, 0)
	s.examines, s.ranks = maxExamined, 3
	said, got = pages("fig", `,"order_by":"rank"`)
	compare("rank, of few", said, got, 4, 5, 6, 1, 2, 3, 0)
}

func TestGroups(t *testing.T) { sqldbtest.Each(t, testGroups) }

func testGroups(t *testing.T) {
	w := newWorld(t)
	s, _ := w.server()
	w.create(roomA, alice, bob)
	w.create(roomB, bob, alice)
	var a, b []string
	for i := range 3 {
		a = slices.Insert(a, 0, w.say(roomA, alice, fmt.Sprint("group ", i)))
		b = slices.Insert(b, 0, w.say(roomB, bob, fmt.Sprint("group ", i)))
	}
	const more = `,"order_by":"recent","filter":{"limit":3},"groupings":{"group_by":[{"key":"room_id"},{"key":"sender"}]}`
	res := w.search(s, bob, "group", more, "")
	if want := []string{b[0], a[0], b[1]}; !slices.Equal(res.ids(), want) || res.Count != 6 || res.Next == "" {
		t.Fatalf("%+v", res)
	}
	for key, values := range map[string][2]string{"room_id": {roomA, roomB}, "sender": {alice, bob}} {
		inA, inB := res.Groups[key][values[0]], res.Groups[key][values[1]]
		if inB.Order != 1 || inA.Order != 2 || !slices.Equal(inB.Results, b[:2]) || !slices.Equal(inA.Results, a[:1]) || len(res.Groups[key]) != 2 {
			t.Errorf("%s: %+v", key, res.Groups)
		}
		first := w.search(s, bob, "group", `,"order_by":"recent","filter":{"limit":1},"groupings":{"group_by":[{"key":"`+key+`"}]}`, inA.Next)
		again := first.Groups[key][values[0]]
		if !slices.Equal(first.ids(), a[1:2]) || !slices.Equal(again.Results, a[1:2]) || again.Order != 1 || first.Count != 6 {
			t.Errorf("%s, the second page of a group: %+v", key, first)
		}
		last := w.search(s, bob, "group", more, again.Next)
		if !slices.Equal(last.ids(), a[2:]) || last.Next != "" || last.Groups[key][values[0]].Next != "" {
			t.Errorf("%s, the last page of a group: %+v", key, last)
		}
	}
}

func TestCriteria(t *testing.T) { sqldbtest.Each(t, testCriteria) }

func testCriteria(t *testing.T) {
	w := newWorld(t)
	s, _ := w.server()
	w.create(roomA, alice, bob)
	w.create(roomB, bob)
	one := w.say(roomA, alice, "word one")
	two := w.say(roomB, bob, "word two")
	picture := w.send(roomA, bob, "m.room.message", nil, `{"body":"word.png","msgtype":"m.image","url":"mxc://test/x"}`)
	name := w.state(roomA, alice, "m.room.name", `{"name":"word"}`)
	all := []string{name, picture, two, one}
	for more, want := range map[string][]string{
		``:                                          all,
		`,"keys":["content.body"]`:                  {picture, two, one},
		`,"keys":["content.name"]`:                  {name},
		`,"keys":["content.topic"]`:                 nil,
		`,"filter":{"rooms":["` + roomB + `"]}`:     {two},
		`,"filter":{"rooms":[]}`:                    nil,
		`,"filter":{"not_rooms":["` + roomB + `"]}`: {name, picture, one},
		`,"filter":{"senders":["` + bob + `"]}`:     {picture, two},
		`,"filter":{"not_senders":["` + bob + `"]}`: {name, one},
		`,"filter":{"types":["m.room.n*"]}`:         {name},
		`,"filter":{"not_types":["m.room.name"]}`:   {picture, two, one},
		`,"filter":{"contains_url":true}`:           {picture},
		`,"filter":{"contains_url":false}`:          {name, two, one},
		`,"filter":{"limit":1}`:                     {name},
		`,"filter":{"limit":100000}`:                all,
	} {
		got := w.search(s, bob, "word", `,"order_by":"recent"`+more, "")
		if !slices.Equal(got.ids(), want) {
			t.Errorf("%s: %v, not %v", more, got.ids(), want)
		}
	}
	res := w.search(s, bob, "two", `,"event_context":{"before_limit":1,"include_profile":true},"include_state":true`, "")
	if len(res.Results) != 1 || len(res.State) != 1 || len(res.State[roomB]) != 3 {
		t.Fatalf("%+v", res)
	}
	around := res.Results[0].Context
	if len(around.Before) != 1 || len(around.After) != 0 || around.Start == "" || around.End == "" || around.Profiles[bob]["displayname"] != "bo" {
		t.Errorf("%+v", around)
	}
	if lazy := w.search(s, bob, "one", `,"include_state":true,"filter":{"lazy_load_members":true}`, ""); len(lazy.State[roomA]) != 4 { // all but bob
		t.Errorf("%+v", lazy.State)
	}
}

func TestRefusals(t *testing.T) {
	w := newWorld(t)
	s, _ := w.server()
	long := make([]byte, maxTermBytes+1)
	for i := range long {
		long[i] = 'x'
	}
	many := ""
	for i := range maxTerms + 1 {
		many += fmt.Sprint(i, " ")
	}
	for _, test := range []struct{ body, next, code string }{
		{`{`, "", "M_NOT_JSON"},
		{`[]`, "", "M_BAD_JSON"},
		{`{}`, "", "M_MISSING_PARAM"},
		{`{"search_categories":3}`, "", "M_BAD_JSON"},
		{`{"search_categories":{"room_events":{}}}`, "", "M_MISSING_PARAM"},
		{`{"search_categories":{"room_events":{"search_term":3}}}`, "", "M_BAD_JSON"},
		{`{"search_categories":{"room_events":{"search_term":"` + string(long) + `"}}}`, "", "M_INVALID_PARAM"},
		{`{"search_categories":{"room_events":{"search_term":"` + many + `"}}}`, "", "M_INVALID_PARAM"},
		{`{"search_categories":{"room_events":{"search_term":"x","order_by":"size"}}}`, "", "M_INVALID_PARAM"},
		{`{"search_categories":{"room_events":{"search_term":"x","keys":["content.foo"]}}}`, "", "M_INVALID_PARAM"},
		{`{"search_categories":{"room_events":{"search_term":"x","filter":3}}}`, "", "M_BAD_JSON"},
		{`{"search_categories":{"room_events":{"search_term":"x","filter":{"limit":-1}}}}`, "", "M_BAD_JSON"},
		{`{"search_categories":{"room_events":{"search_term":"x","event_context":{"before_limit":-1}}}}`, "", "M_INVALID_PARAM"},
		{`{"search_categories":{"room_events":{"search_term":"x","groupings":{"group_by":[{"key":"type"}]}}}}`, "", "M_INVALID_PARAM"},
		{`{"search_categories":{"room_events":{"search_term":"x"}}}`, "nonsense", "M_INVALID_PARAM"},
		{`{"search_categories":{"room_events":{"search_term":"x"}}}`, "k" + "e30", "M_INVALID_PARAM"},
		{`{"search_categories":{"room_events":{"search_term":"x"}}}`, (&place{below: 5, after: 3}).token(false), "M_INVALID_PARAM"},
		{`{"search_categories":{"other":{}}}`, "", ""},
		{`{"search_categories":{"room_events":{"search_term":""}}}`, "", ""},
		{`{"search_categories":{"room_events":{"search_term":"x"}}}`, (&place{below: 5, after: 3}).token(true), ""},
	} {
		_, err := w.post(s, alice, test.body, test.next)
		if test.code == "" && err != nil || test.code != "" && !matrixerror.Is(err, test.code) {
			t.Errorf("%.100s, %s: %v, not %s", test.body, test.next, err, test.code)
		}
	}
}
