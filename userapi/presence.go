package userapi

import (
	"context"
	"sync"
	"time"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
)

const (
	// awayAfter is the time without any activity after which who was online is
	// unavailable, and offlineAfter that without /sync after which the user is
	// offline.
	awayAfter    = 5 * time.Minute
	offlineAfter = 2 * time.Minute
	// maxPresences bounds the users whose presence has a timer.
	maxPresences = 100_000
	// maxStatus bounds status messages, in bytes.
	maxStatus = 2048
)

// presences is the presence of who is not offline.
type presences struct {
	mu    sync.Mutex
	users map[string]*live
}

// live is a user who is not offline, and when that user was last heard of.
type live struct {
	api.Presence
	synced time.Time
	active time.Time
}

func newPresences() *presences { return &presences{users: map[string]*live{}} }

// heard notes that a user is there. It returns the new presence when others are
// to be told. Presence "" is what it was, or online.
func (p *presences) heard(userID, presence string, status *string, now time.Time, stored *api.Presence) *api.Presence {
	p.mu.Lock()
	defer p.mu.Unlock()
	one, known := p.users[userID]
	if !known {
		if len(p.users) >= maxPresences {
			return nil
		}
		one = &live{Presence: api.Presence{UserID: userID, Presence: "offline"}}
		if stored != nil {
			one.StatusMsg, one.LastActiveTS = stored.StatusMsg, stored.LastActiveTS
		}
	}
	before := one.Presence
	if presence == "" {
		presence = "online"
	}
	one.Presence.Presence = presence
	if status != nil {
		one.StatusMsg = *status
	}
	one.synced = now
	if presence == "online" {
		one.active = now
		one.LastActiveTS = now.UnixMilli()
	}
	one.CurrentlyActive = presence == "online"
	if presence == "offline" {
		delete(p.users, userID)
	} else {
		p.users[userID] = one
	}
	if known || status != nil || presence != "offline" {
		if before.Presence != one.Presence.Presence || before.StatusMsg != one.StatusMsg || before.CurrentlyActive != one.CurrentlyActive {
			told := one.Presence
			return &told
		}
	}
	return nil
}

// idle changes the presence of who has not been heard of, and returns it.
func (p *presences) idle(now time.Time) []api.Presence {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []api.Presence
	for id, one := range p.users {
		switch {
		case now.Sub(one.synced) > offlineAfter:
			one.Presence.Presence, one.CurrentlyActive = "offline", false
			delete(p.users, id)
		case one.Presence.Presence == "online" && now.Sub(one.active) > awayAfter:
			one.Presence.Presence, one.CurrentlyActive = "unavailable", false
		default:
			continue
		}
		out = append(out, one.Presence)
	}
	return out
}

// current returns the presence of a user who is not offline.
func (p *presences) current(userID string) (api.Presence, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if one, ok := p.users[userID]; ok {
		return one.Presence, true
	}
	return api.Presence{}, false
}

// tell stores a presence and publishes it.
func (s *Server) tell(ctx context.Context, p api.Presence) error {
	if err := s.db.Write(ctx, func(tx *sqldb.Tx) error { return s.db.PutPresence(ctx, tx, p) }); err != nil {
		return err
	}
	return s.ephemeral(ctx, p.UserID, api.Ephemeral{Presence: &p})
}

// here notes that a user is there, and tells others if that is news.
func (s *Server) here(ctx context.Context, userID, presence string, status *string) error {
	if s.noPresence {
		return nil
	}
	var stored *api.Presence
	if _, known := s.presence.current(userID); !known {
		list, err := s.db.Presence(ctx, []string{userID})
		if err != nil {
			return err
		}
		if len(list) > 0 {
			stored = &list[0]
		}
	}
	told := s.presence.heard(userID, presence, status, s.now(), stored)
	if told == nil {
		return nil
	}
	return s.tell(ctx, *told)
}

func (s *Server) setPresence(ctx context.Context, r *api.SetPresenceRequest) (*struct{}, error) {
	switch r.Presence {
	case "online", "offline", "unavailable":
	default:
		return nil, matrixerror.BadJSON("presence is neither online, offline nor unavailable")
	}
	if r.StatusMsg != nil && len(*r.StatusMsg) > maxStatus {
		return nil, matrixerror.TooLarge("The status message is longer than %d bytes", maxStatus)
	}
	status := r.StatusMsg
	if status == nil {
		status = new(string)
	}
	return &struct{}{}, s.here(ctx, r.UserID, r.Presence, status)
}

func (s *Server) queryPresence(ctx context.Context, r *api.PresenceRequest) (*api.PresenceResponse, error) {
	list, err := s.db.Presence(ctx, r.UserIDs)
	if err != nil {
		return nil, err
	}
	for i := range list {
		if now, ok := s.presence.current(list[i].UserID); ok {
			list[i] = now
		} else {
			list[i].Presence = "offline" // whatever it was before a restart
		}
	}
	return &api.PresenceResponse{Presence: list}, nil
}
