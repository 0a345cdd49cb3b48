package userapi

import (
	"context"
	"errors"
	"maps"
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
	// telling is held while a room's list is changed and told, so that the last
	// one told is the last one: by the hash of the room.
	telling [16]sync.Mutex

	mu    sync.Mutex
	rooms map[string]map[string]time.Time
	// heard is what was told last of rooms in which somebody types, whoever
	// keeps them; nil when there is no other instance.
	heard map[string]*api.Typing
	// told are the offsets of what this instance told last of a room, until it
	// has heard that.
	told map[string]int64
}

func newTyping() *typing {
	return &typing{rooms: map[string]map[string]time.Time{}, told: map[string]int64{}}
}

// lock makes the caller the one who tells of a room.
func (t *typing) lock(roomID string) *sync.Mutex {
	mu := &t.telling[eventlog.PartitionFor(roomID, len(t.telling))]
	mu.Lock()
	return mu
}

// hear notes what was told of a room. If this instance keeps the room and another
// has told of it since, its former keeper, that is how the room is: takeOver was
// too early for it.
func (t *typing) hear(told *api.Typing, offset int64, ours bool) {
	defer t.lock(told.RoomID).Unlock() // who tells of it knows the offset then
	t.mu.Lock()
	defer t.mu.Unlock()
	last, own := t.told[told.RoomID]
	if own && offset >= last {
		delete(t.told, told.RoomID)
	}
	switch {
	case len(told.UserIDs) == 0:
		delete(t.heard, told.RoomID)
	case t.heard == nil:
		t.heard = map[string]*api.Typing{told.RoomID: told}
	case len(t.heard) < maxTypingRooms:
		t.heard[told.RoomID] = told
	}
	if ours && (!own || offset > last) {
		t.take(told)
	}
}

// take makes what was told of a room how it is; mu is held.
func (t *typing) take(told *api.Typing) {
	users := map[string]time.Time{}
	for i, user := range told.UserIDs {
		if i < len(told.Until) {
			users[user] = time.UnixMilli(told.Until[i])
		}
	}
	if t.rooms[told.RoomID] = users; len(users) == 0 {
		delete(t.rooms, told.RoomID)
	}
}

// takeOver takes up who typed in rooms that another instance kept.
func (t *typing) takeOver(mine func(roomID string) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for room, told := range t.heard {
		if t.rooms[room] == nil && mine(room) {
			t.take(told)
		}
	}
}

// set notes that a user types until then; the zero time ends it. The list is
// that of the room now, and changed tells whether it is another one.
func (t *typing) set(roomID, userID string, until time.Time) (list *api.Typing, changed bool) {
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
	return listed(roomID, users), before != !until.IsZero()
}

// due lists the rooms in which somebody's time has run out, and forgets those
// that are not kept here; it leaves those that may not be.
func (t *typing) due(now time.Time, keeps func(roomID string) (kept, surely bool)) (out []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for room, users := range t.rooms {
		if kept, surely := keeps(room); !surely {
			if !kept {
				delete(t.rooms, room)
			}
			continue
		}
		for _, until := range users {
			if now.After(until) {
				out = append(out, room)
				break
			}
		}
	}
	return out
}

// expire ends what ran out in a room; nil when that is nothing.
func (t *typing) expire(roomID string, now time.Time) *api.Typing {
	t.mu.Lock()
	defer t.mu.Unlock()
	users := t.rooms[roomID]
	before := len(users)
	for user, until := range users {
		if now.After(until) {
			delete(users, user)
		}
	}
	if len(users) == before {
		return nil
	}
	if len(users) == 0 {
		delete(t.rooms, roomID)
	}
	return listed(roomID, users)
}

func listed(roomID string, users map[string]time.Time) *api.Typing {
	list := &api.Typing{RoomID: roomID, UserIDs: slices.Sorted(maps.Keys(users))}
	if list.UserIDs == nil {
		list.UserIDs = []string{} // not null
	}
	for _, user := range list.UserIDs {
		list.Until = append(list.Until, users[user].UnixMilli())
	}
	return list
}

// setTyping hands what somebody said to who keeps the room. With several
// instances all goes one way, also what this one keeps, so that it takes effect
// in the order in which it was acknowledged.
func (s *Server) setTyping(ctx context.Context, r *api.SetTypingRequest) (*struct{}, error) {
	change := api.TypingChange{RoomID: r.RoomID, UserID: r.UserID}
	if r.Typing {
		change.UntilTS = s.now().UnixMilli() + min(max(r.TimeoutMS, 0), maxTyping.Milliseconds())
	}
	if !s.sole {
		return &struct{}{}, s.reporter.SetTyping(ctx, s.now().UnixMilli(), change)
	}
	return &struct{}{}, s.types(ctx, &change)
}

// types changes who types in a room that this instance keeps, and tells it.
func (s *Server) types(ctx context.Context, c *api.TypingChange) error {
	defer s.typing.lock(c.RoomID).Unlock()
	var until time.Time
	if c.UntilTS != 0 {
		until = time.UnixMilli(c.UntilTS)
	}
	list, changed := s.typing.set(c.RoomID, c.UserID, until)
	if !changed {
		return nil
	}
	return s.tellTyping(ctx, list)
}

// tellTyping tells who types in a room. The caller holds the room's lock.
func (s *Server) tellTyping(ctx context.Context, list *api.Typing) error {
	offset, err := s.ephemeral(ctx, list.RoomID, api.Ephemeral{Typing: list})
	if err != nil || s.sole {
		return err
	}
	s.typing.mu.Lock()
	defer s.typing.mu.Unlock()
	s.typing.told[list.RoomID] = offset
	return nil
}

// ephemeral publishes a record for who listens now, and returns its offset.
func (s *Server) ephemeral(ctx context.Context, key string, e api.Ephemeral) (offset int64, err error) {
	m, err := ephemeral(key, e)
	if err != nil {
		return 0, err
	}
	offsets, err := s.log.Append(ctx, m)
	if err != nil {
		return 0, err
	}
	return offsets[0], nil
}

// ephemeral makes the message of ephemeral that tells e.
func ephemeral(key string, e api.Ephemeral) (eventlog.Message, error) {
	e.V = 1
	value, err := json.Marshal(&e)
	return eventlog.Message{Topic: api.TopicEphemeral,
		Partition: eventlog.PartitionFor(key, api.EphemeralPartitions), Key: []byte(key), Value: value}, err
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

// stopTyping ends what ran out in a room.
func (s *Server) stopTyping(ctx context.Context, room string) error {
	defer s.typing.lock(room).Unlock()
	if list := s.typing.expire(room, s.now()); list != nil {
		return s.tellTyping(ctx, list)
	}
	return nil
}

// expireNow ends what ran out by now.
func (s *Server) expireNow(ctx context.Context) error {
	var failed error
	for _, room := range s.typing.due(s.now(), s.keeps) {
		failed = errors.Join(failed, s.stopTyping(ctx, room))
	}
	for _, p := range s.presence.idle(s.now(), s.keeps) {
		failed = errors.Join(failed, s.tell(ctx, p))
	}
	return failed
}
