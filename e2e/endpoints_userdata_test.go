package e2e

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// joinedRoom finds a section of a room that a sync answer tells of as joined.
func joinedRoom(body object, room string, path ...string) any {
	return dig(body, append([]string{"rooms", "join", room}, path...)...)
}

// accountData, global and of rooms.
func (w *town) accountData(t *testing.T) {
	room := w.alice.createRoom(t, object{})
	global, inOne := ofUser(w.alice.id)+"/account_data/", ofUser(w.alice.id)+inRoom(room)+"/account_data/"
	second, _ := w.login(t, w.alice, nil)
	since := second.syncOnce(t, "", "0").str("next_batch")
	w.alice.call(t, "PUT", global+"org.example.a", object{"n": 1})
	w.alice.call(t, "PUT", inOne+"org.example.b", object{"n": 2})
	for path, want := range map[string]float64{global + "org.example.a": 1, inOne + "org.example.b": 2} {
		if got := second.call(t, "GET", path, nil); got.body["n"] != want {
			t.Errorf("%s: %s", path, got.raw)
		}
	}
	told := map[string]bool{}
	second.syncUntil(t, since, "account data", func(body object) bool {
		told["global"] = told["global"] || find(dig(body, "account_data", "events"), "type", "org.example.a") != nil
		told["room"] = told["room"] || find(joinedRoom(body, room, "account_data", "events"), "type", "org.example.b") != nil
		return told["global"] && told["room"]
	})
	large := object{"text": strings.Repeat("x", 70<<10)}
	refuseAll(t, []refusal{
		{w.bob, 403, "M_FORBIDDEN", "GET", global + "org.example.a", nil},
		{w.bob, 403, "M_FORBIDDEN", "PUT", global + "org.example.a", object{}},
		{w.bob, 403, "M_FORBIDDEN", "GET", inOne + "org.example.b", nil},
		{w.bob, 403, "M_FORBIDDEN", "PUT", inOne + "org.example.b", object{}},
		{w.alice, 404, "M_NOT_FOUND", "GET", global + "org.example.none", nil},
		{w.alice, 404, "M_NOT_FOUND", "GET", inOne + "org.example.none", nil},
		{w.alice, 405, "M_BAD_JSON", "PUT", global + "m.push_rules", object{}},
		{w.alice, 405, "M_BAD_JSON", "PUT", inOne + "m.fully_read", object{}},
		{w.alice, 400, "M_INVALID_PARAM", "GET", ofUser(w.alice.id) + "/rooms/nonsense/account_data/x", nil},
		{w.alice, 400, "M_INVALID_PARAM", "PUT", ofUser(w.alice.id) + "/rooms/nonsense/account_data/x", object{}},
		{w.alice, 400, "M_BAD_JSON", "PUT", global + "org.example.a", []int{1}},
		{w.alice, 400, "M_NOT_JSON", "PUT", global + "org.example.a", "{"},
		{w.alice, 413, "M_TOO_LARGE", "PUT", global + "org.example.a", large},
	})
}

// tags of rooms, which are account data as well.
func (w *town) tags(t *testing.T) {
	room := w.alice.createRoom(t, object{})
	path := ofUser(w.alice.id) + inRoom(room) + "/tags"
	if got := w.alice.call(t, "GET", path, nil); got.body["tags"] == nil {
		t.Errorf("a room without tags: %s", got.raw)
	}
	since := w.alice.syncOnce(t, "", "0").str("next_batch")
	w.alice.call(t, "PUT", path+"/m.favourite", object{"order": 0.25})
	w.alice.call(t, "PUT", path+"/u.work", object{})
	if got := w.alice.call(t, "GET", path, nil); dig(got.body, "tags", "m.favourite", "order") != 0.25 || dig(got.body, "tags", "u.work") == nil {
		t.Errorf("the tags are %s", got.raw)
	}
	w.alice.syncUntil(t, since, "both tags", func(body object) bool {
		tags := find(joinedRoom(body, room, "account_data", "events"), "type", "m.tag")
		return dig(tags, "content", "tags", "u.work") != nil && dig(tags, "content", "tags", "m.favourite", "order") == 0.25
	})
	w.alice.call(t, "DELETE", path+"/u.work", nil)
	if got := w.alice.call(t, "GET", path, nil); dig(got.body, "tags", "u.work") != nil {
		t.Errorf("the tags are %s", got.raw)
	}
	refuseAll(t, []refusal{
		{w.bob, 403, "M_FORBIDDEN", "GET", path, nil},
		{w.bob, 403, "M_FORBIDDEN", "PUT", path + "/u.bob", object{}},
		{w.bob, 403, "M_FORBIDDEN", "DELETE", path + "/m.favourite", nil},
		{w.alice, 400, "M_BAD_JSON", "PUT", path + "/u.work", object{"order": "first"}},
		{w.alice, 400, "M_BAD_JSON", "PUT", path + "/u.work", object{"order": nil}},
		{w.alice, 413, "M_TOO_LARGE", "PUT", path + "/u.work", object{"x": strings.Repeat("x", 20<<10)}},
	})
}

