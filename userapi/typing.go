package userapi

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/userapi/api"
)

const (
	// maxTyping bounds how long somebody types without saying so again.
	maxTyping = 2 * time.Minute
	// maxTypingRooms bounds the rooms in which somebody types.
	maxTypingRooms = 100_000
	// expireEvery is how often what ran out is looked for.
	expireEvery = time.Second
)

// typing is who types where, until when.
type typing struct {
	mu    sync.Mutex
	rooms map[string]map[string]time.Time
}

func newTyping() *typing { return &typing{rooms: map[string]map[string]time.Time{}} }

// set notes that a user types until then; the zero time ends it. The list is
// that of the room now, and changed tells whether it is another one.
func (t *typing) set(roomID, userID string, until time.Time) (list []string, changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	users := t.rooms[roomID]
	_, before := users[userID]
	switch {
	case until.IsZero():
		delete(users, userID)
	case users == nil && len(t.rooms) >= maxTypingRooms:
		return nil, false
	default:
		if users == nil {
			users = map[string]time.Time{}
			t.rooms[roomID] = users
		}
		users[userID] = until
	}
	if len(users) == 0 {
		delete(t.rooms, roomID)
	}
	return names(users), before != !until.IsZero()
}

// expire ends what ran out, and returns the rooms that changed.
func (t *typing) expire(now time.Time) map[string][]string {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[string][]string{}
	for room, users := range t.rooms {
		before := len(users)
		for user, until := range users {
			if now.After(until) {
				delete(users, user)
			}
		}
		if len(users) != before {
			out[room] = names(users)
		}
		if len(users) == 0 {
			delete(t.rooms, room)
		}
	}
	return out
}

func names(users map[string]time.Time) []string {
	list := make([]string, 0, len(users))
	for user := range users {
		list = append(list, user)
	}
	slices.Sort(list)
	return list
}

func (s *Server) setTyping(ctx context.Context, r *api.SetTypingRequest) (*struct{}, error) {
	var until time.Time
	if r.Typing {
		timeout := time.Duration(min(max(r.TimeoutMS, 0), maxTyping.Milliseconds())) * time.Millisecond
		until = s.now().Add(timeout)
	}
	list, changed := s.typing.set(r.RoomID, r.UserID, until)
	if !changed {
		return &struct{}{}, nil
	}
	return &struct{}{}, s.ephemeral(ctx, r.RoomID, api.Ephemeral{Typing: &api.Typing{RoomID: r.RoomID, UserIDs: list}})
}

// ephemeral publishes a record for who listens now.
func (s *Server) ephemeral(ctx context.Context, key string, e api.Ephemeral) error {
	e.V = 1
	value, err := json.Marshal(&e)
	if err != nil {
		return err
	}
	_, err = s.log.Append(ctx, eventlog.Message{Topic: api.TopicEphemeral,
		Partition: eventlog.PartitionFor(key, api.EphemeralPartitions), Key: []byte(key), Value: value})
	return err
}

// expire ends typing and presence that ran out, until ctx is done.
func (s *Server) expire(ctx context.Context) error {
	ticker := time.NewTicker(expireEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := s.expireNow(ctx); err != nil && ctx.Err() == nil {
			s.logger.WithError(err).Warn("Typing and presence that ran out cannot be told now")
		}
	}
}

// expireNow ends what ran out by now.
func (s *Server) expireNow(ctx context.Context) error {
	var failed error
	for room, list := range s.typing.expire(s.now()) {
		failed = errors.Join(failed, s.ephemeral(ctx, room, api.Ephemeral{Typing: &api.Typing{RoomID: room, UserIDs: list}}))
	}
	for _, p := range s.presence.idle(s.now(), s.ours) {
		failed = errors.Join(failed, s.tell(ctx, p))
	}
	return failed
}
