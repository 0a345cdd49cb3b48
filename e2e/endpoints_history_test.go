package e2e

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"testing"
)

func unmarshal(raw []byte, into any) error { return json.Unmarshal(raw, into) }

// idsOf are the event IDs of a list.
func idsOf(events any) (out []string) {
	for _, e := range list(events) {
		id, _ := dig(e, "event_id").(string)
		out = append(out, id)
	}
	return out
}

// history of a room, in pages, around an event and by the clock.
func (w *town) history(t *testing.T) {
	room := w.alice.createRoom(t, object{"preset": "public_chat"})
	in, outsider := inRoom(room), w.account(t, "historian", false)
	var sent []string
	for n := range 6 {
		sent = append(sent, w.alice.send(t, room, fmt.Sprint("h", n), fmt.Sprint(n)))
	}
	w.bob.join(t, room)
	var got []string
	for from := ""; len(got) < 6; {
		page := w.bob.call(t, "GET", in+`/messages?dir=b&limit=2&filter={"types":["m.room.message"]}`+from, nil)
		got = append(got, idsOf(page.body["chunk"])...)
		if page.str("end") == "" || len(list(page.body["chunk"])) == 0 {
			break
		}
		from = "&from=" + url.QueryEscape(page.str("end"))
	}
	slices.Reverse(got)
	if !slices.Equal(got, sent) {
		t.Errorf("bob pages through %v, sent were %v", got, sent)
	}
	around := w.bob.call(t, "GET", in+"/context/"+url.PathEscape(sent[3])+"?limit=4", nil)
	if dig(around.body, "event", "event_id") != sent[3] || !slices.Equal(idsOf(around.body["events_before"]), []string{sent[2], sent[1]}) || !slices.Equal(idsOf(around.body["events_after"]), []string{sent[4], sent[5]}) {
		t.Errorf("around the event are %s", around.raw)
	}
	one := w.bob.call(t, "GET", in+"/event/"+url.PathEscape(sent[3]), nil)
	ts, _ := one.body["origin_server_ts"].(float64)
	at := w.bob.call(t, "GET", clientV1+in+fmt.Sprintf("/timestamp_to_event?ts=%.0f&dir=f", ts), nil)
	if found := w.bob.call(t, "GET", in+"/event/"+url.PathEscape(at.str("event_id")), nil); found.body["origin_server_ts"] != ts {
		t.Errorf("at %v is %s", ts, found.raw)
	}
	refuseAll(t, []refusal{
		{outsider, 403, "M_FORBIDDEN", "GET", in + "/messages?dir=b", nil},
		{outsider, 403, "M_FORBIDDEN", "GET", in + "/context/" + url.PathEscape(sent[3]), nil},
		{w.bob, 404, "M_NOT_FOUND", "GET", in + "/context/$none", nil},
		{outsider, 404, "M_NOT_FOUND", "GET", in + "/event/" + url.PathEscape(sent[3]), nil},
		{w.bob, 404, "M_NOT_FOUND", "GET", clientV1 + in + "/timestamp_to_event?ts=1&dir=b", nil},
		{w.bob, 400, "M_MISSING_PARAM", "GET", clientV1 + in + "/timestamp_to_event?dir=b", nil},
		{outsider, 403, "M_FORBIDDEN", "GET", clientV1 + in + "/timestamp_to_event?ts=1&dir=f", nil},
		{w.bob, 400, "M_MISSING_PARAM", "GET", in + "/messages", nil},
		{w.bob, 400, "M_INVALID_PARAM", "GET", in + "/messages?dir=b&from=nonsense", nil},
	})
}

