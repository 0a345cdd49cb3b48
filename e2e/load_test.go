package e2e

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/matrix-org/dendrite/e2e/history"
)

// loadState is the type of state that everybody in a room may set.
const loadState = "org.example.load"

// writer is one person who changes one room, an op after the other.
type writer struct {
	*load
	u          *user
	room, name string
	n          int
	sent       []*sentMessage // not redacted
}

type sentMessage struct {
	op *history.Op
	id string
}

// write makes changes until the load stops.
func (l *load) write(u *user, room, name string) {
	defer l.writers.Done()
	w := &writer{load: l, u: u, room: room, name: name}
	for l.stop.Err() == nil && w.next() {
		wait(l.stop, l.pace)
	}
}

// next makes one change, and tries until it is acknowledged; false when it was
// not.
func (w *writer) next() bool {
	w.n++
	switch {
	case w.n%12 == 4:
		return w.setState(loadState, w.name)
	case w.n%12 == 7:
		return w.redact()
	case w.n%12 == 9 && len(w.sent) > 0:
		return w.send(object{"msgtype": "m.text", "body": "* hello", "m.new_content": object{"msgtype": "m.text", "body": "hello"},
			"m.relates_to": object{"rel_type": "m.replace", "event_id": w.sent[len(w.sent)-1].id}}) != nil
	}
	return w.send(object{"msgtype": "m.text", "body": "hello"}) != nil
}

func (w *writer) path(rest ...any) string {
	return "/rooms/" + url.PathEscape(w.room) + fmt.Sprint(rest...)
}

func (w *writer) nonce() string { return fmt.Sprintf("%s-%d", w.name, w.n) }

// try makes an op's request until it is acknowledged.
func (w *writer) try(op *history.Op, method, path string, body object) *answer {
	return w.persist(w.end, w.u, method, path, body, func(a *answer) {
		if a != nil && a.status == http.StatusOK {
			w.history.Tried(op, true, a.str("event_id"))
			w.acked(a.str("event_id"))
		} else {
			w.history.Tried(op, false, "")
		}
	})
}

// send sends a message, some once more after they were acknowledged.
func (w *writer) send(content object) *answer {
	op := w.history.Begin(w.room, w.u.id, w.nonce())
	content["nonce"] = op.Nonce
	path := w.path("/send/m.room.message/", op.Nonce)
	a := w.try(op, "PUT", path, content)
	if a != nil && w.n%5 == 0 {
		w.try(op, "PUT", path, content)
	}
	if a != nil {
		w.sent = append(w.sent, &sentMessage{op, a.str("event_id")})
	}
	return a
}

// redact takes back the writer's oldest message.
func (w *writer) redact() bool {
	if len(w.sent) == 0 {
		return true
	}
	old := w.sent[0]
	w.sent = w.sent[1:]
	w.history.Redact(old.op)
	op := w.history.Begin(w.room, w.u.id, w.nonce())
	return w.try(op, "PUT", w.path("/redact/", url.PathEscape(old.id), "/", op.Nonce), object{"reason": op.Nonce}) != nil
}

func (w *writer) setState(typ, key string) bool {
	op := w.history.BeginState(w.room, w.u.id, typ+" "+key, w.nonce())
	return w.try(op, "PUT", w.path("/state/", typ, "/", url.PathEscape(key)), object{"nonce": op.Nonce}) != nil
}

// membership joins or leaves.
func (w *writer) membership(what string) bool {
	w.n++
	op := w.history.BeginState(w.room, w.u.id, "m.room.member "+w.u.id, w.nonce())
	return w.try(op, "POST", w.path("/", what), object{"reason": op.Nonce}) != nil
}

// wander joins room after room, changes something, looks back, and leaves; and
// makes rooms of its own.
func (l *load) wander(u *user, name string) {
	defer l.writers.Done()
	for turn := 0; l.stop.Err() == nil; turn++ {
		room := l.rooms[turn%len(l.rooms)]
		made := turn%4 == 3
		if made {
			a := l.persist(l.end, u, "POST", "/createRoom", object{"preset": "public_chat", "name": "made"}, nil)
			if a == nil {
				return
			}
			room = a.str("room_id")
			l.mu.Lock()
			l.more[room] = u
			l.mu.Unlock()
		}
		w := &writer{load: l, u: u, room: room, name: fmt.Sprintf("%s-%d", name, turn)}
		if !made && !w.membership("join") {
			return
		}
		for range 8 {
			if !w.next() {
				return
			}
		}
		if l.persist(l.end, u, "GET", w.path("/messages?dir=b&limit=30"), nil, nil) == nil || (!made && !w.membership("leave")) {
			return
		}
	}
}
