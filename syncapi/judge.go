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
		Members: func(context.Context) (int64, error) {
			r.mu.RLock()
			defer r.mu.RUnlock()
			return int64(r.joined), nil
		},
		DisplayName: func(ctx context.Context) (string, error) { return s.displayName(ctx, u.id, r) },
		MayNotify: func(ctx context.Context, sender, key string) (bool, error) {
			return s.mayNotify(ctx, r, sender, key)
		},
		Subscription: func(ctx context.Context, root string) (pushrules.Subscription, error) {
			return s.subscription(ctx, u, threadKey{r.id, root})
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
	state, err := s.stateNow(ctx, r, gomatrixserverlib.StateKey{Type: typeMember, StateKey: userID})
	return state.displayName(userID), err
}

func (state stateMap) displayName(userID string) string {
	ev := state[gomatrixserverlib.StateKey{Type: typeMember, StateKey: userID}]
	if ev == nil {
		return ""
	}
	return property.TextOf(ev.Content(), "displayname")
}

// mayNotify tells whether the sender has the power level for a kind of
// notification, such as room.
func (s *Server) mayNotify(ctx context.Context, r *room, sender, key string) (bool, error) {
	state, err := s.stateNow(ctx, r, powerKeys()...)
	if err != nil {
		return false, err
	}
	return state.mayNotify(sender, key), nil
}

// powerKeys are the entries of the state that say who may do what.
func powerKeys() []gomatrixserverlib.StateKey {
	return []gomatrixserverlib.StateKey{{Type: "m.room.create"}, {Type: "m.room.power_levels"}}
}

// mayNotify decides it by a state that has powerKeys.
func (state stateMap) mayNotify(sender, key string) bool {
	entry := func(typ string) *gomatrixserverlib.Event {
		if ev := state[gomatrixserverlib.StateKey{Type: typ}]; ev != nil {
			return ev.Event
		}
		return nil
	}
	return gomatrixserverlib.MayNotify(entry("m.room.create"), entry("m.room.power_levels"), sender, key)
}
