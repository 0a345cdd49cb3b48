package syncapi

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

// slow lets something happen after the room server has answered and before the
// answer arrives.
type slow struct {
	rpc.Caller
	method string
	then   func()
}

func (c *slow) Invoke(ctx context.Context, call rpc.Call) (any, error) {
	res, err := c.Caller.Invoke(ctx, call)
	if then := c.then; then != nil && call.Service == roomapi.Service && call.Method == c.method {
		c.then = nil
		then()
	}
	return res, err
}

// TestOvertakenAnswers: an answer that a record has overtaken is not kept as if it
// were of now, and what is kept follows all records.
func TestOvertakenAnswers(t *testing.T) {
	const room = "!a:test"
	happen := map[string]func(k *keepers, gap *event, topic string){
		"nothing": func(*keepers, *event, string) {},
		"an older event is redacted": func(k *keepers, _ *event, _ string) {
			k.redact(room, k.order[room][len(k.order[room])-90])
		},
		"a state event is redacted": func(k *keepers, _ *event, topic string) { k.redact(room, topic) },
		"the state changes":         func(k *keepers, _ *event, _ string) { k.topic(room, "new") },
		"a resolution": func(k *keepers, _ *event, _ string) {
			k.tell(roomapi.OutputRecord{Kind: roomapi.OutputState, RoomID: room}, nil, true, k.build(topicIn(room, "resolved")))
		},
		"a gap is filled": func(k *keepers, gap *event, _ string) {
			place := gap.Position
			place.Sub--
			k.tell(roomapi.OutputRecord{Kind: roomapi.OutputBackfilled, RoomID: room, Place: place}, k.build(messageIn(room)), false)
		},
		"an event is accepted in the past": func(k *keepers, gap *event, _ string) {
			place := gap.Position
			place.Seq += 5
			place.Sub--
			k.tell(roomapi.OutputRecord{Kind: roomapi.OutputUnrejected, RoomID: room, Place: place}, k.build(messageIn(room)), false)
		},
		"another gap": func(k *keepers, _ *event, _ string) {
			gap := k.build(messageIn(room))
			k.tell(roomapi.OutputRecord{Kind: roomapi.OutputEvent, RoomID: room, Limited: true}, gap, false)
			place := gap.Position
			place.Sub--
			k.tell(roomapi.OutputRecord{Kind: roomapi.OutputBackfilled, RoomID: room, Place: place}, k.build(messageIn(room)), false)
		},
		"another asks the same": func(k *keepers, _ *event, _ string) { k.sync(alice, "") },
		"the tail moves on": func(k *keepers, _ *event, _ string) {
			for range 3 * maxTail {
				k.message(room, alice, "x")
			}
		},
	}
	for _, what := range slices.Sorted(maps.Keys(happen)) {
		t.Run(what, func(t *testing.T) {
			m := newModel(t)
			k := &keepers{model: m, random: rand.New(rand.NewPCG(1, 1)), rooms: []string{room}}
			m.create(room, alice, bob)
			gap := m.build(messageIn(room))
			m.tell(roomapi.OutputRecord{Kind: roomapi.OutputEvent, RoomID: room, Limited: true}, gap, false)
			topic := k.topic(room, "old")
			for range 100 {
				m.message(room, alice, "x")
			}
			m.settle()
			k.evict(room)
			c := &slow{Caller: m.s.caller, method: "batch", then: func() {
				happen[what](k, gap, topic)
				m.settle()
			}}
			m.s.caller, m.view.caller = c, c
			m.sync(bob, "") // which finds the room evicted
			if c.then != nil {
				t.Fatal("nothing was asked")
			}
			k.check()
			m.sync(bob, "")
			k.check()
			happen[what](k, gap, topic) // to what is kept now
			m.settle()
			k.check()
			m.sync(alice, "") // who has to count all that is unread
			for range 3 * maxTail {
				m.message(room, alice, "x")
			}
			m.settle()
			k.check()
		})
	}
}

func (k *keepers) redact(room, id string) {
	k.send(sent{room: room, sender: alice, typ: "m.room.redaction", redacts: id, content: `{"redacts":"` + id + `"}`})
}

func (k *keepers) topic(room, text string) string { return k.send(topicIn(room, text)) }

func topicIn(room, text string) sent {
	return sent{room: room, sender: alice, typ: "m.room.topic", key: stateKey(""), content: `{"topic":"` + text + `"}`}
}

func messageIn(room string) sent {
	return sent{room: room, sender: "@r:remote", typ: "m.room.message", content: `{"body":"x"}`}
}

// TestAnswersAheadOfRecords: answers about single entries come from where the room
// server is, which may be ahead of what is applied, each from another position.
func TestAnswersAheadOfRecords(t *testing.T) {
	const room = "!a:test"
	m := newModel(t)
	m.create(room, alice, bob)
	m.settle()
	u, err := m.view.user(t.Context(), bob)
	if err != nil {
		t.Fatal(err)
	}
	defer m.view.release(u)
	m.view.mu.Lock()
	r := m.view.rooms[room]
	m.view.mu.Unlock()
	asked := m.view.seen(r.partition)
	topic, name := gomatrixserverlib.StateKey{Type: "m.room.topic"}, gomatrixserverlib.StateKey{Type: "m.room.name"}
	at := func(ev *event, seq int64) *event {
		ev.Position = roomapi.Position{Partition: r.partition, Seq: seq}
		return ev
	}
	old := at(m.build(topicIn(room, "old")), asked)
	fresh := at(m.build(topicIn(room, "new")), asked+1)
	named := at(m.build(sent{room: room, sender: alice, typ: "m.room.name", key: stateKey(""), content: `{"name":"x"}`}), asked+2)
	keep := func(key gomatrixserverlib.StateKey, seq int64, ev *event) {
		m.view.keepState(r, asked, &roomapi.StateRequest{RoomID: room, Keys: []gomatrixserverlib.StateKey{key}}, seq, stateMap{key: ev})
	}
	// The answers: the name as of two records later, the topic as of now, in this order.
	keep(name, asked+2, named)
	keep(topic, asked, old)
	for _, ev := range []*event{fresh, named} {
		rec := &roomapi.OutputRecord{Kind: roomapi.OutputEvent, Position: ev.Position, RoomID: room, EventID: ev.EventID()}
		r.changeState(&told{OutputRecord: rec, ev: ev, changes: []change{{StateKey: ev.Key(), eventID: ev.EventID(), ev: ev}}})
	}
	state, ok := r.knownState(asked+2, &roomapi.StateRequest{Keys: []gomatrixserverlib.StateKey{topic, name}})
	if !ok || state[topic] != fresh || state[name] != named {
		t.Errorf("%v, %v", state, ok)
	}
}
