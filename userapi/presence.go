package userapi

import (
	"context"
	"sync"
	"time"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
)

// The presences.
const (
	online      = "online"
	unavailable = "unavailable"
	offline     = "offline"
)

const (
	// awayAfter is the time without any activity after which who is there is
	// unavailable.
	awayAfter = 5 * time.Minute
	// offlineAfter is the time without a report of /sync after which a device is
	// gone: over the longest /sync and the time between two reports.
	offlineAfter = 3 * time.Minute
	// maxPresences bounds the users whose presence is kept, maxReaches the
	// devices of each.
	maxPresences = 100_000
	maxReaches   = 50
	// heardLate is how late a report may come; what seems to be older was sent
	// after a clock was set back.
	heardLate = 10 * time.Second
	// maxStatus bounds status messages, in bytes.
	maxStatus = 2048
)

// presences is the presence of who is not offline, or was not lately.
type presences struct {
	mu    sync.Mutex
	users map[string]*live
}

// live is what makes a user's presence: the devices that sync, what was chosen
// by PUT, and activity.
// spec: client-server-api §presence
type live struct {
	api.Presence // as it was told last, but for LastActiveTS
	devices      map[string]reach
	// chosen is unavailable or offline after the user said so, until the user
	// says otherwise or, if unavailable, is active again.
	chosen string
	// choseTS is when that was, by the clock of who was asked, in milliseconds.
	choseTS int64
	// active is when the user did something last, heard when the user did that
	// or chose a presence.
	active, heard time.Time
}

// reach is a device's last /sync, and the presence that it asked for.
type reach struct {
	presence string
	synced   time.Time
}

func newPresences() *presences { return &presences{users: map[string]*live{}} }

// sync notes that a device syncs. Who begins to, or says online after something
// else, is active by that; who goes on is not.
func (l *live) sync(device, presence string, now time.Time) {
	if presence == "" {
		presence = online
	}
	before, known := l.devices[device]
	if !known && len(l.devices) >= maxReaches {
		return
	}
	l.devices[device] = reach{presence, now}
	switch {
	case presence == online && before.presence != online:
		l.act(now)
	case presence != online && before.presence == online:
		l.heard = time.Time{} // what the device did before counts no more
	}
}

// act notes that the user did something, unless the user hides.
func (l *live) act(now time.Time) {
	hidden := len(l.devices) > 0
	for _, d := range l.devices {
		hidden = hidden && d.presence == offline
	}
	if hidden || l.chosen == offline {
		return
	}
	l.chosen, l.active, l.heard = "", now, now
	l.LastActiveTS = now.UnixMilli()
}

// hear notes what was heard of a device. What was shortly before the user chose a
// presence, and is heard of later, does not undo the choice.
func (l *live) hear(a *api.Activity, now time.Time) {
	chosen := l.chosen
	if a.Syncing {
		l.sync(a.DeviceID, a.Presence, now)
	}
	if a.Active {
		l.act(now)
	}
	if before := l.choseTS - a.TS; before > 0 && before < heardLate.Milliseconds() {
		l.chosen = chosen
	}
}

// choose notes a presence that the user has set, when asked at ts.
func (l *live) choose(presence, status string, now time.Time, ts int64) {
	l.StatusMsg, l.heard, l.chosen, l.choseTS = status, now, presence, ts
	if presence == online {
		l.chosen, l.active, l.LastActiveTS = "", now, now.UnixMilli()
	}
}

// now is the presence at a time. It forgets devices that are gone.
func (l *live) now(now time.Time) string {
	here, idle := now.Sub(l.heard) <= offlineAfter, false
	for id, d := range l.devices {
		switch {
		case now.Sub(d.synced) > offlineAfter:
			delete(l.devices, id)
		case d.presence == online:
			here = true
		case d.presence == unavailable:
			idle = true
		}
	}
	switch {
	case l.chosen == offline, !here && !idle:
		return offline
	case l.chosen == unavailable, !here, now.Sub(l.active) > awayAfter:
		return unavailable
	}
	return online
}

// settle brings what is told up to date; false when that is no news.
func (l *live) settle(now time.Time) bool {
	presence := l.now(now)
	if presence == l.Presence.Presence {
		return false
	}
	l.Presence.Presence, l.CurrentlyActive = presence, presence == online
	return true
}

// update changes what is known of a user, and returns the presence when others
// are to be told. A user who was not known begins as stored.
func (p *presences) update(userID string, stored api.Presence, now time.Time, f func(*live)) *api.Presence {
	p.mu.Lock()
	defer p.mu.Unlock()
	one, known := p.users[userID]
	if !known {
		if len(p.users) >= maxPresences {
			return nil
		}
		stored.UserID = userID
		one = &live{Presence: stored, devices: map[string]reach{}}
		p.users[userID] = one
	}
	status := one.StatusMsg
	f(one)
	if !one.settle(now) && status == one.StatusMsg {
		return nil
	}
	told := one.Presence
	return &told
}

// idle settles everybody, forgets who is gone or not kept here, leaves who may not
// be, and returns what others are to be told.
func (p *presences) idle(now time.Time, keeps func(userID string) (kept, surely bool)) []api.Presence {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []api.Presence
	for id, one := range p.users {
		if kept, surely := keeps(id); !surely {
			if !kept {
				delete(p.users, id)
			}
			continue
		}
		if one.settle(now) {
			out = append(out, one.Presence)
		}
		if one.Presence.Presence == offline && len(one.devices) == 0 && now.Sub(one.heard) > offlineAfter {
			delete(p.users, id)
		}
	}
	return out
}

// current returns the presence of a user of whom something is known.
func (p *presences) current(userID string) (api.Presence, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if one, ok := p.users[userID]; ok {
		return one.Presence, true
	}
	return api.Presence{}, false
}