// filters are kept, and applied by the name they got.
func (w *town) filters(t *testing.T) {
	one, other := w.alice.createRoom(t, object{}), w.alice.createRoom(t, object{})
	message := w.alice.send(t, one, "f1", "hello")
	path := ofUser(w.alice.id) + "/filter"
	kept := func(filter object) string { return w.alice.call(t, "POST", path, filter).str("filter_id") }
	synced := func(filter object) object {
		return w.alice.call(t, "GET", "/sync?filter="+url.QueryEscape(kept(filter)), nil).body
	}
	id := kept(object{"room": object{"rooms": []string{one}}})
	if got := w.alice.call(t, "GET", path+"/"+id, nil); len(list(dig(got.body, "room", "rooms"))) != 1 {
		t.Errorf("the filter is %s", got.raw)
	}
	for name, filter := range map[string]object{
		"rooms":                          {"rooms": []string{one}},
		"not_rooms":                      {"not_rooms": []string{other}},
		"not_rooms goes before rooms":    {"rooms": []string{one, other}, "not_rooms": []string{other}},
		"the timeline's too":             {"timeline": object{"rooms": []string{one}}, "rooms": []string{one}},
		"a room that alice is not in":    {"rooms": []string{one, "!nowhere"}},
		"the same, of what is not there": {"rooms": []string{one}, "not_rooms": []string{"!nowhere"}},
	} {
		body := synced(object{"room": filter})
		if joinedRoom(body, one) == nil || joinedRoom(body, other) != nil {
			t.Errorf("%s: %v", name, dig(body, "rooms", "join"))
		}
	}
	if got := dig(synced(object{"room": object{"rooms": []string{}}}), "rooms", "join"); got != nil && len(got.(object)) != 0 {
		t.Errorf("no rooms were wanted: %v", got)
	}
	events := list(joinedRoom(synced(object{"event_fields": []string{"type", "event_id", "sender", "origin_server_ts", "content.body"},
		"room": object{"rooms": []string{one}, "timeline": object{"types": []string{"m.room.message"}}}}), one, "timeline", "events"))
	if len(events) != 1 || dig(events[0], "content", "body") != "hello" || dig(events[0], "content", "msgtype") != nil || dig(events[0], "unsigned") != nil || dig(events[0], "event_id") != message {
		t.Errorf("event_fields leave %v", events)
	}
	for name, filter := range map[string]object{
		"types and not_types":     {"types": []string{"m.room.*"}, "not_types": []string{"m.room.message"}},
		"senders and not_senders": {"senders": []string{w.alice.id}, "not_senders": []string{w.alice.id}},
		"contains_url":            {"contains_url": true},
	} {
		body := synced(object{"room": object{"rooms": []string{one}, "timeline": filter}})
		if find(joinedRoom(body, one, "timeline", "events"), "event_id", message) != nil {
			t.Errorf("%s: the message is told", name)
		}
	}
	refuseAll(t, []refusal{
		{w.bob, 403, "M_FORBIDDEN", "POST", path, object{}},
		{w.bob, 403, "M_FORBIDDEN", "GET", path + "/" + id, nil},
		{w.alice, 404, "M_NOT_FOUND", "GET", path + "/12345", nil},
		{w.alice, 400, "M_BAD_JSON", "POST", path, object{"room": 1}},
		{w.alice, 400, "M_BAD_JSON", "POST", path, object{"event_format": "short"}},
	})
}

