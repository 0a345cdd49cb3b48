package syncapi

import (
	"context"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/matrixerror"
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

// maxStripped bounds the entries of the stripped state of a room of others.
const maxStripped = 200

// outside is what is kept of a membership of a room that we are not in: of an
// invite or a knock the stripped state, a JSON array with the event itself; of
// the end of one the event, as clients see it. "" if there is nothing.
func (t *told) outside() string {
	if t.Membership != "invite" && t.Membership != "knock" {
		if t.ev == nil {
			return ""
		}
		return string(t.ev.AppendClient(nil, gomatrixserverlib.ClientFormat{OmitRoomID: true}))
	}
	var list []jsontext.Value
	if json.Unmarshal(t.StrippedState, &list) != nil {
		list = nil
	}
	out := []byte{'['}
	own := false
	for _, raw := range list[:min(len(list), maxStripped)] {
		var e strippedEvent
		if json.Unmarshal(raw, &e) != nil || e.Type == "" || e.StateKey == nil || e.Sender == "" || e.Content.Kind() != '{' {
			continue // what is no stripped event tells nothing
		}
		pruned, err := json.Marshal(&e)
		if err != nil {
			continue
		}
		out = append(comma(out), pruned...)
		own = own || e.Type == typeMember && *e.StateKey == *t.OutputRecord.StateKey
	}
	if t.ev != nil && !own {
		out = t.ev.AppendClient(comma(out), gomatrixserverlib.ClientFormat{Stripped: true})
	}
	return string(append(out, ']'))
}

// strippedEvent has the members that stripped state events are pruned to.
// spec: client-server-api §stripped-state
type strippedEvent struct {
	Content  jsontext.Value `json:"content"`
	Sender   string         `json:"sender"`
	StateKey *string        `json:"state_key"`
	Type     string         `json:"type"`
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
	if matrixerror.Is(err, "M_NOT_FOUND") {
		return jsontext.Value("[]"), nil // of others, and they told nothing
	}
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
	if p.now.Stripped != "" {
		return a.appendEnded(body, p), nil
	}
	t := &timeline{start: roomapi.Position{Partition: p.room.partition, Seq: p.lower}, lower: p.lower}
	var state []*event
	var err error
	if !p.ended {
		if t, err = a.timeline(ctx, p); err != nil {
			return nil, err
		}
		if state, err = a.stateOf(ctx, p, t); err != nil {
			return nil, err
		}
	}
	if err := a.ownLeave(ctx, p, t); err != nil {
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

// appendEnded appends the end of an invite or a knock of a room that we are not in.
func (a *answer) appendEnded(body []byte, p *part) []byte {
	body = append(appendKey(body, p.room.id), `{"timeline":{"events":[`...)
	if a.filter.Room.Timeline.Wants(typeMember, p.now.Sender) {
		body = append(body, p.now.Stripped...)
	}
	body = append(body, `],"limited":false,"prev_batch":`...)
	body = appendString(body, timelineToken(roomapi.Position{Partition: p.room.partition, Seq: p.lower}))
	return append(body, `}}`...)
}