// ours tells whether this instance keeps a user's presence, or who types in a
// room: who publishes the changes of that partition does.
func (s *Server) ours(id string) bool {
	_, surely := s.keeps(id)
	return surely
}

// keeps tells whether this instance keeps them as far as it knows, and whether that
// is sure: a lease that could not be renewed in time may still be, and then nobody
// takes up again what it was for.
func (s *Server) keeps(id string) (kept, surely bool) {
	if s.sole {
		return true, true
	}
	return s.leases.Kept(eventlog.PartitionFor(id, s.output.Partitions))
}

// recall takes up who typed in the rooms of a partition, and the users of it who
// were not offline when it was kept last: they are, unless they are heard of
// again.
func (s *Server) recall(ctx context.Context, partition int) error {
	s.typing.takeOver(func(room string) bool { return eventlog.PartitionFor(room, s.output.Partitions) == partition })
	if s.noPresence {
		return nil
	}
	list, err := s.db.Present(ctx, maxPresences)
	if err != nil {
		return err
	}
	now := s.now()
	for _, stored := range list {
		if eventlog.PartitionFor(stored.UserID, s.output.Partitions) != partition {
			continue
		}
		told := s.presence.update(stored.UserID, stored, now, func(l *live) {
			if !l.heard.IsZero() || len(l.devices) > 0 {
				return // known better already
			}
			l.active, l.heard = time.UnixMilli(l.LastActiveTS), now
			if stored.Presence == unavailable {
				l.chosen = unavailable
			}
		})
		if told != nil {
			if err := s.tell(ctx, *told); err != nil {
				return err
			}
		}
	}
	return nil
}

// tell stores a presence and publishes it.
func (s *Server) tell(ctx context.Context, p api.Presence) error {
	err := s.db.Write(ctx, func(tx *sqldb.Tx) error { return s.db.PutPresences(ctx, tx, []api.Presence{p}) })
	if err != nil {
		return err
	}
	_, err = s.ephemeral(ctx, p.UserID, api.Ephemeral{Presence: &p})
	return err
}

// here changes what is known of a user, and tells others if that is news.
func (s *Server) here(ctx context.Context, userID string, f func(*live)) error {
	if s.noPresence {
		return nil
	}
	stored := api.Presence{}
	if _, known := s.presence.current(userID); !known {
		list, err := s.db.Presence(ctx, []string{userID})
		if err != nil {
			return err
		}
		if len(list) > 0 {
			stored = list[0]
		}
	}
	stored.Presence = offline // until it is settled
	told := s.presence.update(userID, stored, s.now(), f)
	if told == nil {
		return nil
	}
	return s.tell(ctx, *told)
}

func (s *Server) setPresence(ctx context.Context, r *api.SetPresenceRequest) (*struct{}, error) {
	switch r.Presence {
	case online, offline, unavailable:
	default:
		return nil, matrixerror.BadJSON("presence is neither online, offline nor unavailable")
	}
	if len(r.StatusMsg) > maxStatus {
		return nil, matrixerror.TooLarge("The status message is longer than %d bytes", maxStatus)
	}
	if s.sole || s.noPresence {
		return &struct{}{}, s.here(ctx, r.UserID, func(l *live) { l.choose(r.Presence, r.StatusMsg, s.now(), s.now().UnixMilli()) })
	}
	return &struct{}{}, s.setElsewhere(ctx, r)
}

const (
	// setTimeout is how long a request that sets a presence waits for who keeps
	// it, setAgain after how long it says it again, setLook how often it looks.
	setTimeout = 5 * time.Second
	setAgain   = time.Second
	setLook    = 5 * time.Millisecond
)

// setElsewhere has a presence set by who keeps it, which may be this instance:
// all go one way, so that they take effect in the order in which they were
// acknowledged, and waits until that is stored, so that whoever asks next gets it
// from any instance.
func (s *Server) setElsewhere(ctx context.Context, r *api.SetPresenceRequest) error {
	id := newToken()
	look := time.NewTicker(setLook)
	defer look.Stop()
	for began, said := time.Now(), (time.Time{}); time.Since(began) < setTimeout; {
		if time.Since(said) > setAgain {
			if err := s.reporter.SetPresence(ctx, s.now().UnixMilli(), r, id); err != nil {
				return err
			}
			said = time.Now()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
		}
		if set, err := s.db.PresenceSet(ctx, r.UserID); err != nil || set == id {
			return err
		}
	}
	return matrixerror.Unavailable(setAgain, "Nobody keeps the presence of this user now")
}

// confirmSet stores that a request has set a user's presence.
func (s *Server) confirmSet(ctx context.Context, userID, id string) error {
	if id == "" || s.noPresence {
		return nil
	}
	now, known := s.presence.current(userID)
	if !known {
		now = api.Presence{UserID: userID, Presence: offline}
	}
	return s.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := s.db.PutPresences(ctx, tx, []api.Presence{now}); err != nil {
			return err
		}
		return s.db.ConfirmPresence(ctx, tx, userID, id)
	})
}

func (s *Server) queryPresence(ctx context.Context, r *api.PresenceRequest) (*api.PresenceResponse, error) {
	list, err := s.db.Presence(ctx, r.UserIDs)
	if err != nil {
		return nil, err
	}
	for i := range list {
		if now, ok := s.presence.current(list[i].UserID); ok {
			list[i] = now
		} else if s.noPresence || s.ours(list[i].UserID) {
			list[i].Presence = offline
		} else {
			list[i].CurrentlyActive = list[i].Presence == online
		}
	}
	return &api.PresenceResponse{Presence: list}, nil
}
