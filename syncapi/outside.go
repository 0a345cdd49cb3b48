package syncapi

import (
	"context"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/gomatrixserverlib"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

// strippedTypes are the state events that tell an invited user what the room is.
// spec: client-server-api §stripped-state
func strippedTypes() []string {
	return []string{"m.room.create", "m.room.name", "m.room.avatar", "m.room.topic", "m.room.join_rules", "m.room.canonical_alias", "m.room.encryption"}
}

// appendInvite appends a room that the user is invited to.
func (a *answer) appendInvite(ctx context.Context, body []byte, p *part) ([]byte, error) {
	return a.appendStripped(ctx, body, p, "invite_state")
}

// appendKnock appends a room that the user has knocked on.
func (a *answer) appendKnock(ctx context.Context, body []byte, p *part) ([]byte, error) {
	return a.appendStripped(ctx, body, p, "knock_state")
}

func (a *answer) appendStripped(ctx context.Context, body []byte, p *part, name string) ([]byte, error) {
	events := jsontext.Value(p.now.Stripped)
	if len(events) == 0 {
		var err error
		if events, err = a.strippedState(ctx, p); err != nil {
			return nil, err
		}
	}
	body = append(appendKey(body, p.room.id), '{')
	body = append(appendKey(body, name), `{"events":`...)
	body = append(body, events...)
	return append(body, `}}`...), nil
}

// strippedState is the stripped state of a room of ours, with the member
// events of the user and of who invited.
func (a *answer) strippedState(ctx context.Context, p *part) (jsontext.Value, error) {
	var keys []gomatrixserverlib.StateKey
	for _, typ := range strippedTypes() {
		keys = append(keys, gomatrixserverlib.StateKey{Type: typ})
	}
	keys = append(keys, gomatrixserverlib.StateKey{Type: typeMember, StateKey: a.u.id})
	if p.now.Sender != "" && p.now.Sender != a.u.id && p.now.Membership == "invite" {
		keys = append(keys, gomatrixserverlib.StateKey{Type: typeMember, StateKey: p.now.Sender})
	}
	res, err := roomapi.QueryState.Call(ctx, a.s.caller, &roomapi.StateRequest{RoomID: p.room.id, Keys: keys})
	if err != nil {
		return nil, err
	}
	out := []byte{'['}
	for _, ev := range res.Events {
		out = ev.AppendClient(comma(out), gomatrixserverlib.ClientFormat{Stripped: true})
	}
	return append(out, ']'), nil
}

// appendLeft appends a room that the user has left or was banned from, as it
// was until then.
func (a *answer) appendLeft(ctx context.Context, body []byte, p *part) ([]byte, error) {
	t, err := a.timeline(ctx, p)
	if err != nil {
		return nil, err
	}
	if err := a.ownLeave(ctx, p, t); err != nil {
		return nil, err
	}
	state, err := a.leftState(ctx, p, t)
	if err != nil {
		return nil, err
	}
	body = append(appendKey(body, p.room.id), '{')
	if body, err = a.appendHistory(ctx, body, p, t, state); err != nil {
		return nil, err
	}
	if body, err = a.appendRoomAccount(ctx, body, p); err != nil {
		return nil, err
	}
	return append(body, '}'), nil
}

// ownLeave makes sure that the timeline ends with the event by which the user
// left, which tells the client that an invite was rejected or taken back,
// although who was never joined may see nothing of the room.
func (a *answer) ownLeave(ctx context.Context, p *part, t *timeline) error {
	id := p.now.EventID
	if id == "" || slices.ContainsFunc(t.events, func(ev *event) bool { return ev.EventID() == id }) {
		return nil
	}
	found := map[string]*event{id: nil}
	for _, ev := range t.window {
		if ev.Event != nil && ev.EventID() == id {
			found[id] = ev
		}
	}
	if err := a.s.fetch(ctx, p.room.id, found); err != nil {
		return err
	}
	if ev := found[id]; ev != nil && a.wants(ev) {
		t.events = append(t.events, ev)
	}
	return nil
}

// leftState is the state that a user who has left may see: none of a room
// that was never joined.
func (a *answer) leftState(ctx context.Context, p *part, t *timeline) ([]*event, error) {
	for _, c := range p.changes {
		if c.Membership == "join" && c.Seq <= p.upper {
			return a.stateOf(ctx, p, t)
		}
	}
	return nil, nil
}
