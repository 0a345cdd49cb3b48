package pushapi

import (
	"context"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/property"
	"github.com/matrix-org/dendrite/common/pushrules"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
)

// judge judges an event for any number of people. What their rules ask of the room
// is asked once, and only if they do.
type judge struct {
	s       *Server
	subject *pushrules.Subject
	event   *gomatrixserverlib.Event
	joined  int64
	// powers of the sender, by kind of notification.
	powers map[string]bool
}

func (s *Server) newJudge(ev *gomatrixserverlib.Event, rec *roomapi.OutputRecord) *judge {
	return &judge{s: s, subject: pushrules.NewSubject(ev), event: ev, joined: int64(rec.JoinedCount), powers: map[string]bool{}}
}

// of is what a person's rules say of the event.
func (j *judge) of(ctx context.Context, u *person) (*pushrules.Verdict, error) {
	j.s.metrics.judged.Inc()
	return u.rules.set.Judge(ctx, j.subject, &pushrules.Surroundings{
		UserID:      u.id,
		Members:     func(context.Context) (int64, error) { return j.joined, nil },
		DisplayName: func(ctx context.Context) (string, error) { return j.displayName(ctx, u.id) },
		MayNotify:   j.mayNotify,
		Subscription: func(_ context.Context, root string) (pushrules.Subscription, error) {
			return u.threads.of(j.s.people.nameOf(j.event.RoomID(), root)), nil
		},
	})
}

// state asks for entries of the room's current state; a room that is not known has none.
func (j *judge) state(ctx context.Context, keys ...gomatrixserverlib.StateKey) (map[gomatrixserverlib.StateKey]*gomatrixserverlib.Event, error) {
	return j.s.state(ctx, j.event.RoomID(), keys...)
}

func (s *Server) state(ctx context.Context, roomID string, keys ...gomatrixserverlib.StateKey) (map[gomatrixserverlib.StateKey]*gomatrixserverlib.Event, error) {
	res, err := roomapi.QueryState.Call(ctx, s.caller, &roomapi.StateRequest{RoomID: roomID, Keys: keys})
	if matrixerror.Is(err, "M_NOT_FOUND") {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := map[gomatrixserverlib.StateKey]*gomatrixserverlib.Event{}
	for _, e := range res.Events {
		out[e.Key()] = e.Event
	}
	return out, nil
}

// displayName is a user's name in the room.
func (j *judge) displayName(ctx context.Context, userID string) (string, error) {
	key := gomatrixserverlib.StateKey{Type: typeMember, StateKey: userID}
	state, err := j.state(ctx, key)
	return textOf(state[key], "displayname"), err
}

// textOf is a text in the content of an event; "" where there is none.
func textOf(ev *gomatrixserverlib.Event, name string) string {
	if ev == nil {
		return ""
	}
	return property.TextOf(ev.Content(), name)
}

// mayNotify tells whether the sender has the power for a kind of notification.
// spec: client-server-api §push-rules (sender_notification_permission)
func (j *judge) mayNotify(ctx context.Context, sender, kind string) (bool, error) {
	if may, known := j.powers[kind]; known {
		return may, nil
	}
	create, levels := gomatrixserverlib.StateKey{Type: "m.room.create"}, gomatrixserverlib.StateKey{Type: "m.room.power_levels"}
	state, err := j.state(ctx, create, levels)
	if err != nil {
		return false, err
	}
	may := gomatrixserverlib.MayNotify(state[create], state[levels], sender, kind)
	j.powers[kind] = may
	return may, nil
}