// pushRules: the server's own, and a user's.
func (w *town) pushRules(t *testing.T) {
	const rule = "/pushrules/global/content/org.example.cake"
	since := w.alice.syncOnce(t, "", "0").str("next_batch")
	w.alice.call(t, "PUT", rule, object{"pattern": "cake", "actions": []any{"notify"}})
	w.alice.call(t, "PUT", rule+"/enabled", object{"enabled": false})
	w.alice.call(t, "PUT", rule+"/actions", object{"actions": []any{"notify", object{"set_tweak": "highlight"}}})
	second, _ := w.login(t, w.alice, nil)
	got := second.call(t, "GET", rule, nil)
	if got.str("pattern") != "cake" || got.body["enabled"] != false || len(list(got.body["actions"])) != 2 {
		t.Errorf("the rule is %s", got.raw)
	}
	if got := second.call(t, "GET", rule+"/enabled", nil); got.body["enabled"] != false {
		t.Errorf("it is on: %s", got.raw)
	}
	if got := second.call(t, "GET", rule+"/actions", nil); len(list(got.body["actions"])) != 2 {
		t.Errorf("it does %s", got.raw)
	}
	all := second.call(t, "GET", "/pushrules/", nil)
	if find(dig(all.body, "global", "content"), "rule_id", "org.example.cake") == nil || find(dig(all.body, "global", "override"), "rule_id", ".m.rule.master") == nil {
		t.Errorf("the rules are %s", all.raw)
	}
	if got := second.call(t, "GET", "/pushrules/global/", nil); find(got.body["content"], "rule_id", "org.example.cake") == nil {
		t.Errorf("the global rules are %s", got.raw)
	}
	w.alice.syncUntil(t, since, "the rules", func(body object) bool {
		rules := find(dig(body, "account_data", "events"), "type", "m.push_rules")
		return len(list(find(dig(rules, "content", "global", "content"), "rule_id", "org.example.cake")["actions"])) == 2
	})
	w.alice.call(t, "DELETE", rule, nil)
	all401 := func(paths ...string) (out []refusal) {
		for _, path := range paths {
			out = append(out, refusal{anonymous(w.s), 401, "M_MISSING_TOKEN", "GET", path, nil})
		}
		return out
	}
	refuseAll(t, append(all401("/pushrules/", "/pushrules/global/", "/pushers"), []refusal{
		{second, 404, "M_NOT_FOUND", "GET", rule, nil},
		{second, 404, "M_NOT_FOUND", "GET", rule + "/enabled", nil},
		{second, 404, "M_NOT_FOUND", "GET", rule + "/actions", nil},
		{second, 404, "M_NOT_FOUND", "PUT", rule + "/enabled", object{"enabled": true}},
		{second, 404, "M_NOT_FOUND", "PUT", rule + "/actions", object{"actions": []any{}}},
		{second, 404, "M_NOT_FOUND", "DELETE", rule, nil},
		{second, 400, "M_INVALID_PARAM", "PUT", "/pushrules/global/content/.m.mine", object{"pattern": "x", "actions": []any{}}},
		{second, 404, "M_NOT_FOUND", "PUT", rule + "?before=nothing", object{"pattern": "x", "actions": []any{}}},
	}...))
}