// relations of events, and threads.
func (w *town) relations(t *testing.T) {
	room := w.alice.createRoom(t, object{"preset": "public_chat"})
	in, outsider := inRoom(room), w.account(t, "unrelated", false)
	w.bob.join(t, room)
	root := w.alice.send(t, room, "root", "root")
	relate := func(u *user, typ, txn string, relation object) string {
		return u.call(t, "PUT", in+"/send/"+typ+"/"+txn, object{"msgtype": "m.text", "body": txn, "m.relates_to": relation}).str("event_id")
	}
	reply := relate(w.bob, "m.room.message", "reply", object{"rel_type": "m.thread", "event_id": root})
	like := object{"rel_type": "m.annotation", "event_id": reply, "key": "+1"}
	reaction := relate(w.alice, "m.reaction", "like", like)
	w.alice.refused(t, 400, "M_DUPLICATE_ANNOTATION", "PUT", in+"/send/m.reaction/again", object{"m.relates_to": like})

	of := func(path string) *answer { return w.bob.call(t, "GET", clientV1+in+"/relations/"+path, nil) }
	escaped := url.PathEscape(root)
	for path, want := range map[string][]string{
		escaped:                                {reply},
		escaped + "/m.thread":                  {reply},
		escaped + "/m.thread/m.room.message":   {reply},
		escaped + "/m.thread/m.reaction":       nil,
		escaped + "/m.annotation":              nil,
		escaped + "?recurse=true":              {reaction, reply},
		escaped + "?recurse=true&dir=f":        {reply, reaction},
		escaped + "/m.annotation?recurse=true": {reaction},
	} {
		a := of(path)
		if got := idsOf(a.body["chunk"]); !slices.Equal(got, want) {
			t.Errorf("what relates by %s: %v, want %v", path, got, want)
		}
	}
	if got := of(escaped + "?recurse=true").body["recursion_depth"]; got == nil {
		t.Error("recursion_depth is missing")
	}
	threads := w.alice.call(t, "GET", clientV1+in+"/threads", nil)
	if got := find(threads.body["chunk"], "event_id", root); dig(got, "unsigned", "m.relations", "m.thread", "count") != 1.0 {
		t.Errorf("the threads are %s", threads.raw)
	}
	refuseAll(t, []refusal{
		{outsider, 404, "M_NOT_FOUND", "GET", clientV1 + in + "/relations/" + escaped, nil},
		{outsider, 404, "M_NOT_FOUND", "GET", clientV1 + in + "/relations/" + escaped + "/m.thread", nil},
		{outsider, 404, "M_NOT_FOUND", "GET", clientV1 + in + "/relations/" + escaped + "/m.thread/m.room.message", nil},
		{w.bob, 404, "M_NOT_FOUND", "GET", clientV1 + in + "/relations/$none", nil},
		{outsider, 403, "M_FORBIDDEN", "GET", clientV1 + in + "/threads", nil},
		{w.bob, 400, "M_INVALID_PARAM", "GET", clientV1 + in + "/threads?from=nonsense", nil},
		{w.bob, 400, "M_INVALID_PARAM", "GET", clientV1 + in + "/threads?include=some", nil},
	})
}

// oldSync: the deprecated endpoints of before /sync.
func (w *town) oldSync(t *testing.T) {
	room := w.alice.createRoom(t, object{"preset": "public_chat", "name": "archive"})
	in, outsider := inRoom(room), w.account(t, "oldtimer", false)
	w.bob.join(t, room)
	w.bob.call(t, "PUT", ofUser(w.bob.id)+"/account_data/org.example.old", object{"n": 1})
	initial := w.bob.call(t, "GET", "/initialSync?limit=5", nil)
	known := find(initial.body["rooms"], "room_id", room)
	if known == nil || find(known["state"], "type", "m.room.name") == nil || find(initial.body["account_data"], "type", "org.example.old") == nil {
		t.Errorf("bob begins with %s", initial.raw)
	}
	one := w.bob.call(t, "GET", in+"/initialSync", nil)
	if one.str("membership") != "join" || find(one.body["state"], "state_key", w.bob.id) == nil {
		t.Errorf("the room begins with %s", one.raw)
	}
	event := w.alice.send(t, room, "old", "news")
	for from := initial.str("end"); ; {
		a := w.bob.call(t, "GET", "/events?timeout=5000&room_id="+url.QueryEscape(room)+"&from="+url.QueryEscape(from), nil)
		if find(a.body["chunk"], "event_id", event) != nil {
			break
		}
		if len(list(a.body["chunk"])) == 0 {
			t.Fatalf("bob waits for the news, and gets %s", a.raw)
		}
		from = a.str("end")
	}
	if got := w.bob.call(t, "GET", "/events/"+url.PathEscape(event), nil); got.str("room_id") != room || dig(got.body, "content", "body") != "news" {
		t.Errorf("the event is %s", got.raw)
	}
	// Who is not in the room looks on, where everybody may.
	open := w.alice.createRoom(t, object{"initial_state": []object{{"type": "m.room.history_visibility", "content": object{"history_visibility": "world_readable"}}}})
	from := outsider.call(t, "GET", "/initialSync", nil).str("end")
	seen := make(chan *answer, 1)
	go func() {
		a, err := outsider.try("GET", "/events?timeout=20000&room_id="+url.QueryEscape(open)+"&from="+url.QueryEscape(from), nil)
		if err != nil {
			t.Error(err)
			a = &answer{}
		}
		seen <- a
	}()
	shown := w.alice.send(t, open, "open", "for all")
	if a := <-seen; !slices.Equal(idsOf(a.body["chunk"]), []string{shown}) {
		t.Errorf("who looks on sees %s", a.raw)
	} else if a = outsider.call(t, "GET", "/events?timeout=0&room_id="+url.QueryEscape(open)+"&from="+url.QueryEscape(a.str("end")), nil); len(list(a.body["chunk"])) != 0 {
		t.Errorf("it is told again: %s", a.raw)
	}
	refuseAll(t, []refusal{
		{outsider, 404, "M_NOT_FOUND", "GET", "/events/" + url.PathEscape(event), nil},
		{outsider, 403, "M_FORBIDDEN", "GET", in + "/initialSync", nil},
		{outsider, 403, "M_FORBIDDEN", "GET", "/events?timeout=0&room_id=" + url.QueryEscape(room), nil},
		{w.bob, 400, "M_INVALID_PARAM", "GET", "/events?from=nonsense", nil},
		{w.bob, 400, "M_INVALID_PARAM", "GET", "/initialSync?limit=some", nil},
	})
}
