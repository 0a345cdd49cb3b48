package syncapi

import (
	"context"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/gomatrixserverlib"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

// judging tells how an event is to be notified of.
type judging func(ctx context.Context, ev *event) (notify, highlight bool, err error)

// judgeByRules judges by the user's push rules.
func (s *Server) judgeByRules(u *user, r *room) judging {
	rules := u.ruleset()
	in := &surroundings{
		members: func() int64 {
			r.mu.RLock()
			defer r.mu.RUnlock()
			return int64(r.joined)
		},
		displayName: func(ctx context.Context) (string, error) { return s.displayName(ctx, u.id, r.id) },
		mayNotify: func(ctx context.Context, sender, key string) (bool, error) {
			return s.mayNotify(ctx, r.id, sender, key)
		},
	}
	return func(ctx context.Context, ev *event) (bool, bool, error) { return rules.judge(ctx, ev, in) }
}

// ruleset returns the user's push rules, compiled once for each change.
func (u *user) ruleset() *ruleset {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.compiled == nil {
		u.compiled = parseRules(u.rules)
	}
	return u.compiled
}

// displayName is the user's name in the room.
func (s *Server) displayName(ctx context.Context, userID, roomID string) (string, error) {
	res, err := roomapi.QueryState.Call(ctx, s.caller, &roomapi.StateRequest{RoomID: roomID,
		Keys: []gomatrixserverlib.StateKey{{Type: typeMember, StateKey: userID}}})
	if err != nil || len(res.Events) == 0 {
		return "", err
	}
	name, ok := member(res.Events[0].Content(), "displayname")
	if !ok || name.Kind() != '"' {
		return "", nil
	}
	text, err := jsontext.AppendUnquote(nil, name)
	return string(text), err
}

// mayNotify tells whether the sender has the power level for a kind of
// notification, such as room.
func (s *Server) mayNotify(ctx context.Context, roomID, sender, key string) (bool, error) {
	res, err := roomapi.QueryState.Call(ctx, s.caller, &roomapi.StateRequest{RoomID: roomID,
		Keys: []gomatrixserverlib.StateKey{{Type: "m.room.create"}, {Type: "m.room.power_levels"}}})
	if err != nil {
		return false, err
	}
	var create, levels *gomatrixserverlib.Event
	for _, ev := range res.Events {
		if ev.Type() == "m.room.create" {
			create = ev.Event
		} else {
			levels = ev.Event
		}
	}
	if create == nil {
		return false, nil
	}
	p, err := gomatrixserverlib.NewPowerLevels(create.Version(), create, levels)
	if err != nil {
		return false, nil // levels that cannot be read give nobody the power
	}
	return p.UserLevel(sender) >= p.Notification(key), nil
}