// presence is for who shares a room.
func (w *town) presence(t *testing.T) {
	room, carol := w.alice.createRoom(t, object{"preset": "public_chat"}), w.account(t, "lonely", false)
	w.bob.join(t, room)
	path := "/presence/" + url.PathEscape(w.alice.id) + "/status"
	since := w.bob.syncOnce(t, "", "0").str("next_batch")
	w.alice.call(t, "PUT", path, object{"presence": "online", "status_msg": "at the window"})
	w.bob.syncUntil(t, since, "alice's presence", func(body object) bool {
		return dig(find(dig(body, "presence", "events"), "sender", w.alice.id), "content", "status_msg") == "at the window"
	})
	if got := w.bob.call(t, "GET", path, nil); got.str("presence") != "online" || got.str("status_msg") != "at the window" {
		t.Errorf("bob sees %s", got.raw)
	}
	refuseAll(t, []refusal{
		{carol, 403, "M_FORBIDDEN", "GET", path, nil},
		{w.bob, 403, "M_FORBIDDEN", "PUT", path, object{"presence": "offline"}},
		{w.bob, 404, "M_NOT_FOUND", "GET", "/presence/" + nobody + "/status", nil},
		{w.alice, 400, "M_MISSING_PARAM", "PUT", path, object{}},
		{w.alice, 400, "M_BAD_JSON", "PUT", path, object{"presence": "asleep"}},
	})
}

// typing ends when its time is over.
func (w *town) typing(t *testing.T) {
	room, lonely := w.alice.createRoom(t, object{"preset": "public_chat"}), w.account(t, "outsider", false)
	w.bob.join(t, room)
	path := inRoom(room) + "/typing/" + url.PathEscape(w.bob.id)
	since := w.alice.syncOnce(t, "", "0").str("next_batch")
	types := func(body object) (told, does bool) {
		users, ok := dig(find(joinedRoom(body, room, "ephemeral", "events"), "type", "m.typing"), "content", "user_ids").([]any)
		return ok, slices.Contains(users, any(w.bob.id))
	}
	for _, last := range []object{{"typing": false}, {"typing": true, "timeout": 100}} {
		w.bob.call(t, "PUT", path, object{"typing": true, "timeout": 30000})
		a := w.alice.syncUntil(t, since, "that bob types", func(body object) bool { _, does := types(body); return does })
		w.bob.call(t, "PUT", path, last)
		a = w.alice.syncUntil(t, a.str("next_batch"), fmt.Sprintf("that bob ends after %v", last), func(body object) bool {
			told, does := types(body)
			return told && !does
		})
		since = a.str("next_batch")
	}
	refuseAll(t, []refusal{
		{w.alice, 403, "M_FORBIDDEN", "PUT", path, object{"typing": true}},
		{lonely, 403, "M_FORBIDDEN", "PUT", inRoom(room) + "/typing/" + url.PathEscape(lonely.id), object{"typing": true}},
		{w.bob, 400, "M_MISSING_PARAM", "PUT", path, object{}},
		{w.bob, 400, "M_BAD_JSON", "PUT", path, object{"typing": "yes"}},
	})
}

