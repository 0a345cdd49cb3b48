package pushapi

import (
	"context"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/property"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/pushapi/storage"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	syncapi "github.com/matrix-org/dendrite/syncapi/api"
)

// notification is what a gateway is told.
// spec: push-gateway-api §post_matrixpushv1notify
type notification struct {
	EventID           string         `json:"event_id,omitzero"`
	RoomID            string         `json:"room_id,omitzero"`
	Type              string         `json:"type,omitzero"`
	Sender            string         `json:"sender,omitzero"`
	SenderDisplayName string         `json:"sender_display_name,omitzero"`
	RoomName          string         `json:"room_name,omitzero"`
	RoomAlias         string         `json:"room_alias,omitzero"`
	UserIsTarget      bool           `json:"user_is_target,omitzero"`
	Prio              string         `json:"prio"`
	Content           jsontext.Value `json:"content,omitzero"`
	Counts            *counts        `json:"counts,omitzero"`
	Devices           []device       `json:"devices"`
}

// counts leave out what is zero.
type counts struct {
	Unread      int `json:"unread,omitzero"`
	MissedCalls int `json:"missed_calls,omitzero"`
}

type device struct {
	AppID     string         `json:"app_id"`
	Pushkey   string         `json:"pushkey"`
	PushkeyTS int64          `json:"pushkey_ts"` // seconds
	Data      jsontext.Value `json:"data"`
	Tweaks    jsontext.Value `json:"tweaks,omitzero"`
}

// device is who the gateway is to reach, with the tweaks of a rule.
func (v *visit) device(tweaks string) device {
	d := device{AppID: v.pusher.AppID, Pushkey: v.pusher.Pushkey, PushkeyTS: v.pusher.SetTS / 1000, Data: jsontext.Value("{}")}
	if tweaks != "" {
		d.Tweaks = jsontext.Value(tweaks)
	}
	var data map[string]jsontext.Value
	if json.Unmarshal(v.pusher.Data, &data) == nil {
		delete(data, "url")
		if rest, err := json.Marshal(data, json.Deterministic(true)); err == nil {
			d.Data = rest
		}
	}
	return d
}

// counts are what the gateway is told to be unread; nil where the pusher asks for
// none.
// spec: MSC4076
func (v *visit) counts(unread *syncapi.UnreadResponse) *counts {
	if off, _ := property.Member(v.pusher.Data, "org.matrix.msc4076.disable_badge_count"); string(off) == "true" {
		return nil
	}
	return &counts{Unread: unread.Notifications, MissedCalls: unread.MissedCalls}
}

// unread asks what is unread, as of an event and of what the user was known to have
// read.
func (v *visit) unread(ctx context.Context, n *storage.News, readSeq int64) (*syncapi.UnreadResponse, error) {
	req := &syncapi.UnreadRequest{UserID: v.userID, UserSeq: readSeq}
	if n != nil {
		req.RoomID, req.EventID, req.Position = n.RoomID, n.EventID, roomapi.Position{Partition: n.Partition, Seq: n.Seq}
	}
	return syncapi.QueryUnread.Call(ctx, v.s.caller, req)
}

// compose makes what a gateway is told of an event, with the counts as they are to
// be remembered. It is nil where there is nothing to be told any more: the event was
// redacted, or the user has read it meanwhile, or may not see it.
func (v *visit) compose(ctx context.Context, n *storage.News, readSeq int64) (note *notification, badge string, err error) {
	ev, err := v.event(ctx, n)
	if err != nil || ev == nil {
		return nil, "", err
	}
	unread, err := v.unread(ctx, n, readSeq)
	if err != nil || unread.Read {
		return nil, "", err
	}
	note = &notification{EventID: n.EventID, RoomID: n.RoomID, Prio: prioOf(ev, n.Tweaks), Counts: v.counts(unread), Devices: []device{v.device(n.Tweaks)}}
	told, err := json.Marshal(note.Counts)
	if err != nil {
		return nil, "", err
	}
	if format, _ := property.Member(v.pusher.Data, "format"); string(format) == `"event_id_only"` {
		return note, string(told), nil
	}
	note.Type, note.Sender, note.Content = ev.Type(), ev.Sender(), ev.Content()
	note.UserIsTarget = ev.Type() == typeMember && ev.StateKeyEquals(v.userID)
	name, alias, sender := gomatrixserverlib.StateKey{Type: "m.room.name"}, gomatrixserverlib.StateKey{Type: "m.room.canonical_alias"},
		gomatrixserverlib.StateKey{Type: typeMember, StateKey: ev.Sender()}
	state, err := v.s.state(ctx, n.RoomID, name, alias, sender)
	note.RoomName, note.RoomAlias, note.SenderDisplayName = textOf(state[name], "name"), textOf(state[alias], "alias"), textOf(state[sender], "displayname")
	return note, string(told), err
}

// event finds an event as the user may see it; nil where it may not, or there is
// none left.
func (v *visit) event(ctx context.Context, n *storage.News) (*gomatrixserverlib.Event, error) {
	if n.Event != "" { // of a room that the room server has no events of
		return gomatrixserverlib.ParseStoredEvent([]byte(n.Event), gomatrixserverlib.RoomVersion(n.Version), n.EventID)
	}
	req := &roomapi.EventsRequest{RoomID: n.RoomID, EventIDs: []string{n.EventID}, Viewer: v.userID}
	res, err := roomapi.QueryEvents.Call(ctx, v.s.caller, req)
	if err == nil && len(res.Events) == 0 { // an invite says what may be seen of it
		req.Viewer = ""
		if res, err = roomapi.QueryEvents.Call(ctx, v.s.caller, req); err == nil && len(res.Events) == 1 {
			if e := res.Events[0]; e.Type() != typeMember || !e.StateKeyEquals(v.userID) || e.Membership() != "invite" {
				return nil, nil
			}
		}
	}
	if matrixerror.Is(err, "M_NOT_FOUND") {
		return nil, nil
	}
	if err != nil || len(res.Events) == 0 || res.Events[0].RedactedBy != "" {
		return nil, err
	}
	return res.Events[0].Event, nil
}

// prioOf is how much an event presses: what makes a sound or is emphasised does, and
// so may what nobody here can read.
func prioOf(ev *gomatrixserverlib.Event, tweaks string) string {
	_, sound := property.Member(jsontext.Value(tweaks), "sound")
	highlight, _ := property.Member(jsontext.Value(tweaks), "highlight")
	if sound || string(highlight) == "true" || ev.Type() == "m.room.encrypted" {
		return "high"
	}
	return "low"
}
