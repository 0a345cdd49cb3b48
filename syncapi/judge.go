package syncapi

import (
	"context"

	"github.com/matrix-org/dendrite/common/property"
	"github.com/matrix-org/dendrite/common/pushrules"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
)

// judging tells how an event is to be notified of.
type judging func(ctx context.Context, ev *event) (notify, highlight bool, err error)

// judgeByRules judges by the user's push rules.
func (s *Server) judgeByRules(u *user, r *room) judging {
	rules := u.ruleset()
	in := &pushrules.Surroundings{
		Members: func() int64 {
			r.mu.RLock()
			defer r.mu.RUnlock()
			return int64(r.joined)
		},
		DisplayName: func(ctx context.Context) (string, error) { return s.displayName(ctx, u.id, r) },
		MayNotify: func(ctx context.Context, sender, key string) (bool, error) {
			return s.mayNotify(ctx, r, sender, key)
		},
	}
	return func(ctx context.Context, ev *event) (notify, highlight bool, err error) {
		verdict, err := rules.Judge(ctx, pushrules.NewSubject(ev), in)
		if err != nil {
			return false, false, err
		}
		return verdict.Notify, verdict.Highlight, nil
	}
}

// ruleset returns the user's push rules, compiled once for each change.
func (u *user) ruleset() *pushrules.Ruleset {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.compiled == nil {
		u.compiled = pushrules.Compile(u.rules)
	}
	return u.compiled
}

// displayName is the user's name in the room.
func (s *Server) displayName(ctx context.Context, userID string, r *room) (string, error) {
	key := gomatrixserverlib.StateKey{Type: typeMember, StateKey: userID}
	state, err := s.stateNow(ctx, r, key)
	if err != nil || state[key] == nil {
		return "", err
	}
	name, _ := member(state[key].Content(), "displayname")
	text, _ := property.Text(name)
	return text, nil
}

// mayNotify tells whether the sender has the power level for a kind of
// notification, such as room.
func (s *Server) mayNotify(ctx context.Context, r *room, sender, key string) (bool, error) {
	state, err := s.stateNow(ctx, r, gomatrixserverlib.StateKey{Type: "m.room.create"}, gomatrixserverlib.StateKey{Type: "m.room.power_levels"})
	if err != nil {
		return false, err
	}
	create := state[gomatrixserverlib.StateKey{Type: "m.room.create"}]
	if create == nil {
		return false, nil
	}
	var levels *gomatrixserverlib.Event
	if ev := state[gomatrixserverlib.StateKey{Type: "m.room.power_levels"}]; ev != nil {
		levels = ev.Event
	}
	p, err := gomatrixserverlib.NewPowerLevels(create.Version(), create.Event, levels)
	if err != nil {
		return false, nil // levels that cannot be read give nobody the power
	}
	return p.UserLevel(sender) >= p.Notification(key), nil
}