// receipts: public ones are for all, private ones and markers for oneself.
func (w *town) receipts(t *testing.T) {
	room := w.alice.createRoom(t, object{"preset": "public_chat"})
	w.bob.join(t, room)
	first, second := w.alice.send(t, room, "r1", "one"), w.alice.send(t, room, "r2", "two")
	reply := w.alice.call(t, "PUT", inRoom(room)+"/send/m.room.message/r3", object{"msgtype": "m.text", "body": "in a thread",
		"m.relates_to": object{"rel_type": "m.thread", "event_id": first}}).str("event_id")
	sinceAlice, sinceBob := w.alice.syncOnce(t, "", "0").str("next_batch"), w.bob.syncOnce(t, "", "0").str("next_batch")
	at := func(typ, event string) string { return inRoom(room) + "/receipt/" + typ + "/" + url.PathEscape(event) }
	w.bob.call(t, "POST", at("m.read.private", second), object{})
	w.bob.call(t, "POST", at("m.read", first), object{"thread_id": "main"})
	w.bob.call(t, "POST", at("m.read", reply), object{"thread_id": first})
	receipt := func(body object, event, typ string, of *user) object {
		content := find(joinedRoom(body, room, "ephemeral", "events"), "type", "m.receipt")["content"]
		o, _ := dig(content, event, typ, of.id).(object)
		return o
	}
	seen := map[string]any{}
	collect := func(body object) bool {
		for _, event := range []string{first, second, reply} {
			for _, typ := range []string{"m.read", "m.read.private"} {
				if r := receipt(body, event, typ, w.bob); r != nil {
					seen[event+typ] = r["thread_id"]
				}
			}
		}
		return seen[first+"m.read"] == "main" && seen[reply+"m.read"] == first
	}
	w.alice.syncUntil(t, sinceAlice, "bob's receipts", collect)
	if _, told := seen[second+"m.read.private"]; told {
		t.Error("alice is told of bob's private receipt")
	}
	w.bob.syncUntil(t, sinceBob, "bob's private receipt", func(body object) bool {
		collect(body)
		_, told := seen[second+"m.read.private"]
		return told
	})

	w.bob.call(t, "POST", inRoom(room)+"/read_markers", object{"m.fully_read": second, "m.read": second})
	if got := w.bob.call(t, "GET", ofUser(w.bob.id)+inRoom(room)+"/account_data/m.fully_read", nil); got.str("event_id") != second {
		t.Errorf("bob has read up to %s", got.raw)
	}
	w.alice.syncUntil(t, "", "the receipt of the marker", func(body object) bool { return receipt(body, second, "m.read", w.bob) != nil })
	outsider := w.account(t, "reader", false)
	refuseAll(t, []refusal{
		{outsider, 403, "M_FORBIDDEN", "POST", at("m.read", second), object{}},
		{outsider, 403, "M_FORBIDDEN", "POST", inRoom(room) + "/read_markers", object{"m.read": second}},
		{w.bob, 400, "M_INVALID_PARAM", "POST", at("m.unknown", second), object{}},
		{w.bob, 400, "M_INVALID_PARAM", "POST", at("m.read", second), object{"thread_id": ""}},
		{w.bob, 400, "M_INVALID_PARAM", "POST", at("m.fully_read", second), object{"thread_id": "main"}},
		{w.bob, 400, "M_INVALID_PARAM", "POST", at("m.read", second), object{"thread_id": 1}},
		{w.bob, 400, "M_INVALID_PARAM", "POST", at("m.read", second), object{"thread_id": first}},
		{w.bob, 400, "M_INVALID_PARAM", "POST", at("m.read", reply), object{"thread_id": "main"}},
	})
}

// unread counts, of a room and of its threads, fall with receipts.
func (w *town) unread(t *testing.T) {
	room := w.alice.createRoom(t, object{"preset": "public_chat"})
	w.bob.join(t, room)
	first, second := w.alice.send(t, room, "u1", "one"), w.alice.send(t, room, "u2", "two")
	reply := w.alice.call(t, "PUT", inRoom(room)+"/send/m.room.message/u3", object{"msgtype": "m.text", "body": "in a thread",
		"m.relates_to": object{"rel_type": "m.thread", "event_id": first}}).str("event_id")
	counts := func(filter string) (all, thread any) {
		body := w.bob.call(t, "GET", "/sync?filter="+url.QueryEscape(filter), nil).body
		return joinedRoom(body, room, "unread_notifications", "notification_count"),
			joinedRoom(body, room, "unread_thread_notifications", first, "notification_count")
	}
	are := func(what string, whole, main, thread any) {
		t.Helper()
		until(t, what, func() bool {
			all, none := counts(`{}`)
			rest, one := counts(`{"room":{"timeline":{"unread_thread_notifications":true}}}`)
			return all == whole && none == nil && rest == main && one == thread
		})
	}
	at := func(typ, event string) string { return inRoom(room) + "/receipt/" + typ + "/" + url.PathEscape(event) }
	are("nothing is read", 3.0, 2.0, 1.0)
	w.bob.call(t, "POST", at("m.read", first), object{"thread_id": "main"})
	are("one is read", 2.0, 1.0, 1.0)
	w.bob.call(t, "POST", at("m.read.private", reply), object{"thread_id": first})
	are("the thread is read", 1.0, 1.0, nil)
	w.bob.call(t, "POST", at("m.read", second), object{})
	are("all is read", 0.0, 0.0, nil)
}
