package clientapi

import (
	"fmt"
	"net/url"
	"testing"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
)

func TestThreadSubscriptions(t *testing.T) { sqldbtest.Each(t, testThreadSubscriptions) }

func testThreadSubscriptions(t *testing.T) {
	w := newFullWorld(t, Deps{})
	w.register(false, "alice", "bob", "carol")
	room := w.create("alice", `{"preset":"public_chat"}`)
	w.must("bob", "POST", "/rooms/"+room+"/join", `{}`)
	n := 0
	send := func(relates string) string {
		t.Helper()
		n++
		return w.must("alice", "PUT", fmt.Sprintf("/rooms/%s/send/m.room.message/%d", room, n), `{"body":"x"`+relates+`}`).body["event_id"].(string)
	}
	to := func(typ, id string) string {
		return `,"m.new_content":{},"m.relates_to":{"rel_type":"` + typ + `","event_id":"` + id + `"}`
	}
	root := send("")
	at := func(root string) string {
		return unstable + "/io.element.msc4306/rooms/" + room + "/thread/" + url.PathEscape(root) + "/subscription"
	}
	const notInThread, conflict = "400 IO.ELEMENT.MSC4306.M_NOT_IN_THREAD", "409 IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION"
	is := func(automatic any) {
		t.Helper()
		if got := w.do("bob", "GET", at(root), "").body["automatic"]; got != automatic {
			t.Errorf("the subscription is automatic: %v, not %v", got, automatic)
		}
	}
	is(nil)
	w.must("bob", "PUT", at(root), `{}`) // nobody has said anything in it yet
	is(false)
	w.must("bob", "DELETE", at(root), "")
	w.must("bob", "DELETE", at(root), "")
	is(nil)
	old := send(to("m.thread", root))
	w.must("bob", "PUT", at(root), `{"automatic":"`+old+`"}`)
	is(true)
	w.must("bob", "PUT", at(root), "")
	is(false)
	w.must("bob", "DELETE", at(root), "")
	w.expect(conflict, "bob", "PUT", at(root), `{"automatic":"`+old+`"}`)
	edit := send(to("m.replace", old))
	w.must("bob", "PUT", at(root), `{"automatic":"`+edit+`"}`)
	is(true)

	other, elsewhere := send(""), w.create("alice", `{}`)
	for _, id := range []string{root, other, "$nothing", "no ID", send(to("m.thread", other))} {
		w.expect(notInThread, "bob", "PUT", at(root), `{"automatic":"`+id+`"}`)
	}
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		for _, id := range []string{"$nothing", "nothing", old} {
			w.expect("404 M_NOT_FOUND", "bob", method, at(id), `{}`)
		}
		w.expect("404 M_NOT_FOUND", "carol", method, at(root), `{}`)
		w.expect("404 M_NOT_FOUND", "bob", method, unstable+"/io.element.msc4306/rooms/"+elsewhere+"/thread/"+url.PathEscape(root)+"/subscription", `{}`)
	}
	w.expect("400 M_BAD_JSON", "bob", "PUT", at(root), `{"automatic":true}`)
	w.restart()
	is(true)

	rules := w.must("bob", "GET", "/pushrules/global/postcontent/.io.element.msc4306.rule.subscribed_thread", "")
	if rules.body["enabled"] != true {
		t.Errorf("the rule is %v", rules.raw)
	}
	w.must("bob", "PUT", "/pushrules/global/postcontent/.io.element.msc4306.rule.subscribed_thread/enabled", `{"enabled":false}`)
	w.expect("400 M_INVALID_PARAM", "bob", "PUT", "/pushrules/global/postcontent/mine", `{"actions":[],"conditions":[]}`)
}

// TestNoThreadSubscriptions: where they are off, nothing of them is there.
func TestNoThreadSubscriptions(t *testing.T) {
	w := newFullWorld(t, Deps{Config: config.ClientAPI{ThreadSubscriptions: config.ThreadSubscriptions{Disabled: true}}})
	w.register(false, "alice")
	w.expect("404 M_UNRECOGNIZED", "alice", "GET", unstable+"/io.element.msc4306/rooms/!r:test/thread/$e/subscription", "")
	w.expect("404 M_NOT_FOUND", "alice", "GET", "/pushrules/global/postcontent/.io.element.msc4306.rule.subscribed_thread", "")
	features := w.must("alice", "GET", "/_matrix/client/versions", "").body["unstable_features"].(map[string]any)
	if features["org.matrix.msc4306"] != false {
		t.Errorf("they are told of: %v", features)
	}
}
